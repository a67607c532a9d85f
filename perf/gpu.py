"""Check the network on a GPU in one command: is it right, how fast is it, what does it need, what where memory is too small.

    perf/gpu.sh [--minutes 8] [--json gpu.json] [--markdown docs/gpu.md] [--only CHECK ...]
    python -m perf.gpu --device cpu --tiny           every check at toy size: tries the program, measures nothing
    python -m perf.gpu --render gpu.json --markdown docs/gpu.md      the tables of an earlier run

Checks come in order of worth and stop in time; a check that fails or takes too long does not stop the others, nor does one that
leaves the device unusable: the others go on in a new process. Every row is printed and written to the json file as soon as it is
measured, with its reference from the same run. It needs torch, transformers and what these two bring, and on a GPU Triton;
nothing is downloaded. Exit status: 1 when a check failed.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import platform
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from perf.gpu_checks.markdown import check_marks, write_markdown

if TYPE_CHECKING:
    from perf.gpu_checks.device import Device
    from perf.gpu_checks.run import Check

ROOT = Path(__file__).resolve().parents[1]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the checks that the arguments ask for, or only render the record of an earlier run.

    Returns:
        exit status: 0 when no check failed, 1 when one did, 2 when there is nothing to run on, 143 when the run was stopped.
    """
    options = parse(arguments)
    if options.markdown:
        check_marks(options.markdown)  # now, not after eight minutes
    if options.render:
        write_markdown(json.loads(options.render.read_text(encoding="utf-8")), options.markdown)
        return 0
    if options.device == "cpu":
        # Must be set before anything imports Triton: a dry run takes the kernels in its interpreter.
        os.environ.setdefault("TRITON_INTERPRET", "1")
    if not options.resume:
        options.json.unlink(missing_ok=True)  # an earlier record must not be taken for this run's
    from perf.gpu_checks.deadline import Deadline

    deadline = Deadline(60 * options.minutes)
    from perf.gpu_checks.cases import TINY, Sizes
    from perf.gpu_checks.device import Device
    from perf.gpu_checks.record import Outcome, Record
    from perf.gpu_checks.run import BROKEN, run_checks

    checks = [check for check in all_checks() if not options.only or check.name in options.only]
    if unknown := set(options.only) - {check.name for check in checks}:
        known = ", ".join(check.name for check in all_checks())
        print(f"no check is called {', '.join(sorted(unknown))}; there are {known}", file=sys.stderr)
        return 2
    try:
        device = Device(options.device)
        described = facts(device, options)
        if options.resume:
            record = Record.resume(options.json, described, [check.name for check in checks])
        else:
            record = Record(options.json, described, [Outcome(check.name, check.title) for check in checks])
    except (RuntimeError, ValueError) as error:
        print(error, file=sys.stderr)
        return 2
    for name, value in record.facts.items():
        print(f"{name:20} {value}", flush=True)
    status = run_checks(checks, device, TINY if options.tiny else Sizes(), record, deadline)
    if status == BROKEN:
        given = sys.argv[1:] if arguments is None else arguments
        return go_on([*given, "--resume", "--minutes", f"{deadline.left() / 60:.2f}"])
    values = record.values()
    print_goals(values)
    if options.markdown:
        write_markdown(values, options.markdown)
    return status


def go_on(arguments: Sequence[str]) -> int:
    """Put a new process with these arguments in this one's place, and let go of the device; does not return."""
    print("\ngoing on in a new process", flush=True)
    os.closerange(3, os.sysconf("SC_OPEN_MAX"))
    os.execv(sys.executable, [sys.executable, "-m", "perf.gpu", *arguments])


