"""Progress of long work: lines with rate and remaining time in a log, a bar on a terminal."""

from __future__ import annotations

import io

from rich.console import Console

from rlip_assets.lineage.log import LineLog, TerminalLog


class Clock:
    """A clock that a test moves."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def work(log: LineLog, clock: Clock, steps: range, total: int, unit: str, seconds: float) -> None:
    for done in steps:
        clock.now += seconds
        log.progress(done, total, unit)


def test_every_phase_has_an_estimate_of_its_own() -> None:
    clock, lines = Clock(), list[str]()
    log = LineLog(lines.append, interval=5, clock=clock)
    work(log, clock, range(1, 11), 100, "images", 1.0)
    assert lines == ["5/100 images, 1.0 images/s, 95 s left", "10/100 images, 1.0 images/s, 90 s left"]
    lines.clear()
    work(log, clock, range(1, 101), 100, "images", 0.5)  # again from the start, twice as fast
    assert lines[0] == "10/100 images, 2.0 images/s, 45 s left"
    assert lines[-1] == "100/100 images, 2.0 images/s"
    lines.clear()
    work(log, clock, range(60, 71), 100, "steps", 5.0)  # resumed: what was there before does not count as speed
    assert lines[-1] == "70/100 steps, 0.2 steps/s, 150 s left"


def test_what_follows_a_training_keeps_nothing_of_its_rate() -> None:
    clock, lines = Clock(), list[str]()
    log = LineLog(lines.append, interval=5, clock=clock)
    work(log, clock, range(1, 101), 100, "steps", 60.0)
    lines.clear()
    clock.now += 500  # held-out images, of which nothing is told
    work(log, clock, range(8, 81, 8), 80, "test images", 4.0)
    assert lines == [
        "8/80 test images",
        "24/80 test images, 2.0 test images/s, 28 s left",
        "40/80 test images, 2.0 test images/s, 20 s left",
        "56/80 test images, 2.0 test images/s, 12 s left",
        "72/80 test images, 2.0 test images/s, 4 s left",
        "80/80 test images, 2.0 test images/s",
    ]


def test_one_unit_has_no_rate() -> None:
    clock, lines = Clock(), list[str]()
    LineLog(lines.append, clock=clock).progress(1, 1, "buckets")
    assert lines == ["1/1 buckets"]


def test_a_terminal_shows_a_bar_and_keeps_a_line() -> None:
    clock, screen = Clock(), io.StringIO()
    log = TerminalLog(Console(file=screen, force_terminal=True, width=100), clock=clock)
    log.info("reading [all] of it")
    work(log, clock, range(1, 10), 10, "images", 1.0)
    drawn = screen.getvalue()
    assert "reading [all] of it" in drawn
    assert "9/10" in drawn
    assert "0:00:01" in drawn
    work(log, clock, range(10, 11), 10, "images", 1.0)
    log.close()
    assert "10/10 images, 1.0 images/s\n" in screen.getvalue()
