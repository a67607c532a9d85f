"""The DVC remote that `dvc push` and `dvc pull` use, where one is set."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from rlip_assets.doctor.checks.object_stores import _first_object
from rlip_assets.doctor.examination import Examination
from rlip_assets.doctor.finding import Finding, Level, failed, ok, skipped


def check(case: Examination) -> Iterator[Finding]:
    """Look at the default remote."""
    from dvc.config import Config, ConfigError

    if not (case.root / ".dvc").is_dir():
        return
    try:
        config = Config(str(case.root / ".dvc"))
        name = config["core"].get("remote")
        url = config["remote"].get(name, {}).get("url") if name else None
    except ConfigError as error:
        yield failed("DVC", f"{case.root / '.dvc'} cannot be used: {error}", "correct the file")
        return
    if name is None:
        yield skipped("DVC remote", "none is set: results stay on this machine", "dvc remote add --default NAME URL")
    elif url is None:
        yield failed("DVC remote", f"there is no remote {name!r}", f"dvc remote add {name} URL, or unset core.remote")
    elif url.startswith("s3://"):
        found = _first_object("DVC remote", url)
        empty = found.level is Level.FAILED and "has no objects" in found.message
        yield ok("DVC remote", f"{url} answers, and is empty") if empty else found
    elif "://" in url:
        yield skipped("DVC remote", f"{url} is not asked", "dvc status --cloud")
    elif Path(url).is_dir():
        yield ok("DVC remote", url)
    else:
        yield failed("DVC remote", f"the folder {url} of the remote {name!r} does not exist", "mount or make it")
