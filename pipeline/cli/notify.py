"""The command for notifications: list messages, test the URLs, send and retry."""

from pathlib import Path
from typing import Any

import click

from pipeline.cli.options import LIVE, CliContext, Command, now, output_options

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
    help="Send a test message to each URL of [notify] and check the templates.",
)
@click.option(
    "--send", is_flag=True, help="Queue messages for new events and send those that are due, as a run does."
)
@click.option("--retry", is_flag=True, help="The same, and retry messages that have no attempts left.")
@click.option("--pending", is_flag=True, help="List only messages that are waiting or failed.")
@click.option("--show", "message_id", type=click.IntRange(min=1), help="Print this message in full.")
@click.option("--limit", type=click.IntRange(min=1), default=20, show_default=True)
@output_options
@click.pass_obj
def notify(
    context: CliContext,
    test: bool,
    send: bool,
    retry: bool,
    pending: bool,
    message_id: int | None,
    limit: int,
    output_format: str,
    output: Path | None,
) -> None:
    """List, test and send notification messages.

    Exit code 1 if --test or --send could not deliver a message or use a template.
    """
    if test:
        _test(context)
    elif send or retry:
        _send(context, retry=retry)
    elif message_id is not None:
        _show(context, message_id)
    else:
        _list(context, pending, limit, output_format, output)


def _test(context: CliContext) -> None:
    from pipeline.notifications.deliver import send_test_messages
    from pipeline.notifications.messages import template_errors

    config = context.load_config()
    if not config.notify.enabled:
        raise click.UsageError(
            "notify.urls is empty: set FRAUDWATCH_NOTIFY__URLS='[\"mailtos://…\"]' or notify.urls_file"
        )
    failed = False
    for message in template_errors(config):
        failed = True
        click.echo(message)
    for receiver, error in send_test_messages(config):
        failed |= error is not None
        click.echo(f"{receiver}: sent" if error is None else f"failed: {error}")
    if failed:
        raise SystemExit(1)


def _send(context: CliContext, *, retry: bool) -> None:
    from pipeline.notifications.deliver import send_notifications
    from storage.notifications import outbox

    config = context.load_config()
    with context.open_store(config) as store:
        if retry:
            outbox.retry(store, now())
        delivery = send_notifications(store, config, LIVE, clock=now, by=context.actor)
    click.echo(delivery.sentence())
    if delivery.failed:
        raise SystemExit(1)


def _show(context: CliContext, message_id: int) -> None:
    from pipeline.sanitize import for_terminal
    from storage.notifications import outbox

    with context.open_store(context.load_config()) as store:
        row = _readable(outbox.message(store, message_id))
    for name in ("event", "status", "created_at", "sent_at", "error", "key", "subject"):
        if row[name] is not None:
            click.echo(f"{name}: {for_terminal(str(row[name]))}")
    click.echo()
    for line in row["body"].splitlines():
        click.echo(for_terminal(line))


def _list(context: CliContext, pending: bool, limit: int, output_format: str, output: Path | None) -> None:
    from pipeline.cli.output import write_rows
    from storage.notifications import outbox

    with context.open_store(context.load_config()) as store:
        rows = [_readable(row) for row in outbox.listing(store, limit, only_open=pending)]
    write_rows(
        rows, COLUMNS, output_format, output, "no message is waiting" if pending else "there are no messages"
    )


def _readable(row: dict[str, Any]) -> dict[str, Any]:
    from storage.database.column_types import as_datetime

    times = {
        name: None if row[name] is None else as_datetime(row[name]).isoformat(sep=" ", timespec="seconds")
        for name in INSTANTS
    }
    return row | times
