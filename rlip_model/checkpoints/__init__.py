"""Checkpoints: write, read, import from the official layout."""
