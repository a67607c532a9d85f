"""Opening of the tracking store for `rlip ui`, in a process of its own, which imports MLflow."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from rlip_assets.lineage.profiles import profile_names, profile_root
from rlip_assets.storage.errors import exit_with_sentence
from rlip_assets.tracking.address import STORE_VARIABLE
from rlip_assets.tracking.comparisons import comparisons
from rlip_assets.tracking.journal import waiting_journals
from rlip_assets.tracking.sender import Sender, send_waiting
from rlip_assets.tracking.store import KEY_TAG, all_runs, open_store

if TYPE_CHECKING:
    from mlflow.tracking import MlflowClient


def open_for_ui(profile: str) -> dict[str, str]:
    """Return the address of each comparison in the store.

    Raises:
        InputError: the store does not answer.
    """
    client, sender = open_store(), Sender()
    for name in profile_names():
        for sentence in send_waiting(profile_root(name), sender):
            print(sentence, file=sys.stderr)
    if not os.environ.get(STORE_VARIABLE):
        close_abandoned(client, {name: profile_root(name) for name in profile_names()})
    return comparisons(client, profile)


def close_abandoned(client: MlflowClient, profiles: Mapping[str, Path]) -> list[str]:
    """Close as KILLED the runs of stages of these profiles that are over although nothing told the store; return their ids.

    A stage that is running, or whose end waits to be sent, has a journal. Only for a store of this project's alone: a journal may
    lie on another machine.
    """
    running = all_runs(client, "attributes.status = 'RUNNING'")
    ours = {run.info.run_id: run.data.tags for run in running if run.data.tags.get("profile") in profiles}
    waiting = {journal.key for root in profiles.values() for journal in waiting_journals(root)}
    closed = []
    for run, tags in ours.items():
        if "stage" in tags and tags.get(KEY_TAG) not in waiting and client.get_run(run).info.status == "RUNNING":
            client.set_terminated(run, "KILLED")
            closed.append(run)
    return closed


if __name__ == "__main__":
    with exit_with_sentence():
        print(json.dumps(open_for_ui(sys.argv[1])))
