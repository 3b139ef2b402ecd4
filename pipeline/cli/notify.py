"""The command that looks after the messages to people outside."""

from pathlib import Path
from typing import Any

import click

from pipeline.cli.options import LIVE, Command, Door, now, output_options

COLUMNS = [
    "message_id",
    "created_at",
    "event",
    "subject",
    "target",
    "status",
    "attempts",
    "due_at",
    "sent_at",
    "error",
]
INSTANTS = ("created_at", "due_at", "sent_at")


@click.command(
    cls=Command,
    epilog="""
    fraudwatch notify --test
    fraudwatch notify --pending
    fraudwatch notify --show 12
    fraudwatch notify --send
    """,
)
@click.option(
    "--test",
    is_flag=True,
    help="Send one message to each URL of [notify], try templates, and tell what came of it.",
)
@click.option(
    "--send", is_flag=True, help="Write what is new and send what is due, as the end of a run does."
)
@click.option("--retry", is_flag=True, help="The same, for messages that failed for good, too.")
@click.option("--pending", is_flag=True, help="List only what waits or failed.")
@click.option("--show", "message_id", type=click.IntRange(min=1), help="Print this message in full.")
@click.option("--limit", type=click.IntRange(min=1), default=20, show_default=True)
@output_options
@click.pass_obj
def notify(
    door: Door,
    test: bool,
    send: bool,
    retry: bool,
    pending: bool,
    message_id: int | None,
    limit: int,
    form: str,
    output: Path | None,
) -> None:
    """List messages to people outside, the newest first; try the URLs; send what waits.

    --test and --send end with 1 when a message did not arrive or a template cannot be used.
    """
    if test:
        _test(door)
    elif send or retry:
        _send(door, retry=retry)
    elif message_id is not None:
        _show(door, message_id)
    else:
        _list(door, pending, limit, form, output)


def _test(door: Door) -> None:
    from pipeline.notifications.deliver import try_out
    from pipeline.notifications.messages import wrong_templates

    config = door.config()
    if not config.notify.wanted:
        raise click.UsageError(
            "notify.urls names no one to tell: set FRAUDWATCH_NOTIFY__URLS='[\"mailtos://…\"]' or notify.urls_file"
        )
    failed = False
    for wrong in wrong_templates(config):
        failed = True
        click.echo(wrong)
    for who, error in try_out(config):
        failed |= error is not None
        click.echo(f"{who}: sent" if error is None else f"failed: {error}")
    if failed:
        raise SystemExit(1)


def _send(door: Door, *, retry: bool) -> None:
    from pipeline.notifications.deliver import tell
    from storage.notifications import outbox

    config = door.config()
    with door.store(config) as store:
        if retry:
            outbox.retry(store, now())
        told = tell(store, config, LIVE, clock=now, by=door.actor)
    click.echo(told.sentence())
    if told.failed:
        raise SystemExit(1)


def _show(door: Door, message_id: int) -> None:
    from pipeline.sanitize import for_terminal
    from storage.notifications import outbox

    with door.store(door.config()) as store:
        row = _readable(outbox.message(store, message_id))
    for name in ("event", "status", "created_at", "sent_at", "error", "key", "subject"):
        if row[name] is not None:
            click.echo(f"{name}: {for_terminal(str(row[name]))}")
    click.echo()
    for line in row["body"].splitlines():
        click.echo(for_terminal(line))


def _list(door: Door, pending: bool, limit: int, form: str, output: Path | None) -> None:
    from pipeline.cli import output as console
    from storage.notifications import outbox

    with door.store(door.config()) as store:
        rows = [_readable(row) for row in outbox.listing(store, limit, only_open=pending)]
    console.show(
        rows, COLUMNS, form, output, "no message waits" if pending else "no message was ever written"
    )


def _readable(row: dict[str, Any]) -> dict[str, Any]:
    from storage.database.column_types import as_datetime

    times = {
        name: None if row[name] is None else as_datetime(row[name]).isoformat(sep=" ", timespec="seconds")
        for name in INSTANTS
    }
    return row | times
