"""The GPU checks without a GPU: every check at toy size, and a record that is whole however a run ends."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from perf import gpu
from perf.gpu_checks import goals, markdown
from perf.gpu_checks.cases import TINY, Sizes
from perf.gpu_checks.deadline import HUNG, Deadline
from perf.gpu_checks.device import Device
from perf.gpu_checks.record import Outcome, Record, Row
from perf.gpu_checks.run import BROKEN, Check, run_checks

ROOT = Path(__file__).parents[2]
ABSENT = ("pandas", "pyarrow", "pydantic", "dagster", "mlflow", "dvc", "boto3", "psutil", "matplotlib", "typer")
"""Packages that a bare machine need not have; importing it fails there."""
DRY_RUN = f"""
import sys
sys.modules.update(dict.fromkeys({ABSENT!r}))
from perf.gpu import main
status = main()
print("imported:", *sorted(name for name in sys.modules if name.startswith("rlip_assets")))
sys.exit(status)
"""
LIGHT = {
    "rlip_assets",
    "rlip_assets.training.micro_batches",
    "rlip_assets.labelling",
    "rlip_assets.labelling.captions",
    "rlip_assets.labelling.captions.decoding",
    "rlip_assets.storage",
    "rlip_assets.storage.errors",
    "rlip_assets.training",
    "rlip_assets.training.memory",
}
"""Parts of the pipeline that are measured and need torch alone."""


def test_every_check_runs_at_toy_size_with_the_network_alone(tmp_path: Path) -> None:
    document = tmp_path / "gpu.md"
    document.write_text((ROOT / "docs/gpu.md").read_text())
    command = [sys.executable, "-c", DRY_RUN, "--device", "cpu", "--tiny", "--markdown", str(document)]
    done = subprocess.run(
        [*command, "--json", str(tmp_path / "gpu.json")],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=900,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    assert set(done.stdout.split("imported:")[1].split()) == LIGHT

    record = json.loads((tmp_path / "gpu.json").read_text())
    assert record["status"] == "finished"
    assert [check["name"] for check in record["checks"]] == [check.name for check in gpu.all_checks()]
    for check in record["checks"]:
        assert check["status"] == "passed", check
        assert check["rows"]
        assert all(row["figures"] for row in check["rows"])
        assert check["title"] in document.read_text()
    assert all(goal["met"] is None for goal in record["goals"]), "a dry run meets no goal"
    assert "toy sizes" in document.read_text()


def counted(_: Device, __: Sizes) -> Iterator[Row]:
    yield Row("first", {"ms": 1.5})
    yield Row("second", {"ms": 2.5}, ok=True)


def wrong(_: Device, __: Sizes) -> Iterator[Row]:
    yield Row("kernel", {"error": 0.5}, ok=False)


def raising(_: Device, __: Sizes) -> Iterator[Row]:
    yield Row("first", {"ms": 1.5})
    raise RuntimeError("misaligned address\nand more")


def slow(_: Device, __: Sizes) -> Iterator[Row]:
    yield Row("first", {"ms": 1.5})
    time.sleep(60)


def stopping(_: Device, __: Sizes) -> Iterator[Row]:
    yield Row("first", {"ms": 1.5})
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(60)


Run = Callable[..., tuple[int, dict[str, Any]]]


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """Runs made-up checks and returns the exit status and what is on disk."""

    def call(*parts: Callable[[Device, Sizes], Iterator[Row]], seconds: float = 30, each: float = 30) -> Any:
        checks = [Check(part.__name__, part.__name__, each, part) for part in parts]
        path = tmp_path / "gpu.json"
        record = Record(path, {"judged": False}, [Outcome(check.name, check.title) for check in checks])
        status = run_checks(checks, Device("cpu"), TINY, record, Deadline(seconds))
        assert [entry.name for entry in tmp_path.iterdir()] == ["gpu.json"]
        return status, json.loads(path.read_text())

    return call


def statuses(record: dict[str, Any]) -> dict[str, str]:
    return {check["name"]: check["status"] for check in record["checks"]}


def test_a_failing_check_stops_no_other(run: Run) -> None:
    status, record = run(wrong, raising, counted)
    assert status == 1
    assert statuses(record) == {"wrong": "failed", "raising": "error", "counted": "passed"}
    assert [check["message"] for check in record["checks"]] == ["wrong: kernel", "RuntimeError: misaligned address", ""]
    assert [len(check["rows"]) for check in record["checks"]] == [1, 1, 2]
    assert record["status"] == "finished"


def test_a_check_that_takes_too_long_keeps_its_rows(run: Run) -> None:
    status, record = run(slow, counted, each=0.2)
    assert status == 0
    assert statuses(record) == {"slow": "out of time", "counted": "passed"}
    assert record["checks"][0]["rows"][0]["figures"] == {"ms": 1.5}


def test_a_run_ends_in_time_and_says_what_it_left_out(run: Run) -> None:
    status, record = run(counted, seconds=0)
    assert status == 0
    assert statuses(record) == {"counted": "not run"}
    assert record["status"] == "finished; no time was left for counted"


def test_a_stopped_run_keeps_what_it_has(run: Run) -> None:
    status, record = run(counted, stopping, slow)
    assert status == 143
    assert statuses(record) == {"counted": "passed", "stopping": "stopped", "slow": "not run"}
    assert record["status"] == "stopped by SIGTERM"
    assert len(record["checks"][1]["rows"]) == 1


def test_a_call_that_never_returns_is_ended() -> None:
    program = """
