"""Opening of the tracking store for `rlip ui`, in a process of its own, which imports MLflow."""

from __future__ import annotations

import json
import sys

from rlip_assets.lineage.profiles import profile_names, profile_root
from rlip_assets.storage.errors import exit_with_sentence
from rlip_assets.tracking.comparisons import comparisons
from rlip_assets.tracking.sender import Sender, send_waiting
from rlip_assets.tracking.store import open_store


def open_for_ui(profile: str) -> dict[str, str]:
    """Return the address of each comparison in the store.

    Raises:
        InputError: the store does not answer.
    """
    client, sender = open_store(), Sender()
    for name in profile_names():
        for sentence in send_waiting(profile_root(name), sender):
            print(sentence, file=sys.stderr)
    return comparisons(client, profile)


if __name__ == "__main__":
    with exit_with_sentence():
        print(json.dumps(open_for_ui(sys.argv[1])))
