"""The network: configuration, forward pass, matching, losses, inference and checkpoints."""
