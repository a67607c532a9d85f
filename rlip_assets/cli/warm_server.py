"""Warm commands: one process that has imported what DVC and the stages need, and forks for each command.

`rlip demo` runs dozens of commands of a second or two, each of which would import the same libraries. A command runs in a fork as it would
in a process of its own: environment, folder, descriptors, signals and exit status are its caller's (`warm_client.py`), and DVC and
`rlip stage` work without a server just the same. The server declines, and the caller runs the command itself, where a fork could
differ: where a module or a data file of the packages has changed since it was imported, or a variable that libraries may read
while they are imported. It serves only if what it imported has started no thread, and ends with the process that started it.

On a machine with a GPU nothing that imports torch is loaded: a process that has asked for CUDA cannot be forked.
"""

from __future__ import annotations

import atexit
import ctypes
import gc
import importlib
import json
import os
import selectors
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from pathlib import Path
from typing import Any

from rlip_assets.cli.warm_client import DECLINED, ENDED, FINISHED, LENGTH_BYTES, RUNNING, WARM_VARIABLE
from rlip_assets.lineage.environment import gpus
from rlip_assets.lineage.profiles import PROJECT_ROOT
from rlip_assets.lineage.spec import Registry

_OWN_PACKAGES = ("rlip_assets", "rlip_model", "dagster_dvc")
_OF_A_RUN = ("DAGSTER_", "DVC_", "RLIP_", "MLFLOW_", "PWD", "OLDPWD", "SHLVL", "PATH", "COLUMNS", "LINES", "_")
"""Beginnings of the variables that may differ between commands: no library reads them while it is imported."""
_DVC = ("dvc.cli", "dvc.commands.repro", "dvc.repo.reproduce", "dvc.dvcfile", "dvc.stage.cache", "dvc_data.index")
_WITH_TORCH = (
    "matplotlib.figure",
    "rlip_assets.labelling.captions.captioner",
    "rlip_assets.labelling.tagging.candidate_tagger",
    "rlip_model.checkpoints.folder",
)
"""Modules that stages import when they need them."""
_WORTH_IT = 6
"""Fewest items for which a server is started: its imports take as long as those of three or four of them."""
_PATIENCE_SECONDS, _GRACE_SECONDS = 5.0, 20.0
_SET_DEATH_SIGNAL, _SET_CHILD_SUBREAPER = 1, 36


def warm_stages(registry: Registry, changed: Iterable[str], folder: Path) -> AbstractContextManager[None]:
    """Return the block in which DVC and stages are warm, if enough has to be made; the server's log is put into `folder`."""
    if len(registry.downstream(set(changed))) < _WORTH_IT:
        return nullcontext()
    specs = [spec for spec in registry.specs.values() if not (spec.torch and gpus())]
    modules = dict.fromkeys(spec.function.partition(":")[0] for spec in specs)
    return warm_commands(list(modules), folder / "warm.log")


