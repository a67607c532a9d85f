"""What DVC recorded: `dvc.lock`, read directly.

Asking DVC itself takes a second and fails while another process runs a stage; the file is written whole and is always readable.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from rlip_assets.errors import DataError
from rlip_assets.files import digest_json
from rlip_assets.stage_spec import PROVENANCE_FOLDER, StageItem, overlaps

LOCK_FILE = "dvc.lock"
_Loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


@dataclass(frozen=True)
class LockEntry:
    """The last run of one item: hashes of what it read and wrote, parameters it used."""

    command: str
    deps: Mapping[str, str]
    outs: Mapping[str, str]
    params: Mapping[str, Mapping[str, Any]]

    @property
    def data_version(self) -> str:
        """Identity of what the item wrote: the hash of its output, or a digest of the hashes of several."""
        if len(self.outs) == 1:
            return next(iter(self.outs.values()))
        return digest_json(dict(self.outs))[:32]

    @property
    def fingerprint(self) -> str:
        """Identity of the whole entry: a run with other inputs or parameters differs even if it wrote the same."""
        return digest_json(
            [self.command, dict(self.deps), dict(self.outs), {k: dict(v) for k, v in self.params.items()}]
        )[:32]


class DvcLock:
    """The entries of a profile's `dvc.lock` by address; empty where nothing ran yet."""

    def __init__(self, entries: Mapping[str, LockEntry]) -> None:
        self.entries = dict(entries)

    @classmethod
    def read(cls, root: Path) -> DvcLock:
        """The lock of the profile whose root folder is `root`.

        Raises:
            DataError: the file is not a lock.
        """
        path = root / LOCK_FILE
        try:
            content = yaml.load(path.read_text(), Loader=_Loader)
            stages = (content or {}).get("stages", {})
            return cls({address: _entry(stage) for address, stage in stages.items()})
        except FileNotFoundError:
            return cls({})
        except (yaml.YAMLError, KeyError, AttributeError, TypeError) as error:
            raise DataError(
                f"{path} is not a DVC lock file ({error}); restore it with `git checkout {LOCK_FILE}`"
            ) from None

    def get(self, address: str) -> LockEntry | None:
        """The entry of an item, None if it never ran."""
        return self.entries.get(address)

    def output_hash(self, path: str) -> str | None:
        """Recorded hash of what lies at `path`: of an output, or of all outputs inside it together."""
        found = {out: md5 for entry in self.entries.values() for out, md5 in entry.outs.items() if overlaps(path, out)}
        if path in found:
            return found[path]
        return digest_json(found)[:32] if found else None


def present(item: StageItem, root: Path) -> bool:
    """Whether all outputs of an item exist in the tree."""
    return all((root / path).exists() for path in item.outputs.values())


def _entry(stage: Mapping[str, Any]) -> LockEntry:
    return LockEntry(
        command=str(stage["cmd"]),
        deps={dep["path"]: dep.get("md5", "") for dep in stage.get("deps", [])},
        outs={
            out["path"]: out.get("md5", "")
            for out in stage.get("outs", [])
            if not out["path"].startswith(f"{PROVENANCE_FOLDER}/")
        },
        params=stage.get("params", {}),
    )
