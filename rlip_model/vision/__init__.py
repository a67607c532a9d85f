"""Backbones: ResNet and Swin."""