@contextmanager
def warm_commands(modules: Sequence[str], log: Path) -> Iterator[None]:
    """Run a server (on Linux) and name it to all processes that are started in the block. It serves once it has imported `modules`."""
    if sys.platform != "linux":
        yield
        return
    log.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="rlip-") as folder, log.open("ab") as output:
        path = str(Path(folder) / "warm")
        command = [sys.executable, "-m", __name__, path, *modules]
        server = subprocess.Popen(
            command,
            cwd=PROJECT_ROOT,
            env=dict(os.environ),  # without what a library of C has set for this process
            stdin=subprocess.PIPE,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
        os.environ[WARM_VARIABLE] = path
        try:
            yield
        finally:
            del os.environ[WARM_VARIABLE]
            assert server.stdin is not None
            server.stdin.close()
            try:
                server.wait(_GRACE_SECONDS)
            except subprocess.TimeoutExpired:
                server.kill()
                server.wait()


class _Server:
    """Forks for the commands of its clients.

    Args:
        environment: variables as they were before the imports.
    """

    def __init__(self, path: str, environment: Mapping[str, str]) -> None:
        self._environment = _fixed(environment)
        self._imported = {name: value for name, value in os.environ.items() if environment.get(name) != value}
        self._sources = _sources()
        self._clients: dict[socket.socket, int] = {}
        """Connection of each client -> process of its command."""
        self._running: set[int] = set()
        self._wake, wake = socket.socketpair()
        wake.setblocking(False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.set_wakeup_fd(wake.fileno())
        self._keep = wake
        # Whoever ends a command waits for its whole process group, zombies too: the first process of a container may never reap them.
        ctypes.CDLL(None).prctl(_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(path)
        self._listener.listen(64)
        self._selector = selectors.DefaultSelector()
        for source in (self._listener, self._wake, 0):
            self._selector.register(source, selectors.EVENT_READ)

    def serve(self) -> Callable[[], Any] | None:
        """Serve until the process that started this one is gone; return the program to run in a fork, None in the server itself."""
        serving = True
        while serving or self._running:
            for key, _ in self._selector.select():
                source: Any = key.fileobj
                if source == 0:
                    serving = False
                    self._selector.unregister(0)
                    self._end_all()
                elif source is self._wake:
                    self._wake.recv(4096)
                    self._reap()
                elif source is self._listener:
                    if program := self._accept():
                        return program
                else:
                    self._hear(source)
        return None

    def _accept(self) -> Callable[[], Any] | None:
        client, _ = self._listener.accept()
        client.settimeout(_PATIENCE_SECONDS)
        descriptors: list[int] = []
        try:
            head, descriptors, _, _ = socket.recv_fds(client, LENGTH_BYTES, 3)
            with client.makefile("rb") as stream:
                request = json.loads(stream.read(int.from_bytes(head, "big")))
            if reason := self._unlike(request):
                client.sendall(f"{DECLINED} {reason}\n".encode())
                client.close()
                print(f"{request['program']} is run by its caller: {reason}", flush=True)
                return None
            process = os.fork()
            if process == 0:
                self._close()
                program = _take_over(request, descriptors, self._imported)
                client.sendall(f"{RUNNING} {os.getpid()}\n".encode())
                client.close()
                return program
            self._running.add(process)
            self._clients[client] = process
            self._selector.register(client, selectors.EVENT_READ)
        except (OSError, ValueError) as error:
            print(f"a command is not taken: {error}", flush=True)
            if client in self._clients:
                self._hear(client)
            client.close()
        finally:
            for descriptor in descriptors:
                with suppress(OSError):  # a fork has taken them over
                    os.close(descriptor)
        return None

    def _unlike(self, request: Mapping[str, Any]) -> str | None:
        """Return why a fork could differ from a process of its own, None if it could not."""
        theirs = _fixed(request["environment"])
        # A command that a fork starts has what the imports set here.
        ours = {**self._environment, **{name: v for name, v in self._imported.items() if theirs.get(name) == v}}
        if differing := sorted(name for name in {*theirs, *ours} if theirs.get(name) != ours.get(name)):
            return f"{', '.join(differing)} differ from the server's"
        return None if _sources(self._sources) == self._sources else "the source has changed"

    def _hear(self, client: socket.socket) -> None:
        """Forget a client that is finished, and kill the command of one that is gone."""
        try:
            said = client.recv(1)
        except OSError:
            said = b""
        process = self._clients.pop(client)
        with suppress(KeyError):
            self._selector.unregister(client)
        client.close()
        if said != FINISHED:
            _signal(process, signal.SIGKILL)

    def _reap(self) -> None:
        """Tell clients how their commands ended; reap what commands left behind, too."""
        while True:
            try:
                process, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if not process:
                return
            self._running.discard(process)
            for client in [one for one, theirs in self._clients.items() if theirs == process]:
                with suppress(OSError):  # the client is gone, which its connection will tell
                    client.sendall(f"{ENDED} {os.waitstatus_to_exitcode(status)}\n".encode())

    def _end_all(self) -> None:
        self._selector.unregister(self._listener)
        self._listener.close()
        for process in self._running:
            _signal(process, signal.SIGTERM)

    def _close(self) -> None:
        """Close in a fork what belongs to the server."""
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        self._selector.close()
        for connection in (self._listener, self._wake, self._keep, *self._clients):
            connection.close()


def _take_over(
    request: Mapping[str, Any], descriptors: Sequence[int], imported: Mapping[str, str]
) -> Callable[[], Any]:
    """Make this fork the process that its client asked for; return the program to run."""
    os.setsid()
    ctypes.CDLL(None).prctl(_SET_DEATH_SIGNAL, signal.SIGKILL, 0, 0, 0)
    for number, descriptor in enumerate(descriptors):
        os.dup2(descriptor, number)
    for name, number in (("stdin", 0), ("stdout", 1), ("stderr", 2)):
        old = getattr(sys, name)
        buffering = 1 if number == 2 else -1
        stream = open(number, old.mode, buffering, old.encoding, old.errors, closefd=False)  # noqa: SIM115
        setattr(sys, name, stream)
    os.umask(request["umask"])
    os.chdir(request["folder"])
    os.environ.clear()
    os.environ.update({**imported, **request["environment"]})
    signal.signal(signal.SIGINT, signal.default_int_handler)
    sys.argv = [request["program"], *request["arguments"]]
    return _PROGRAMS[request["program"]]


def _signal(group: int, number: int) -> None:
    with suppress(ProcessLookupError):
        os.killpg(group, number)


def _fixed(environment: Mapping[str, str]) -> dict[str, str]:
    """Return the variables that must be the same for all commands."""
    return {name: value for name, value in environment.items() if not name.startswith(_OF_A_RUN)}


def _sources(of: Mapping[str, Any] | None = None) -> dict[str, tuple[int, int] | None]:
    """Return time and size of the file of each imported module and of data files of the packages, or of the files of an earlier call."""
    if of is None:
        modules = {getattr(module, "__file__", None) for module in list(sys.modules.values())}
        data = {
            str(file)
            for name in _OWN_PACKAGES
            for file in Path(str(importlib.import_module(name).__file__)).parent.rglob("*")
            if file.suffix in {".json", ".yaml"}
        }
        of = dict.fromkeys([*filter(None, modules), *data])
    found: dict[str, tuple[int, int] | None] = {}
    for file in of:
        try:
            stat = os.stat(file)
            found[file] = stat.st_mtime_ns, stat.st_size
        except OSError:
            found[file] = None
    return found


def _threads() -> list[str]:
    """Return the names of the threads besides this one that a fork would lack. The allocator of pyarrow starts its own again."""
    names = [
        (task / "comm").read_text().strip()
        for task in Path("/proc/self/task").iterdir()
        if int(task.name) != os.getpid()
    ]
    return [name for name in names if name != "jemalloc_bg_thd"]


def _dvc() -> None:
    from dvc.cli import main

    sys.exit(main(sys.argv[1:]))


def _rlip() -> None:
    from rlip_assets.cli.application import run

    run()


_PROGRAMS = {"dvc": _dvc, "rlip": _rlip}


def main() -> None:
    """Import and serve: `python -m rlip_assets.cli.warm_server SOCKET MODULE...`."""
    path, *modules = sys.argv[1:]
    environment, status = dict(os.environ), list[int]()
    atexit.register(_leave, status)  # the first one, so that it is the last to be called
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    for module in (*_DVC, "rlip_assets.cli.application", "rlip_assets.cli.stages", *modules):
        importlib.import_module(module)
    for module in _WITH_TORCH if "torch" in sys.modules else ():
        importlib.import_module(module)
    if threads := _threads():
        sys.exit(
            f"nothing is forked, for the imports have started threads ({', '.join(threads)}); set OMP_NUM_THREADS=1"
        )
    server = _Server(path, environment)
    gc.collect()
    gc.freeze()
    program = server.serve()
    if program is None:
        return
    try:
        program()
        status.append(0)
    except SystemExit as end:
        status.append(end.code if isinstance(end.code, int) else int(end.code is not None))
        raise
    except BaseException:
        status.append(1)
        raise


def _leave(status: Sequence[int]) -> None:
    """End a fork without tearing down what is only a copy, which would take a second."""
    if status:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status[0])


if __name__ == "__main__":
    main()
