"""Errors of the network's inputs."""


class CheckpointError(ValueError):
    """A checkpoint, weight file or configuration that cannot be used: one line with the file and the remedy.

    Names in it may be a stranger's: characters that steer a terminal become question marks.
    """

    def __init__(self, sentence: str) -> None:
        super().__init__("".join(letter if letter.isprintable() else "?" for letter in sentence[:2000]))
