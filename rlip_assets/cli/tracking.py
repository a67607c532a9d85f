"""`rlip tracking`: what stages reported and the tracking store does not have yet, or has had long enough."""

from __future__ import annotations

from typing import Annotated

import typer

from rlip_assets.lineage.profiles import PARAMS_FILE, profile_names, profile_root
from rlip_assets.tracking.address import require_store

tracking = typer.Typer(
    add_completion=False,
    rich_markup_mode=None,
    no_args_is_help=True,
    help="Reports that wait for the tracking store, and its old runs.",
)


@tracking.command()
def send(
    redirect: Annotated[
        bool,
        typer.Option("--redirect", help="Send what was meant for another store to this one too, from the beginning."),
    ] = False,
) -> None:
    """Send what waits of all profiles to the tracking store; runs of stages that were killed are closed as killed."""
    from rlip_assets.tracking.journal import waiting_journals
    from rlip_assets.tracking.sender import Sender, send_waiting

    roots = [profile_root(name) for name in profile_names()]
    if not any(map(waiting_journals, roots)):
        print("nothing waits")
        return
    require_store()
    sender = Sender()
    for root in roots:
        for sentence in send_waiting(root, sender, redirect=redirect):
            print(sentence)


@tracking.command()
def status() -> None:
    """List what waits, and why."""
    from rlip_assets.tracking.journal import waiting_journals

    waiting = [journal for name in profile_names() for journal in waiting_journals(profile_root(name))]
    for journal in waiting:
        header = journal.header
        state = journal.state.trouble or ("not sent yet" if journal.ended else "is running, or was killed")
        print(f"{header.get('item')} for {header.get('store_name')}: {state} ({journal.folder})")
    if not waiting:
        print("nothing waits")


@tracking.command()
def prune(
    days: Annotated[
        float | None, typer.Option(min=0, help="Instead of `execution.keep_days` of each profile.", show_default=False)
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="List the runs and delete nothing.")] = False,
) -> None:
    """Delete runs of stages that ended long ago and that no alias, result or comparison needs; tracked stages see to it by themselves."""
    require_store()
    from rlip_assets.lineage.params import load_params
    from rlip_assets.tracking.retention import old_runs, sweep
    from rlip_assets.tracking.store import open_store

    client, said = open_store(), False
    for name in profile_names():
        root = profile_root(name)
        age = load_params(root / PARAMS_FILE).execution.keep_days if days is None else days
        if age is None:
            continue
        for sentence in map(str, old_runs(client, root, age)) if dry_run else filter(None, [sweep(root, age)]):
            print(f"{name}: {sentence}")
            said = True
    if not said:
        print("nothing is old enough to be deleted")
