"""Errors that a user can act on. Each message names the file, the row where there is one, and the remedy."""

from __future__ import annotations

import errno
import re
import sqlite3
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from rlip_model.errors import CheckpointError


class RlipError(Exception):
    """Base of all errors that the command line prints as one sentence, without a traceback."""


class ParameterError(RlipError):
    """A profile, parameter or option that does not exist or has a wrong value."""


class InputError(RlipError):
    """A file or folder that is missing, truncated or not what its name promises."""


class DataError(RlipError):
    """A row or value inside a readable file that breaks the rules of its format."""


class TransientError(RlipError):
    """A lost worker, a lock, a store that is away: the same command may succeed a while later."""


class BusyError(TransientError):
    """A resource (port, lock, folder) that another process holds."""


class UnavailableError(InputError, TransientError):
    """A store or service that does not answer."""


TRY_AGAIN = 75
"""Exit status after a `TransientError` (EX_TEMPFAIL of sysexits.h); schedulers may try again."""


_NO_ROOM = "make room and run this again, finished work is kept"
_NOT_WRITABLE = "make it writable for this user, or work in a copy of the project that is"
_DISK = (errno.EIO, errno.EREMOTEIO, errno.ENXIO, errno.ENODEV, errno.EUCLEAN, errno.EBADMSG)
_AWAY = (
    errno.ESTALE,
    errno.ENOTCONN,
    errno.ESHUTDOWN,
    errno.ETIMEDOUT,
    errno.EHOSTDOWN,
    errno.ENOLINK,
    errno.ENOKEY,
    errno.EKEYEXPIRED,
    errno.EKEYREVOKED,
)
_NETWORK = (
    errno.ECONNREFUSED,
    errno.ECONNRESET,
    errno.ECONNABORTED,
    errno.ENETDOWN,
    errno.ENETUNREACH,
    errno.ENETRESET,
    errno.EHOSTUNREACH,
)
_REMEDIES = {
    errno.ENOSPC: _NO_ROOM,
    errno.EDQUOT: _NO_ROOM,
    errno.EROFS: _NOT_WRITABLE,
    errno.EACCES: "give this user permission, or name another path",
    errno.EPERM: "give this user permission, or name another path",
    errno.ENOENT: "correct the path or restore the file",
    errno.EISDIR: "name a file, not a folder",
    errno.ENOTDIR: "a folder of this path is a file: name another path or remove that file",
    errno.EEXIST: "name another path or remove what is there",
    errno.ENOTEMPTY: "name another path or remove what is there",
    errno.ENAMETOOLONG: "choose a shorter name",
    errno.ELOOP: "remove the symbolic link that leads to itself",
    errno.EXDEV: "keep `work` and what stages write on one file system",
    errno.EMFILE: "raise the limit of open files (`ulimit -n`)",
    errno.ENFILE: "close programs that hold many files open",
    errno.ENOMEM: "free memory, or use smaller batches or fewer workers",
    errno.ENOBUFS: "free memory, or use smaller batches or fewer workers",
    **dict.fromkeys(_DISK, "check the disk; if this file alone is lost, remove it to leave it out"),
    **dict.fromkeys(_AWAY, "mount the network file system again"),
    **dict.fromkeys(_NETWORK, "bring the network back and run this again"),
}
OF_THE_MACHINE = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOBUFS, *_DISK, *_AWAY, *_NETWORK})
"""Failures to read a file that say nothing about the file: it is not taken for a bad one."""
_RUST_CODE = re.compile(r"\(os error (\d+)\)")
"""The number of an error that a library in Rust names in its text alone."""
_SQLITE_REMEDIES = {
    "full": _NO_ROOM,
    "readonly": _NOT_WRITABLE,
    "unable to open": _NOT_WRITABLE,
    "locked": "end the other process that writes to it and run this again",
    "disk I/O": "check the disk",
}


def explain(error: BaseException) -> str | None:
    """Return one sentence for a failure of the file system or its cause (path, reason, remedy), None for any other error."""
    if not isinstance(error, OSError | sqlite3.OperationalError):
        return explain(error.__cause__) if error.__cause__ else None
    if isinstance(error, sqlite3.OperationalError):
        remedy = next((remedy for part, remedy in _SQLITE_REMEDIES.items() if part in str(error)), None)
        return remedy and f"a database cannot be used ({error}); {remedy}"
    told = _RUST_CODE.search(str(error))
    code = int(told[1]) if told and error.errno is None else error.errno
    if code not in _REMEDIES:
        return None
    path = f"{error.filename}: " if error.filename is not None else ""
    return f"{path}{error.strerror or error}; {_REMEDIES[code]}"


@contextmanager
def exit_with_sentence() -> Iterator[None]:
    """End the process with one sentence on standard error: status 1 for an error that the user can act on, 75 for one that
    may pass by itself, 130 for an interruption."""
    try:
        yield
    except KeyboardInterrupt:
        _exit("interrupted; finished work is kept, the same command resumes it", 130)
    except BrokenPipeError:
        sys.exit(1)
    except (RlipError, CheckpointError) as error:
        _exit(str(error), TRY_AGAIN if isinstance(error, TransientError) else 1)
    except Exception as error:
        sentence = explain(error)
        if sentence is None:
            raise
        _exit(sentence, 1)


def _exit(sentence: str, status: int) -> None:
    print(f"rlip: {sentence}", file=sys.stderr)
    sys.exit(status)
