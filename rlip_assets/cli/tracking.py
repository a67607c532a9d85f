"""`rlip tracking`: what stages reported and the tracking store does not have yet."""

from __future__ import annotations

from typing import Annotated

import typer

from rlip_assets.lineage.profiles import profile_names, profile_root

tracking = typer.Typer(
    add_completion=False, rich_markup_mode=None, no_args_is_help=True, help="Reports that wait for the tracking store."
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
    from rlip_assets.tracking.store import open_store

    roots = [profile_root(name) for name in profile_names()]
    if not any(map(waiting_journals, roots)):
        print("nothing waits")
        return
    open_store()
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
