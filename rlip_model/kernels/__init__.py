"""Deformable attention in PyTorch and Triton, and what saves memory or time."""
