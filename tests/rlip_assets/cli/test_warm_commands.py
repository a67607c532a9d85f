"""A warm command is its caller's in output, status, folder, environment and signals, and is declined where a fork could differ."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import psutil
import pytest

from rlip_assets.cli.warm_client import WARM_VARIABLE
from rlip_assets.cli.warm_server import warm_commands
from rlip_assets.lineage.profiles import PROJECT_ROOT

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="commands are forked on Linux alone")
CLIENT = [sys.executable, "-m", "rlip_assets.cli.warm_client", "dvc"]
PYTEST = "PYTEST_CURRENT_TEST"
STAGES = """stages:
  fine:
    cmd: echo $MARK in $(basename $PWD) > fine.txt
    outs: [fine.txt]
  broken:
    cmd: echo it broke >&2; exit 7
  long:
    cmd: echo $$ > long.pid; exec sleep 300
  nested:
    cmd: echo $OF_AN_IMPORT; CLIENT version
""".replace("CLIENT", " ".join(CLIENT))


def wait_until(true: Callable[[], object], seconds: float = 60) -> None:
    until = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < until, "it took too long"
        time.sleep(0.05)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a DVC project with a stage that ends well, one that fails, and one that takes long; an importable module lies beside it."""
    folder = tmp_path_factory.mktemp("warm")
    (folder / "warm_part.py").write_text("import os\nVALUE = 1\nos.environ['OF_AN_IMPORT'] = 'imported'\n")
    project = folder / "project"
    project.mkdir()
    (project / "dvc.yaml").write_text(STAGES)
    for words in (("init", "--no-scm", "--quiet"), ("config", "core.analytics", "false")):
        subprocess.run([sys.executable, "-m", "dvc", *words], cwd=project, check=True)
    return folder


@pytest.fixture(scope="module", autouse=True)
def search_path(place: Path) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", os.pathsep.join([str(PROJECT_ROOT), str(place)]))
        patch.setenv("OMP_NUM_THREADS", "1")
        patch.setenv("SHELL", "/bin/sh")
        yield


@pytest.fixture
def log(place: Path) -> Iterator[Path]:
    """Run a server that has imported the module, and return its log."""
    log = place / "warm.log"
    log.unlink(missing_ok=True)
    with ExitStack() as stack:
        with pytest.MonkeyPatch.context() as patch:
            patch.delenv(PYTEST)
            stack.enter_context(warm_commands(["warm_part"], log))
        wait_until(lambda: Path(os.environ[WARM_VARIABLE]).exists())
        yield log
    log.unlink()


def environment(**variables: str) -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if name != PYTEST} | variables


def command(place: Path, *words: str, **variables: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*CLIENT, *words],
        cwd=place / "project",
        env=environment(**variables),
        capture_output=True,
        text=True,
        check=False,
    )


def start_long(place: Path) -> tuple[subprocess.Popen[bytes], int]:
    """Start the long stage as Dagster does, in a process group of its own; return its client and the process of its command."""
    file = place / "project/long.pid"
    file.unlink(missing_ok=True)
    client = subprocess.Popen(
        [*CLIENT, "repro", "--single-item", "long"], cwd=place / "project", env=environment(), start_new_session=True
    )
    wait_until(lambda: file.exists() and file.read_text().strip())
    return client, int(file.read_text())


def test_output_status_folder_and_environment(place: Path, log: Path) -> None:
    good = command(place, "repro", "--single-item", "fine", DVC_MARK="", MLFLOW_MARK="")
    assert (good.returncode, "Running stage 'fine'" in good.stdout) == (0, True)
    assert (place / "project/fine.txt").read_text().split()[-1] == "project"
    warm = command(place, "repro", "--single-item", "broken")
    served, plain = log.read_text(), command(place, "repro", "--single-item", "broken", **{WARM_VARIABLE: ""})
    assert (warm.returncode, warm.stdout, warm.stderr) == (plain.returncode, plain.stdout, plain.stderr)
    assert "it broke" in warm.stderr
    assert served == ""


def test_commands_of_a_warm_command_are_warm_too(place: Path, log: Path) -> None:
    """As torch does, the imported module has set a variable, which the commands of a fork inherit."""
    nested = command(place, "repro", "--single-item", "nested")
    assert (nested.returncode, "imported" in nested.stdout) == (0, True)
    assert log.read_text() == ""
    assert command(place, "version", OF_AN_IMPORT="another").returncode == 0
    assert "OF_AN_IMPORT differ" in log.read_text()


def test_declined_where_a_fork_could_differ(place: Path, log: Path) -> None:
    differing = command(place, "repro", "--force", "--single-item", "fine", MARK="marked")
    assert differing.returncode == 0
    assert (place / "project/fine.txt").read_text() == "marked in project\n"
    assert "MARK differ" in log.read_text()
    (place / "warm_part.py").write_text("VALUE = 22\n")
    assert command(place, "version").returncode == 0
    assert "the source has changed" in log.read_text()


@pytest.mark.parametrize("how", ["asked", "killed"])
def test_a_command_ends_with_its_client(place: Path, log: Path, how: str) -> None:
    client, process = start_long(place)
    os.killpg(client.pid, signal.SIGTERM if how == "asked" else signal.SIGKILL)
    assert client.wait(120) == -(signal.SIGTERM if how == "asked" else signal.SIGKILL)
    wait_until(lambda: not psutil.pid_exists(process), 10)


def test_the_server_reaps_what_a_killed_command_leaves_behind(place: Path, log: Path) -> None:
    client, process = start_long(place)
    server = next(each for each in psutil.Process().children() if "warm_server" in " ".join(each.cmdline()))
    os.kill(psutil.Process(process).ppid(), signal.SIGKILL)
    assert client.wait(120) == -signal.SIGKILL
    assert psutil.Process(process).ppid() == server.pid
    os.kill(process, signal.SIGKILL)
    wait_until(lambda: not psutil.pid_exists(process))


def test_a_command_and_its_client_end_with_a_killed_server(place: Path, log: Path) -> None:
    client, process = start_long(place)
    server = next(each for each in psutil.Process().children() if "warm_server" in " ".join(each.cmdline()))
    server.kill()
    assert client.wait(120) == -signal.SIGKILL
    os.kill(process, signal.SIGKILL)  # a child of DVC, which ended; DVC's own children outlive a kill of DVC
    assert command(place, "version").returncode == 0, "without a server, commands run by themselves"


def test_no_server_where_imports_start_threads(place: Path) -> None:
    (place / "warm_threads.py").write_text(
        "import threading, time\nthreading.Thread(target=time.sleep, args=(60,), daemon=True).start()\n"
    )
    log = place / "threads.log"
    with warm_commands(["warm_threads"], log):
        wait_until(lambda: "nothing is forked" in log.read_text())
        assert command(place, "version").returncode == 0
