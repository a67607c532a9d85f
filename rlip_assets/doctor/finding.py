"""One row of the table: what was looked at, what was found, and the remedy."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import StrEnum

from rlip_assets.storage.errors import RlipError, explain
from rlip_model.errors import CheckpointError


class Level(StrEnum):
    """Severity of a finding; a failure makes the exit status 1."""

    FAILED = "FAILED"
    WARNING = "warning"
    SKIPPED = "skipped"
    OK = "ok"


@dataclass(frozen=True)
class Finding:
    """Attributes:
    subject: file, dataset, package or service that was looked at.
    message: what was found.
    remedy: what to do; empty where there is nothing to do.
    """

    level: Level
    subject: str
    message: str
    remedy: str = ""


def ok(subject: str, message: str) -> Finding:
    """Return a finding that is as it should be."""
    return Finding(Level.OK, subject, message)


def failed(subject: str, message: str, remedy: str) -> Finding:
    """Return a finding that would stop a stage."""
    return Finding(Level.FAILED, subject, message, remedy)


def warning(subject: str, message: str, remedy: str) -> Finding:
    """Return a finding that stops nothing and changes results."""
    return Finding(Level.WARNING, subject, message, remedy)


def skipped(subject: str, message: str, remedy: str = "") -> Finding:
    """Return something that was not looked at, and why."""
    return Finding(Level.SKIPPED, subject, message, remedy)


def fault(subject: str, error: BaseException) -> Finding:
    """Return an error as a failure. Sentences of the project end with their remedy, behind the last semicolon or colon."""
    known = isinstance(error, RlipError | CheckpointError)
    sentence = str(error) if known else explain(error)
    if sentence is None:
        return failed(subject, f"{type(error).__name__}: {error}", "the check itself failed: report this")
    for mark in ("; ", ": "):
        message, found, remedy = sentence.rpartition(mark)
        if found and remedy.count(")") == remedy.count("("):
            return failed(subject, message, remedy)
    return failed(subject, sentence, "correct what it names")


def guarded(subject: str, look: Callable[[], Iterator[Finding]]) -> Iterator[Finding]:
    """Yield the findings of `look`; whatever it raises becomes its last finding."""
    try:
        yield from look()
    except Exception as error:  # the table must go on, whatever one check trips over
        yield fault(subject, error)
