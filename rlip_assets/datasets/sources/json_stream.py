"""Rows of the arrays of a JSON file, one at a time, whatever the size of the file.

Python's own scanner decodes row after row from a sliding window of text. It takes what tools write beyond the standard: NaN, infinities,
integers of any size and a byte order mark. (ijson is slower and stops at each of them, and a row of 100,000 levels costs it 25 GB.)
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import count
from json import JSONDecodeError, JSONDecoder
from pathlib import Path
from typing import Any, TextIO

from rlip_assets.storage.errors import InputError

_WINDOW = 1 << 17
_TOKEN = 12
"""Longer than any literal or escape: an error nearer to the end of the window may come from the cut alone."""
_decode = JSONDecoder().raw_decode
_SPACE = re.compile(r"[ \t\n\r]*")
_BRACKET = re.compile(r'"(?:[^"\\]|\\.)*+"|[][{}"]', re.DOTALL)
_SCALAR_END = re.compile(r"[],}\s]")
_KINDS = {"{": "an object", "[": "a list", '"': "a text", "n": "null"}


class Undecodable(str):
    """Stands for a row that is JSON but cannot be decoded; the text says why."""


def stream_rows(path: Path, array: str = "") -> Iterator[tuple[int, Any]]:
    """Yield (row number from 0, row) of one array of a JSON file; see `stream_arrays`."""
    return ((number, row) for _, number, row in stream_arrays(path, array))


def stream_arrays(path: Path, *arrays: str, optional: str = "") -> Iterator[tuple[str, int, Any]]:
    """Yield (array, row number from 0, row) of some arrays of a JSON file, in the order of the file.

    Args:
        arrays: keys of the file's top-level object, or "" alone for a file that is itself an array.
        optional: the one of them that may be absent.

    Raises:
        InputError: the file is missing, empty, ends too early, is not JSON or not UTF-8, or lacks an array; the sentence names the array
            and the row.
    """
    found: list[str] = []
    try:
        with path.open(encoding="utf-8-sig", newline="") as stream:
            window = _Window(path, stream)
            if arrays == ("",):
                yield from (("", *row) for row in window.rows(""))
            else:
                for key in window.keys(arrays):
                    found.append(key)
                    if key in arrays:
                        yield from ((key, *row) for row in window.rows(key))
                    else:
                        window.pass_over(key)
            window.finish()
    except FileNotFoundError:
        raise InputError(f"{path} does not exist; check the dataset's root in params.yaml or fetch the file") from None
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error.strerror}); check the file and its permissions") from None
    lacking = [array for array in arrays if array and array not in (*found, optional)]
    if lacking:
        has = ", ".join(map(repr, found)) or "nothing"
        raise InputError(f"{path} has no array {lacking[0]!r}, only {has}; check that it is the file of annotations")


class _Window:
    """The part of a JSON file that is being decoded: `_text` from `_place` on."""

    def __init__(self, path: Path, stream: TextIO) -> None:
        self._path, self._stream = path, stream
        self._text, self._place, self._dropped = "", 0, 0
        self._at, self._rows = "", -1
        if not self._fill():
            raise InputError(f"{path} is empty; fetch it again")

    def keys(self, arrays: tuple[str, ...]) -> Iterator[str]:
        """Yield the keys of the top-level object; the caller takes the value of each before the next."""
        if self._next() == "[":
            wanted = " and ".join(map(repr, arrays))
            raise InputError(f"{self._path} is a list, not an object with {wanted}; check the form of the file")
        for _ in self._items("{", "}"):
            key = self._value()
            if type(key) is not str:
                raise self._broken("a key is not a text")
            self._take(":")
            self._at, self._rows = key, -1
            yield key

    def rows(self, key: str) -> Iterator[tuple[int, Any]]:
        """Yield (number, row) of the array that begins here."""
        if (first := self._next()) != "[" and first in _KINDS:
            what = f"{self._path}: {key!r}" if key else str(self._path)
            raise InputError(f"{what} is {_KINDS[first]}, not a list; check the form of the file")
        self._rows = 0
        for number in self._items("[", "]"):
            value = self._value()
            self._rows = number + 1
            yield number, value

    def pass_over(self, key: str) -> None:
        """Read the value that begins here in vain; of an array, one row is in memory at a time."""
        if self._next() == "[":
            for _ in self.rows(key):
                pass
        else:
            self._value()

    def finish(self) -> None:
        """Refuse what follows the whole value."""
        if self._next():
            raise self._broken("something follows its end")

    def _items(self, opening: str, closing: str) -> Iterator[int]:
        """Yield the number of each item between brackets; the caller takes the item before the next."""
        self._take(opening)
        if self._next() == closing:
            self._place += 1
            return
        for number in count():
            yield number
            if self._take("," + closing) == closing:
                return

    def _take(self, wanted: str) -> str:
        """The next character, which must be one of `wanted`."""
        found = self._next()
        if not found or found not in wanted:
            raise self._broken(f"{' or '.join(wanted)} is missing")
        self._place += 1
        return found

    def _next(self) -> str:
        """The next character that is not white space, which is left there; "" at the end of the file."""
        while True:
            if self._place < len(self._text):
                found = self._text[self._place]
                if found not in " \t\n\r":
                    return found
                if match := _SPACE.match(self._text, self._place):
                    self._place = match.end()
            elif not self._fill():
                return ""

    def _value(self) -> Any:
        """The value that begins here."""
        self._next()
        while True:
            problem, value = "", None
            try:
                value, end = _decode(self._text, self._place)
            except RecursionError:
                return self._undecodable("a value nested too deeply")
            except JSONDecodeError as error:
                problem, end = error.msg, error.pos
            except ValueError:
                return self._undecodable("a number of thousands of digits")
            length, endless = end - self._place, problem.startswith("Unterminated")
            if (endless or end > len(self._text) - _TOKEN) and self._fill():
                continue
            if problem:
                raise self._broken(problem, length, endless)
            self._place += length
            return value

    def _undecodable(self, why: str) -> Undecodable:
        """Pass over the value that begins here by its brackets alone."""
        if self._text[self._place] not in "[{":
            while not (end := _SCALAR_END.search(self._text, self._place)):
                if not self._fill():
                    break
            self._place = end.start() if end else len(self._text)
            return Undecodable(why)
        depth = 0
        while True:
            for match in _BRACKET.finditer(self._text, self._place):
                token = match[0]
                if token == '"':  # of a text that goes on beyond the window
                    break
                self._place = match.end()
                depth += (token in "[{") - (token in "]}")
                if not depth:
                    return Undecodable(why)
            if not self._fill():
                raise self._broken("a bracket is missing", ended=True)

    def _fill(self) -> bool:
        """Drop what was decoded and read at least as much as is left; False at the end of the file."""
        self._text, self._dropped, self._place = self._text[self._place :], self._dropped + self._place, 0
        try:
            more = self._stream.read(max(_WINDOW, len(self._text)))
        except UnicodeDecodeError:
            raise InputError(f"{self._path} is not UTF-8 {self._where}; fetch it again") from None
        self._text += more
        return bool(more)

    @property
    def _where(self) -> str:
        """The place that decoding has reached."""
        if self._rows < 0:
            return f"at {self._at!r}" if self._at else "at its beginning"
        return f"after {self._rows} whole rows of " + (f"the array {self._at!r}" if self._at else "its array")

    def _broken(self, problem: str, ahead: int = 0, ended: bool = False) -> InputError:
        """The sentence for a fault `ahead` characters from here."""
        if ended or self._place + ahead >= len(self._text):
            return InputError(f"{self._path} ends {self._where}, within its JSON; fetch it again")
        at = f"{problem} at character {self._dropped + self._place + ahead}"
        return InputError(f"{self._path} is not valid JSON {self._where} ({at}); repair or fetch it")
