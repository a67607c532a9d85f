"""Errors that a user can act on. Each message names the file, the row where there is one, and the remedy."""


class RlipError(Exception):
    """Base of all errors that the command line prints as one sentence, without a traceback."""


class ParameterError(RlipError):
    """A profile, parameter or option that does not exist or has a wrong value."""


class InputError(RlipError):
    """A file or folder that is missing, truncated or not what its name promises."""


class DataError(RlipError):
    """A row or value inside a readable file that breaks the rules of its format."""


class BusyError(RlipError):
    """A resource (port, lock, folder) that another process holds."""
