"""Commands about mutes, which hide expected flags from messages and lists for a while."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from pipeline.cli.options import (
    LIVE,
    CliContext,
    Group,
    InstantParam,
    now,
    output_options,
    parse_entity,
    to_instant,
)

if TYPE_CHECKING:
    from pipeline.config.config import Config

COLUMNS = ["mute_id", "target", "reason", "by", "effective_from", "until", "ended_at", "state", "flags"]
reason_option = click.option("--reason", required=True, help="Stored with it and in the audit trail.")


def expiry_options(command: Any) -> Any:
    """--until and --for; one of them is required."""
    command = click.option("--until", type=InstantParam(), help="End at this time.")(command)
    return click.option("--for", "span", metavar="SPAN", help="End after this time span, for example 7d.")(
        command
    )


def parse_expiry(until: Any, span: str | None, config: "Config", moment: int) -> int:
    """The end in µs, from --until or --for."""
    from pipeline.durations import parse_duration

    if (until is None) == (span is None):
        raise click.UsageError("give either --for or --until, for example --for 7d or --until 2026-04-01")
    try:
        end = moment + parse_duration(span) if span else to_instant(until, config.schedule.timezone)
    except ValueError as error:
        raise click.UsageError(f"--for {span!r} {error}") from None
    if end <= moment:
        raise click.UsageError(f"--until {until} is in the past: give a later time")
    return end


@click.group(
    cls=Group,
    invoke_without_command=True,
    epilog="""
    fraudwatch mute --entity customer_id=C001234 --for 7d --reason "travels, called"
    fraudwatch mute --feature merchant_id_count_1d --for 3d --reason "sale at three shops"
    fraudwatch mute --channel audit --until 2026-04-01 --reason "nobody to review it"
    """,
)
@click.option("--entity", metavar="COLUMN=VALUE", help="Flags of this customer, card, merchant …")
@click.option("--feature", help="Flags whose strongest reason is this feature, or has this code.")
@click.option("--channel", help="outlier, blend, classification, novelty, audit or rule.")
@expiry_options
@click.option("--reason", help="Stored with it and in the audit trail.")
@click.pass_context
def mute(ctx: click.Context, /, **options: Any) -> None:
    """Hide flags from messages and from the list of flags for a while.

    Muted flags are still stored: fraudwatch flags list --muted shows them. A mute applies to transactions from now on.
    """
    if ctx.invoked_subcommand is None:
        _add(ctx.obj, **options)


def _add(
    context: CliContext,
    entity: str | None,
    feature: str | None,
    channel: str | None,
    until: Any,
    span: str | None,
    reason: str | None,
) -> None:
    from storage.review import rules_and_mutes

    if [entity, feature, channel].count(None) != 2:
        raise click.UsageError("mute one thing: --entity COLUMN=VALUE, --feature NAME or --channel NAME")
    if not reason:
        raise click.UsageError('Missing option --reason, for example --reason "customer travels"')
    config, moment = context.load_config(), now()
    target = _mute_target(config, entity, feature, channel)
    end = parse_expiry(until, span, config, moment)
    with context.open_store(config) as store:
        number, start = rules_and_mutes.add(
            store, rules_and_mutes.MUTE, target, end, reason, context.actor, moment
        )
    click.echo(
        f"mute {number}: {_target_text(target)} from {_instant_text(start)} to {_instant_text(end)}; fraudwatch mute end {number} ends it"
    )


def _mute_target(
    config: "Config", entity: str | None, feature: str | None, channel: str | None
) -> dict[str, Any]:
    from pipeline.ingest.row_checks import hasher_of
    from pipeline.rules.mutes import CHANNELS, known_feature

    if entity is not None:
        column, value = parse_entity(entity, config)
        hasher = hasher_of(config) if column in config.schema_.hash else None
        return {"kind": "entity", "name": column, "value": value if hasher is None else hasher.hash(value)}
    if feature is not None:
        return {"kind": "feature", "name": known_feature(feature, config), "value": None}
    if channel not in CHANNELS:
        raise click.UsageError(f"--channel {channel!r} is none of {', '.join(CHANNELS)}")
    return {"kind": "channel", "name": channel, "value": None}


def _target_text(row: dict[str, Any]) -> str:
    return f"{row['kind']} {row['name']}" + (f"={row['value']}" if row["value"] is not None else "")


def _instant_text(value: int) -> str:
    from storage.database.column_types import as_datetime

    return as_datetime(value).isoformat(sep=" ", timespec="seconds")


def display_row(row: dict[str, Any], moment: int, flags: int) -> dict[str, Any]:
    """A rule or mute as a row for display: readable times, its state, and its number of flags."""
    state = "ended" if row["end"] <= moment else "in force" if row["effective_from"] <= moment else "planned"
    times = {
        name: None if row[name] is None else _instant_text(row[name])
        for name in ("effective_from", "until", "ended_at")
    }
    return row | times | {"state": state, "flags": flags}


@mute.command("list", epilog="fraudwatch mute list\nfraudwatch mute list --format json")
@output_options
@click.pass_obj
def list_mutes(context: CliContext, output_format: str, output: Path | None) -> None:
    """List mutes with their reason, author and end, and how many flags each has muted."""
    from pipeline.cli.output import write_rows
    from storage.review import rules_and_mutes

    moment = now()
    with context.open_store(context.load_config()) as store:
        flag_counts = rules_and_mutes.muted_by(store, LIVE)
        rows = [
            display_row(row, moment, flag_counts.get(row["mute_id"], 0)) | {"target": _target_text(row)}
            for row in reversed(rules_and_mutes.every(store, rules_and_mutes.MUTE))
        ]
    write_rows(rows, COLUMNS, output_format, output, "nothing is muted: see fraudwatch mute --help")


@mute.command("end", epilog="fraudwatch mute end 3")
@click.argument("mute_id", type=click.IntRange(min=1))
@click.pass_obj
def end_mute(context: CliContext, mute_id: int) -> None:
    """End a mute early; flags that it has muted stay muted."""
    from storage.review import rules_and_mutes

    with context.open_store(context.load_config()) as store:
        at = rules_and_mutes.end(store, rules_and_mutes.MUTE, mute_id, context.actor, now())
    click.echo(f"mute {mute_id} ends at {_instant_text(at)}")