def all_checks() -> list[Check]:
    """Return the checks in order of worth; the seconds are the most that each may take."""
    from perf.gpu_checks import kernel, labels, memory, network, right, training
    from perf.gpu_checks.run import Check

    return [
        Check("right.kernels", "Right: kernels against float64", 75, right.kernel_errors),
        Check("right.golden", "Right: network against recorded outputs of the published one", 75, right.golden_cases),
        Check("kernel", "Kernel: deformable attention of an 800 x 1333 image", 45, kernel.kernel_speed),
        Check("network", "Network: forward passes, texts cached, eager", 75, network.forward_speed),
        Check("parts", "Network: time by part", 20, network.time_by_part),
        Check("training", "Training step: ParSeDA ResNet-50, published batch per GPU", 90, training.step_speed),
        Check("overfit", "Training: two images learnt by heart", 25, training.overfit),
        Check("captions", "Labels: ten nucleus samples per image, BLIP of base size", 45, labels.caption_speed),
        Check("tagging", "Labels: R-Tagger scores", 35, labels.tagging_speed),
        Check("memory", "Out of memory: halved, or one sentence", 45, memory.too_little_memory),
        # Last, for it alone can take minutes.
        Check("compiled", "Network: torch.compile", 240, network.compiled_speed),
    ]


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line, by argparse: other libraries for it need pydantic, which a bare machine lacks."""
    parser = argparse.ArgumentParser(
        prog="python -m perf.gpu", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--device", default="cuda", help="cuda, cuda:1, ... or cpu")
    parser.add_argument("--tiny", action="store_true", help="toy sizes, to try the program")
    parser.add_argument("--minutes", type=float, default=8.0, help="for everything, imports included")
    parser.add_argument("--only", nargs="+", default=[], metavar="CHECK", help="names of checks, such as right.kernels")
    parser.add_argument("--commit", help="of the code, for a copy without its history")
    parser.add_argument("--json", type=Path, default=Path("gpu.json"), help="the record, written after every row")
    parser.add_argument("--resume", action="store_true", help="go on with the record: only checks that it has not")
    parser.add_argument("--markdown", type=Path, help="file whose tables of results are replaced")
    parser.add_argument("--render", type=Path, metavar="JSON", help="only write --markdown from this record")
    options = parser.parse_args(arguments)
    if options.render and not options.markdown:
        parser.error("--render needs --markdown")
    if options.device == "cpu" and not options.tiny and not options.render:
        parser.error("full sizes are for a GPU: give --tiny with --device cpu")
    return options


def facts(device: Device, options: argparse.Namespace) -> dict[str, Any]:
    """Return what a reader of the figures must know."""
    import torch
    import transformers

    found = device.facts()
    try:
        import triton

        kernels = str(triton.__version__)
    except ImportError:
        kernels = "not installed"
    return {
        "date": datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M UTC"),
        **found,
        "sizes": "toy sizes: figures mean nothing" if options.tiny else "full",
        "judged": device.is_cuda and not options.tiny,
        "minutes": options.minutes,
        "python": platform.python_version(),
        "torch": str(torch.__version__),
        "cuda": str(torch.version.cuda),
        "triton": kernels,
        "transformers": str(transformers.__version__),
        "commit": options.commit or checked_out(),
    }


def checked_out() -> str:
    """Return the commit of the code, with a mark where files differ from it; `unknown` outside a checkout."""
    command = ["git", "-C", str(ROOT), "describe", "--always", "--dirty", "--abbrev=12", "--exclude=*"]
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=10, check=True).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return "unknown"


def print_goals(values: dict[str, Any]) -> None:
    """Print the goals beside what was measured."""
    from perf.gpu_checks.record import shown

    verdicts = {True: "met", False: "MISSED", None: "not judged"}
    print("\ngoals on an H100:")
    for goal in values["goals"]:
        wanted = f"{goal['bound']} {goal['wanted']:g} {goal['unit']}"
        print(f"  {goal['goal']:64} {wanted:24} {shown(goal['measured']) or '-':>10}  {verdicts[goal['met']]}")
    print(f"\n{values['status']} after {values['seconds']:.0f} s", flush=True)


if __name__ == "__main__":
    sys.exit(main())
