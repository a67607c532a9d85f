"""Stages of the lineage: their registry, their parameters, and the runner."""
