"""Commands about mutes, which hide expected flags from messages and lists for a while."""

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from pipeline.cli.options import (
    CliContext,
    Group,
    expiry,
    expiry_options,
    output_options,
    parse_entity,
    reason_option,
)

if TYPE_CHECKING:
    from pipeline.config.config import Config
    from pipeline.services.review.mutes import MuteTarget, StoredMute

COLUMNS = ["mute_id", "target", "reason", "by", "effective_from", "until", "ended_at", "state", "flags"]


@click.group(cls=Group)
def mutes() -> None:
    """Hide flags from messages and lists for a while.

    Muted flags are stored all the same: fraudwatch flags list --muted shows them. A mute applies to transactions from now on.
    """


@mutes.command(
    "add",
    epilog="""
    fraudwatch mutes add --entity customer_id=C001234 --for 7d --reason "travels, called"
    fraudwatch mutes add --feature merchant_id_count_1d --for 3d --reason "sale at three shops"
    fraudwatch mutes add --channel audit --until 2026-04-01 --reason "nobody to review it"
    """,
)
@click.option("--entity", metavar="COLUMN=VALUE", help="Flags of this customer, card, merchant …")
@click.option("--feature", help="Flags whose strongest reason is this feature, or has this code.")
@click.option("--channel", help="outlier, blend, classification, novelty, audit or rule.")
@expiry_options
@reason_option
@click.pass_obj
def add_mute(
    context: CliContext,
    entity: str | None,
    feature: str | None,
    channel: str | None,
    until: Any,
    span: Any,
    reason: str,
) -> None:
    """Mute the flags of one entity, feature or channel for a while."""
    from pipeline.sanitize import for_terminal
    from pipeline.services.review.mutes import NewMute
    from pipeline.services.review.mutes import add_mute as add

    with context.session() as session:
        target = _target(session.config, entity, feature, channel)
        end = expiry(until, span, session.config.schedule.timezone)
        mute = add(session, NewMute(end, reason, target))
    click.echo(
        f"mute {mute.mute_id}: {for_terminal(_target_text(mute))} from {mute.effective_from:%Y-%m-%d %H:%M:%S} to "
        f"{mute.until:%Y-%m-%d %H:%M:%S} UTC; fraudwatch mutes end {mute.mute_id} ends it"
    )


def _target(config: "Config", entity: str | None, feature: str | None, channel: str | None) -> "MuteTarget":
    from pipeline.services.review.mutes import ChannelTarget, EntityTarget, FeatureTarget

    if [entity, feature, channel].count(None) != 2:
        raise click.UsageError("mute one thing: --entity COLUMN=VALUE, --feature NAME or --channel NAME")
    if entity is not None:
        return EntityTarget(*parse_entity(entity, config))
    return FeatureTarget(feature) if feature is not None else ChannelTarget(str(channel))


def _target_text(mute: "StoredMute") -> str:
    return f"{mute.kind} {mute.name}" + (f"={mute.value}" if mute.value is not None else "")


@mutes.command("list", epilog="fraudwatch mutes list\nfraudwatch mutes list --format json")
@output_options
@click.pass_obj
def list_mutes(context: CliContext, output_format: str, output: Path | None) -> None:
    """List mutes with reason, author, end and number of flags."""
    from pipeline.cli.output import write_rows
    from pipeline.services.pages import every
    from pipeline.services.review.mutes import list_mutes as mute_page

    with context.session() as session:
        rows = (asdict(mute) | {"target": _target_text(mute)} for mute in every(mute_page, session))
        write_rows(rows, COLUMNS, output_format, output, "nothing is muted: see fraudwatch mutes add --help")


@mutes.command("end", epilog="fraudwatch mutes end 3")
@click.argument("mute_id", type=click.IntRange(min=1))
@click.pass_obj
def end_mute(context: CliContext, mute_id: int) -> None:
    """End a mute early; flags that it has muted stay muted."""
    from pipeline.services.review.mutes import end_mute as end

    with context.session() as session:
        at = end(session, mute_id)
    click.echo(f"mute {mute_id} ends at {at:%Y-%m-%d %H:%M:%S} UTC")
