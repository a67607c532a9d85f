"""The near end of a warm command: hands it to the server that RLIP_WARM names (`warm_server.py`) and lives as long as it runs there.

It stands for the command towards whoever started it: signals are passed on to the whole process group of the command, the command is
killed where this process is, and this process ends as the command does. Imports the standard library alone, so that it starts in
hundredths of a second.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from types import FrameType
from typing import NoReturn

WARM_VARIABLE = "RLIP_WARM"
"""Path of the socket of the server."""
LENGTH_BYTES = 4
RUNNING, DECLINED, ENDED = "running", "declined", "ended"
"""First words of the server's lines: with the process number, the reason, and the exit status."""
FINISHED = b"."
"""Sent by a client that needs its command no more; without it the command is killed."""
_PASSED_ON = {signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT}


def forward(program: str, arguments: Sequence[str]) -> None:
    """Run a program in the server and end this process with its status; return where no server runs it, so that the caller does."""
    path = os.environ.get(WARM_VARIABLE)
    if not path:
        return
    with socket.socket(socket.AF_UNIX) as server:
        try:
            server.connect(path)
        except OSError:
            return
        signal.pthread_sigmask(signal.SIG_BLOCK, _PASSED_ON)
        try:
            umask = os.umask(0o77)
            os.umask(umask)
            request = {
                "program": program,
                "arguments": list(arguments),
                "folder": os.getcwd(),
                "environment": dict(os.environ),
                "umask": umask,
            }
            content = json.dumps(request).encode()
            socket.send_fds(server, [len(content).to_bytes(LENGTH_BYTES, "big")], [0, 1, 2])
            server.sendall(content)
            answers = server.makefile()
            word, _, rest = answers.readline().partition(" ")
        except OSError:
            word = DECLINED
        if word != RUNNING:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, _PASSED_ON)
            return
        group, signalled = int(rest), []

        def pass_on(number: int, _frame: FrameType | None) -> None:
            signalled.append(number)
            _signal_group(group, number)

        for number in _PASSED_ON:
            signal.signal(number, pass_on)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _PASSED_ON)
        word, _, rest = answers.readline().partition(" ")
        while signalled and _signal_group(group, 0):  # whoever ends a process group waits for all of it
            time.sleep(0.05)
        with suppress(OSError):
            server.sendall(FINISHED)
    _end(int(rest) if word == ENDED else -signal.SIGKILL)


def _signal_group(group: int, number: int) -> bool:
    """Send a signal to a process group; return whether there is one."""
    try:
        os.killpg(group, number)
    except ProcessLookupError:
        return False
    return True


def _end(status: int) -> NoReturn:
    """End this process with an exit status, or by the signal of a negative one."""
    if status < 0:
        if -status != signal.SIGKILL:
            signal.signal(-status, signal.SIG_DFL)
        os.kill(os.getpid(), -status)
    os._exit(status)


def main() -> None:
    """Run `PROGRAM ARGUMENT...` in the server, else as a Python module of this process."""
    program, *arguments = sys.argv[1:]
    forward(program, arguments)
    os.execv(sys.executable, [sys.executable, "-m", program, *arguments])


if __name__ == "__main__":
    main()