import signal, time
from perf.gpu_checks import deadline
signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGALRM})
deadline.GRACE = 0.1
with deadline.watchdog(deadline.Deadline(0.1), lambda: print("last words", flush=True)), deadline.time_limit(0.1):
    time.sleep(60)
"""
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (HUNG, "last words\n")


@pytest.fixture
def breakable(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[[Sequence[str]], int]:
    """Runs the command with three made-up checks, of which the second breaks the device for the process; a new process begins whole."""
    broken: list[bool] = []

    def breaking(_: Device, __: Sizes) -> Iterator[Row]:
        yield Row("first", {"ms": 1.5})
        broken.append(True)
        raise RuntimeError("an illegal memory access was encountered\nand more")

    def synchronise(_: Device) -> None:
        if broken:
            raise RuntimeError("an illegal memory access was encountered")

    def go_on(arguments: Sequence[str]) -> int:
        broken.clear()
        return gpu.main(arguments)

    checks = [Check(part.__name__, part.__name__, 30, part) for part in (counted, breaking, also_counted)]
    monkeypatch.setattr(gpu, "all_checks", lambda: checks)
    monkeypatch.setattr(gpu, "go_on", go_on)
    monkeypatch.setattr(Device, "synchronise", synchronise)
    given = ["--device", "cpu", "--tiny", "--json", str(tmp_path / "gpu.json")]
    return lambda more: gpu.main([*given, *more])


def also_counted(_: Device, __: Sizes) -> Iterator[Row]:
    yield Row("third", {"ms": 3.5})


def test_a_check_that_breaks_the_device_stops_no_other(
    breakable: Callable[[Sequence[str]], int], tmp_path: Path
) -> None:
    assert breakable([]) == 1
    record = json.loads((tmp_path / "gpu.json").read_text())
    assert statuses(record) == {"counted": "passed", "breaking": "error", "also_counted": "passed"}
    message = "RuntimeError: an illegal memory access was encountered; the device was unusable afterwards"
    assert [check["message"] for check in record["checks"]] == ["", message, ""]
    assert [len(check["rows"]) for check in record["checks"]] == [2, 1, 1]
    assert (record["status"], record["minutes"]) == ("finished", 8.0)


def test_an_ended_run_goes_on_with_its_own_record_alone(
    breakable: Callable[[Sequence[str]], int],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(gpu, "go_on", lambda arguments: BROKEN)
    assert breakable(["--commit", "a"]) == BROKEN
    path = tmp_path / "gpu.json"
    ended = json.loads(path.read_text())
    ended["seconds"], ended["checks"][2]["status"] = 100.0, "running"  # as a killed process leaves it
    path.write_text(json.dumps(ended))
    assert breakable(["--commit", "b", "--resume"]) == 2
    assert "gpu.json is of another run (commit a, not b); run without --resume" in capsys.readouterr().err
    assert breakable(["--commit", "a", "--only", "counted", "--resume"]) == 2
    assert "checks counted, breaking, also_counted, not counted" in capsys.readouterr().err
    assert json.loads(path.read_text()) == ended


@pytest.mark.parametrize("text", [None, "", "[]", "{}", '{"checks": [{"nme": "kernel"}], "seconds": 1}'])
def test_a_run_without_a_record_cannot_go_on(
    text: str | None, breakable: Callable[[Sequence[str]], int], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    if text is not None:
        (tmp_path / "gpu.json").write_text(text)
    assert breakable(["--resume"]) == 2
    assert "gpu.json holds no record of a run to go on with" in capsys.readouterr().err


def test_a_new_process_takes_the_place_of_one_whose_device_is_broken(tmp_path: Path) -> None:
    """With its arguments, and without its open files: those of a device would keep its memory."""
    script = tmp_path / "python"
    script.write_text('#!/bin/sh\n[ -e /proc/self/fd/9 ] && echo open || echo closed\necho "$@"\n')
    script.chmod(0o755)
    program = f"""
