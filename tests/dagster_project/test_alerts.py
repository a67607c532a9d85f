"""A re-tagging that failed or is overdue is told once, to the log and to a webhook."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, HTTPServer
from threading import Thread

import dagster as dg
import pytest
from dagster._core.loader import LoadingContextForTest
from dagster._core.test_utils import freeze_time
from dagster._daemon.freshness import FreshnessDaemon

from dagster_project.definitions import defs
from dagster_project.defs import alerts
from dagster_project.profile import active_profile
from rlip_assets.lineage.params.execution import ExecutionParams

LABELS = dg.AssetKey(["micro", "pseudo_labels"])


class Receiver(HTTPServer):
    """A local webhook; it refuses while `status` is not 200."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.texts: list[str] = []
        self.status = 200


class Handler(BaseHTTPRequestHandler):
    server: Receiver

    def do_POST(self) -> None:
        content = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if self.server.status == 200:
            self.server.texts.append(content["text"])
        self.send_response(self.server.status)
        self.end_headers()

    def log_message(self, *words: object) -> None:
        pass


@pytest.fixture
def receiver(monkeypatch: pytest.MonkeyPatch) -> Iterator[Receiver]:
    with Receiver() as server:
        Thread(target=server.serve_forever, daemon=True).start()
        monkeypatch.setenv("HOOK", f"http://127.0.0.1:{server.server_port}/hook")
        yield server
        server.shutdown()


@pytest.fixture
def store() -> Iterator[dg.DagsterInstance]:
    with dg.instance_for_test() as instance:
        yield instance


def run_retag(instance: dg.DagsterInstance) -> None:
    @dg.op
    def label() -> None:
        raise dg.Failure("dvc.lock is busy", allow_retries=False)

    @dg.job(name="retag")
    def retag() -> None:
        label()

    tags = {"dagster/partition": "coco-0", "rlip/reason": "weekly re-tagging"}
    assert not retag.execute_in_process(instance=instance, raise_on_error=False, tags=tags).success


def tick(instance: dg.DagsterInstance, cursor: str | None = None) -> tuple[str, str | None]:
    """Return what a tick of the sensor says, and its cursor."""
    result = alerts.retagging_alerts(dg.build_sensor_context(instance=instance, cursor=cursor))
    assert isinstance(result, dg.SensorResult)
    assert result.skip_reason is not None
    return str(result.skip_reason.skip_message), result.cursor


def use(monkeypatch: pytest.MonkeyPatch, **execution: object) -> None:
    profile = replace(active_profile(), execution=ExecutionParams.model_validate(execution))
    monkeypatch.setattr(alerts, "active_profile", lambda: profile)


def test_a_failure_is_told_once_with_its_reason(
    store: dg.DagsterInstance, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    use(monkeypatch, webhook="$HOOK")
    assert tick(store)[0] == "no re-tagging has failed or is overdue"
    run_retag(store)
    said, cursor = tick(store)
    assert said.startswith("re-tagging of coco-0 (weekly re-tagging) failed: dvc.lock is busy")
    assert receiver.texts == [said]
    assert tick(store, cursor)[0] == "no re-tagging has failed or is overdue"
    assert len(receiver.texts) == 1


def test_a_webhook_that_is_away_is_told_at_the_next_tick(
    store: dg.DagsterInstance, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    use(monkeypatch, webhook="$HOOK")
    receiver.status = 503
    run_retag(store)
    _, cursor = tick(store)
    receiver.status = 200
    _, cursor = tick(store, cursor)
    tick(store, cursor)
    assert len(receiver.texts) == 1


def test_without_a_webhook_the_log_is_told(store: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch) -> None:
    use(monkeypatch)
    run_retag(store)
    said, cursor = tick(store)
    assert "failed" in said
    assert tick(store, cursor)[0] == "no re-tagging has failed or is overdue"


def test_a_run_that_waits_too_long_is_overdue(
    store: dg.DagsterInstance, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.add_run(dg.DagsterRun("retag", status=dg.DagsterRunStatus.STARTED, tags={"dagster/partition": "coco-1"}))
    use(monkeypatch, webhook="$HOOK")
    assert tick(store)[0] == "no re-tagging has failed or is overdue"
    use(monkeypatch, webhook="$HOOK", retag_hours=1e-6)
    time.sleep(0.1)
    said, _ = tick(store)
    assert said.startswith("re-tagging of coco-1 (by hand) is not done after")
    assert receiver.texts == [said]


def judge(store: dg.DagsterInstance) -> None:
    """Do what Dagster's freshness daemon does every half a minute, for the labels."""
    node = defs().resolve_asset_graph().get(LABELS)
    asyncio.run(FreshnessDaemon()._evaluate_asset(LoadingContextForTest(store), node))


def test_labels_that_were_neither_made_nor_found_current_are_overdue(
    store: dg.DagsterInstance, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    use(monkeypatch, webhook="$HOOK")
    judge(store)
    assert tick(store)[0] == "no re-tagging has failed or is overdue"  # there never were any
    made = dg.AssetMaterialization(LABELS, partition="coco-0")
    for days, overdue in ((9, True), (7, False)):  # a week and `retag_hours`
        with freeze_time(datetime.now(UTC) - timedelta(days=days)):
            store.report_runless_asset_event(made)
        judge(store)
        said, cursor = tick(store)
        assert ("no labels were made or found current for a week and 24 hours" in said) == overdue
        assert tick(store, cursor)[0] == "no re-tagging has failed or is overdue"
    assert len(receiver.texts) == 1


def test_a_schedule_that_failed_is_told(store: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch) -> None:
    use(monkeypatch)

    class Tick:
        timestamp, is_failure, error = time.time(), True, "the tick failed"

    class State:
        instigator_name, is_running, instigator_origin_id, selector_id = "weekly_retag", True, "o", "s"

    monkeypatch.setattr(type(store), "all_instigator_state", lambda self: [State])
    monkeypatch.setattr(type(store), "get_ticks", lambda self, origin, selector, limit: [Tick])
    assert tick(store)[0] == "the schedule weekly_retag failed: the tick failed"
