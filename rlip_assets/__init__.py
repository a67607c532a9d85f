"""The stages of the lineage: plain functions from artifacts to artifacts, their data formats, training and evaluation."""
