"""Commands for notifications: list and show messages, test the receivers, send and retry."""

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from pipeline.cli.options import CliContext, Group, output_options

if TYPE_CHECKING:
    from pipeline.notifications.deliver import Delivery

COLUMNS = [
    "message_id",
    "created_at",
    "event",
    "subject",
    "receiver",
    "status",
    "attempts",
    "due_at",
    "sent_at",
    "error",
]


@click.group(
    cls=Group,
    epilog="""
    fraudwatch notify test
    fraudwatch notify list --waiting
    fraudwatch notify retry
    """,
)
def notify() -> None:
    """List, test and send notification messages."""


@notify.command("list", epilog="fraudwatch notify list\nfraudwatch notify list --waiting --format json")
@click.option("--waiting", is_flag=True, help="Only messages that are waiting or failed.")
@click.option("--limit", type=click.IntRange(min=1), default=20, show_default=True)
@output_options
@click.pass_obj
def list_messages(
    context: CliContext, waiting: bool, limit: int, output_format: str, output: Path | None
) -> None:
    """List messages, newest first."""
    from pipeline.cli.output import write_rows
    from pipeline.services.monitoring import notifications
    from pipeline.services.pages import every

    with context.session() as session:
        listed = every(notifications.list_messages, session, waiting, limit=limit)
        empty = "no message is waiting" if waiting else "there are no messages"
        write_rows((asdict(message) for message in listed), COLUMNS, output_format, output, empty)


@notify.command("show", epilog="fraudwatch notify show 12")
@click.argument("message_id", type=click.IntRange(min=1))
@click.pass_obj
def show_message(context: CliContext, message_id: int) -> None:
    """Print a message in full."""
    from pipeline.sanitize import for_terminal
    from pipeline.services.monitoring import notifications

    with context.session() as session:
        message = asdict(notifications.show_message(session, message_id))
    for name in ("event", "status", "created_at", "sent_at", "error", "key", "subject"):
        if message[name] is not None:
            click.echo(f"{name}: {for_terminal(str(message[name]))}")
    click.echo()
    for line in message["body"].splitlines():
        click.echo(for_terminal(line))


@notify.command("test", epilog="fraudwatch notify test")
@click.pass_obj
def test_receivers(context: CliContext) -> None:
    """Send a test message to each URL of [notify].

    Exit code 1 if one did not arrive.
    """
    from pipeline.services.monitoring import notifications

    failed = False
    with context.session() as session:
        for tested in notifications.test_receivers(session):
            failed |= tested.error is not None
            click.echo(f"{tested.name}: sent" if tested.error is None else f"failed: {tested.error}")
    if failed:
        raise SystemExit(1)


@notify.command("send", epilog="fraudwatch notify send")
@click.pass_obj
def send_messages(context: CliContext) -> None:
    """Queue messages for new events and send those due.

    A run does the same at its end. Exit code 1 if one did not arrive.
    """
    _send(context, retry=False)


@notify.command("retry", epilog="fraudwatch notify retry")
@click.pass_obj
def retry_messages(context: CliContext) -> None:
    """Send messages again that have no attempts left.

    Those that are due are sent, too. Exit code 1 if one did not arrive.
    """
    _send(context, retry=True)


def _send(context: CliContext, *, retry: bool) -> None:
    from pipeline.services.monitoring import notifications

    with context.session() as session:
        delivery = notifications.send_messages(session, retry=retry)
    click.echo(delivery_text(delivery))
    if delivery.errors:
        raise SystemExit(1)


def delivery_text(delivery: "Delivery") -> str:
    """What was sent, deferred and failed, as one sentence."""
    parts = [f"{delivery.sent:,} message{'' if delivery.sent == 1 else 's'} sent"]
    if delivery.deferred:
        parts.append(f"{delivery.deferred:,} deferred")
    if delivery.errors:
        parts.append(f"{len(delivery.errors):,} could not be sent: {'; '.join(delivery.errors)}")
    return ", ".join(parts)
