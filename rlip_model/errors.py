"""Errors of the network's inputs."""


class CheckpointError(ValueError):
    """A checkpoint, weight file or configuration that cannot be used; one sentence with the file and the remedy."""
