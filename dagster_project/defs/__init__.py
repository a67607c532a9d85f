"""The stages as assets, and their automation."""
