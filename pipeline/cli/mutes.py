"""The command that keeps people from being told, for a while, of flags they know about."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from pipeline.cli.options import (
    LIVE,
    Door,
    Instant,
    entity_of,
    in_zone,
    now,
    output_options,
)

if TYPE_CHECKING:
    from pipeline.config.config import Config

COLUMNS = ["mute_id", "what", "reason", "by", "effective_from", "until", "ended_at", "state", "flags"]
REASON = click.option("--reason", required=True, help="Kept with it and in the audit trail.")


def expiry_options(command: Any) -> Any:
    """--until and --for: nothing holds for ever."""
    command = click.option("--until", type=Instant(), help="It holds until this time.")(command)
    return click.option("--for", "span", metavar="SPAN", help="Or so long from now on: 7d.")(command)


def expiry(until: Any, span: str | None, config: "Config", moment: int) -> int:
    """The instant at which it ends, in µs."""
    from pipeline.durations import parse_duration

    if (until is None) == (span is None):
        raise click.UsageError("say when it ends: --for 7d or --until 2026-04-01, one of the two")
    try:
        end = moment + parse_duration(span) if span else in_zone(until, config.schedule.timezone)
    except ValueError as error:
        raise click.UsageError(f"--for {span!r} {error}") from None
    if end <= moment:
        raise click.UsageError(f"--until {until} has passed: it would never hold")
    return end


@click.group(
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
@click.option("--reason", help="Kept with it and in the audit trail.")
@click.pass_context
def mute(context: click.Context, /, **options: Any) -> None:
    """Keep flags out of messages and of the list for a while.

    They are still written, and marked: fraudwatch flags --muted shows them. It holds for what happens from now on.
    """
    if context.invoked_subcommand is None:
        _add(context.obj, **options)


def _add(
    door: Door,
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
        raise click.UsageError("--reason is missing: whoever looks for these flags later will want to know")
    config, moment = door.config(), now()
    said = _said(config, entity, feature, channel)
    end = expiry(until, span, config, moment)
    with door.store(config) as store:
        number, start = rules_and_mutes.add(
            store, rules_and_mutes.MUTE, said, end, reason, door.actor, moment
        )
    click.echo(
        f"mute {number}: {_what(said)} from {_instant(start)} to {_instant(end)}; fraudwatch mute end {number} ends it"
    )


def _said(config: "Config", entity: str | None, feature: str | None, channel: str | None) -> dict[str, Any]:
    from pipeline.ingest.row_checks import hasher_of
    from pipeline.rules.mutes import CHANNELS, known_feature

    if entity is not None:
        column, value = entity_of(entity, config)
        hasher = hasher_of(config) if column in config.schema_.hash else None
        return {"kind": "entity", "name": column, "value": value if hasher is None else hasher.hash(value)}
    if feature is not None:
        return {"kind": "feature", "name": known_feature(feature, config), "value": None}
    if channel not in CHANNELS:
        raise click.UsageError(f"--channel {channel!r} is none of {', '.join(CHANNELS)}")
    return {"kind": "channel", "name": channel, "value": None}


def _what(row: dict[str, Any]) -> str:
    return f"{row['kind']} {row['name']}" + (f"={row['value']}" if row["value"] is not None else "")


def _instant(value: int) -> str:
    from storage.database.column_types import as_datetime

    return as_datetime(value).isoformat(sep=" ", timespec="seconds")


def shown(row: dict[str, Any], moment: int, flags: int) -> dict[str, Any]:
    """A decision for a list: its instants readable, whether it holds, how many flags it touched."""
    state = "ended" if row["end"] <= moment else "in force" if row["effective_from"] <= moment else "to come"
    times = {
        name: None if row[name] is None else _instant(row[name])
        for name in ("effective_from", "until", "ended_at")
    }
    return row | times | {"state": state, "flags": flags}


@mute.command("list", epilog="fraudwatch mute list\nfraudwatch mute list --format json")
@output_options
@click.pass_obj
def list_mutes(door: Door, form: str, output: Path | None) -> None:
    """List mutes with their reason, author and end, and how many flags each has marked."""
    from pipeline.cli import output as console
    from storage.review import rules_and_mutes

    moment = now()
    with door.store(door.config()) as store:
        marked = rules_and_mutes.muted_by(store, LIVE)
        rows = [
            shown(row, moment, marked.get(row["mute_id"], 0)) | {"what": _what(row)}
            for row in reversed(rules_and_mutes.every(store, rules_and_mutes.MUTE))
        ]
    console.show(rows, COLUMNS, form, output, "nothing is muted: fraudwatch mute --help says how")


@mute.command("end", epilog="fraudwatch mute end 3")
@click.argument("mute_id", type=click.IntRange(min=1))
@click.pass_obj
def end_mute(door: Door, mute_id: int) -> None:
    """End a mute before its time; flags it has marked stay marked."""
    from storage.review import rules_and_mutes

    with door.store(door.config()) as store:
        at = rules_and_mutes.end(store, rules_and_mutes.MUTE, mute_id, door.actor, now())
    click.echo(f"mute {mute_id} ends at {_instant(at)}")