import os, sys
from perf import gpu
os.dup2(os.open({str(tmp_path)!r}, os.O_RDONLY), 9, inheritable=True)
sys.executable = {str(script)!r}
gpu.go_on(["--json", "gpu.json", "--resume"])
"""
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.stdout == "\ngoing on in a new process\nclosed\n-m perf.gpu --json gpu.json --resume\n", done.stderr


class FakeEvent:
    """An event of a device whose clock makes a step of 2 ms at every reading."""

    time = 0.0

    def __init__(self, enable_timing: bool) -> None:
        assert enable_timing

    def record(self) -> None:
        FakeEvent.time += 2.0
        self.at = FakeEvent.time

    def elapsed_time(self, end: FakeEvent) -> float:
        return end.at - self.at


@pytest.fixture
def fake_cuda(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """A CUDA device of 10 GB that is not there; returns the shares of memory that were allowed."""
    allowed: list[float] = []
    nothing = dict.fromkeys(("synchronize", "set_device", "reset_peak_memory_stats"), lambda device: None)
    values = {"max_memory_allocated": 3e9, "max_memory_reserved": 4e9, "memory_reserved": 1e9}
    functions: dict[str, Any] = {
        **nothing,
        **{name: lambda device, value=value: value for name, value in values.items()},
    }
    functions |= {"is_available": lambda: True, "empty_cache": lambda: None, "Event": FakeEvent}
    properties = SimpleNamespace(total_memory=10e9, name="H0", major=9, minor=0, multi_processor_count=1)
    functions["get_device_properties"] = lambda device: properties

    def allow(share: float, device: torch.device) -> None:
        assert device.index is not None, "the real function refuses a device without an index"
        allowed.append(share)

    for name, function in (functions | {"set_per_process_memory_fraction": allow}).items():
        monkeypatch.setattr(torch.cuda, name, function)
    return allowed


def test_a_device_is_timed_by_its_events_and_limited_for_a_while(fake_cuda: list[float]) -> None:
    device = Device("cuda")
    calls: list[int] = []
    assert device.seconds(lambda: calls.append(1), budget=0.0) == pytest.approx(0.002)
    assert len(calls) == 5  # two to warm up, three between events
    assert device.peak(lambda: None) == 3.0
    assert device.reserved(lambda: None) == 4.0
    with device.little_memory(2.5, torch.nn.Identity(), 1):
        assert fake_cuda == [0.25]
    assert fake_cuda == [0.25, 1.0]
    assert device.facts()["device"] == "H0"


def test_precisions_are_put_back() -> None:
    device = Device("cpu")
    before = torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32
    with device.precision("tf32"):
        assert torch.backends.cuda.matmul.allow_tf32
        with device.precision("bf16"):
            assert not torch.backends.cudnn.allow_tf32
            assert torch.is_autocast_enabled("cpu")
        assert torch.backends.cudnn.allow_tf32
    assert (torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32) == before


def test_goals_take_the_worst_case() -> None:
    rows = [
        {"name": "encoder, fp32, forward", "figures": {"times PyTorch": 5.0, "share of copy": 0.7}},
        {"name": "decoder, fp32, forward", "figures": {"times PyTorch": 1.5, "share of copy": 0.61}},
        {"name": "copy within the device", "figures": {"GB/s": 3000.0}},
    ]
    steps = [
        {"name": "batch 8, fp32", "figures": {"times fp32": 1.0, "matching share": 0.01}},
        {"name": "batch 8, bf16", "figures": {"times fp32": 1.7, "matching share": 0.06}},
    ]
    found = goals.judge([{"name": "kernel", "rows": rows}, {"name": "training", "rows": steps}], judged=True)
    assert [goal["measured"] for goal in found] == [1.5, 0.61, 1.7, 0.06, None]
    assert [goal["met"] for goal in found] == [False, True, True, False, None]


def test_results_replace_the_ones_before_and_nothing_else(run: Run, tmp_path: Path) -> None:
    _, record = run(counted, wrong)
    path = tmp_path / "results.md"
    path.write_text(f"before\n{markdown.BEGIN}\nold\n{markdown.END}\nafter\n")
    (tmp_path / "record.json").write_text(json.dumps(record))
    assert gpu.main(["--render", str(tmp_path / "record.json"), "--markdown", str(path)]) == 0
    text = path.read_text()
    assert text.startswith(f"before\n{markdown.BEGIN}\nStatus: finished")
    assert text.endswith(f"{markdown.END}\nafter\n")
    assert "old" not in text
    assert "| first | 1.5 |  |" in text
    assert "| kernel | 0.5 | **no** |" in text
    path.write_text("no marks")
    with pytest.raises(ValueError, match="has no lines"):
        gpu.main(["--markdown", str(path)])  # before anything is run


def test_a_machine_without_a_device_is_told_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    if torch.cuda.is_available():
        pytest.skip("there is a CUDA device")
    earlier = tmp_path / "gpu.json"
    earlier.write_text("{}")
    assert gpu.main(["--json", str(earlier)]) == 2
    assert not earlier.exists()
    assert "no CUDA device here; try the program with --device cpu --tiny" in capsys.readouterr().err


def test_a_check_that_does_not_exist_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    record = str(tmp_path / "gpu.json")
    assert gpu.main(["--device", "cpu", "--tiny", "--only", "kernle", "--json", record]) == 2
    assert "no check is called kernle; there are right.kernels, " in capsys.readouterr().err
