"""Readers of predictions and annotations in the formats in common use."""
