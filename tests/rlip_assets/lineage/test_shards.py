"""Shards: found again after a kill, made again when damaged or changed, and nothing else."""

from __future__ import annotations

import shutil
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlip_assets.lineage import shard_progress
from rlip_assets.lineage.context import NullLog
from rlip_assets.lineage.shard_progress import rows_done
from rlip_assets.lineage.shards import Shard, ShardStore, add_figures, collect, shard_count, shard_of, split
from rlip_assets.storage.errors import DataError

IDS = [str(i) for i in range(40)]


class Maker:
    """Writes the ids of a shard; fails at call number `fail_at`."""

    def __init__(self, fail_at: int = -1) -> None:
        self.calls, self.fail_at = 0, fail_at

    def __call__(self, rows: list[str], folder: Path) -> dict[str, Any]:
        self.calls += 1
        (folder / "ids.parquet").write_text("\n".join(rows))
        if self.calls == self.fail_at:
            raise KeyboardInterrupt
        return {"images": len(rows), "first": {rows[0]: 1}}


def shards_of(ids: list[str], rows_per_shard: int = 10) -> list[Shard[str]]:
    return split(ids, rows_per_shard, lambda row: row, lambda row: row)


def test_split_keeps_every_row_once_in_order() -> None:
    shards = shards_of(IDS)
    assert len(shards) == 4
    assert sorted(row for shard in shards for row in shard.rows) == sorted(IDS)
    assert all(shard.rows == sorted(shard.rows, key=int) for shard in shards)
    assert all(shard_of(row, 4) == shard.index for shard in shards for row in shard.rows)


def test_no_rows_make_one_empty_shard() -> None:
    assert [shard.rows for shard in shards_of([])] == [[]]


@given(st.integers(0, 5000), st.integers(1, 100))
def test_shard_count_is_the_smallest_power_of_two(rows: int, size: int) -> None:
    count = shard_count(rows, size)
    assert count & (count - 1) == 0
    assert count * size >= rows
    assert count == 1 or count // 2 * size < rows


def test_a_new_row_changes_one_shard() -> None:
    before, after = ({s.index: s.content for s in shards_of(ids, 11)} for ids in (IDS, [*IDS, "new"]))
    assert [index for index in before if before[index] != after[index]] == [shard_of("new", 4)]


def test_a_killed_run_resumes_and_ends_with_the_same_bytes(tmp_path: Path) -> None:
    whole = ShardStore(tmp_path / "a", {"p": 1}).make_all(shards_of(IDS), Maker(), NullLog(), "rows")
    store = ShardStore(tmp_path / "b", {"p": 1})
    with pytest.raises(KeyboardInterrupt):
        store.make_all(shards_of(IDS), Maker(fail_at=3), NullLog(), "rows")
    again = Maker()
    resumed = store.make_all(shards_of(IDS), again, NullLog(), "rows")
    assert again.calls == 2
    assert [shard.reused for shard in resumed] == [True, True, False, False]
    assert [shard.figures for shard in resumed] == [shard.figures for shard in whole]
    for name, finished in (("x", whole), ("y", resumed)):
        (tmp_path / name).mkdir()
        collect(finished, tmp_path / name, "ids.parquet")
    files = [sorted((tmp_path / name).iterdir()) for name in ("x", "y")]
    assert [f.name for f in files[0]] == [f"part-0000{i}.parquet" for i in range(4)]
    assert [f.read_bytes() for f in files[0]] == [f.read_bytes() for f in files[1]]


def test_settings_content_and_damage_make_a_shard_again(tmp_path: Path) -> None:
    def calls(settings: dict[str, Any], ids: list[str]) -> int:
        maker = Maker()
        ShardStore(tmp_path, settings).make_all(shards_of(ids, 100), maker, NullLog(), "rows")
        return maker.calls

    assert calls({"p": 1}, IDS) == 1
    assert calls({"p": 1}, IDS) == 0
    assert calls({"p": 2}, IDS) == 1
    assert calls({"p": 2}, [*IDS, "new"]) == 1
    (file,) = tmp_path.glob("*/ids.parquet")
    file.write_text("damaged")
    assert calls({"p": 2}, [*IDS, "new"]) == 1


def test_shards_that_a_run_did_not_use_are_forgotten(tmp_path: Path) -> None:
    store = ShardStore(tmp_path, {})
    store.make_all(shards_of(IDS), Maker(), NullLog(), "rows")
    store.make_all(shards_of(IDS[:5]), Maker(), NullLog(), "rows")
    assert len([entry for entry in tmp_path.iterdir() if entry.is_dir()]) == 1


def test_figures_are_added_by_kind() -> None:
    total = add_figures([{"n": 1, "by": {"a": 1}, "l": [1]}, {"n": 2.5, "by": {"a": 2, "b": 1}, "l": [2]}])
    assert total == {"n": 3.5, "by": {"a": 3, "b": 1}, "l": [1, 2]}
    with pytest.raises(DataError, match="figure 'n'"):
        add_figures([{"n": 1}, {"n": {"a": 1}}])


def test_two_runs_that_want_one_shard_make_it_once(tmp_path: Path) -> None:
    """The one that comes second waits, and finds the shard of the first."""
    began, maker = threading.Event(), Maker()

    def slow(rows: list[str], folder: Path) -> dict[str, Any]:
        began.set()
        time.sleep(0.3)
        return maker(rows, folder)

    found: list[bool] = []

    def run() -> None:
        shards = ShardStore(tmp_path, {}).make_all(shards_of(IDS, 100), slow, NullLog(), "rows")
        found.extend(shard.reused for shard in shards)

    first, second = threading.Thread(target=run), threading.Thread(target=run)
    first.start()
    assert began.wait(10)
    second.start()
    first.join()
    second.join()
    assert (maker.calls, found) == (1, [False, True])


class Reports(NullLog):
    """Keeps what was reported of the progress."""

    def __init__(self) -> None:
        self.done: list[int] = []

    def progress(self, done: int, total: int, unit: str) -> None:
        assert (total, unit) == (40, "rows")
        self.done.append(done)


def test_progress_is_told_inside_a_shard(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows of a shard count as they are done, and what an earlier run finished is there from the start."""
    monkeypatch.setattr(shard_progress, "_SECONDS", 0.0)
    maker = Maker()

    def make(rows: list[str], folder: Path) -> dict[str, Any]:
        for _ in rows[:-1]:
            rows_done()
        return maker(rows, folder)

    rows_done(7)  # outside of a shard, for nobody
    store, shards, log = ShardStore(tmp_path, {}), shards_of(IDS), Reports()
    store.make_all(shards, make, log, "rows")
    assert log.done[0] == 0
    assert log.done[-1] == 40
    assert log.done == sorted(log.done)
    assert len(set(log.done)) == 41
    shutil.rmtree(next(folder for folder in tmp_path.iterdir() if folder.is_dir()))
    again = Reports()
    made = store.make_all(shards, make, again, "rows")
    assert [shard.reused for shard in made].count(False) == 1
    new = next(len(shard.rows) for shard, done in zip(shards, made, strict=True) if not done.reused)
    assert again.done[0] == 40 - new
    assert not list(tmp_path.glob("*.rows"))
