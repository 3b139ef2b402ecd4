"""Commands about flags: the list of them, and the verdict that answers one."""

from pathlib import Path
from typing import Any

import click

from pipeline.cli.options import (
    LIVE,
    Command,
    Door,
    Instant,
    entity_of,
    in_zone,
    now,
    output_options,
)


@click.command(
    cls=Command,
    epilog="""
    fraudwatch flags --status open --limit 20
    fraudwatch flags --since 2026-03-01 --channel novelty --format csv --output novelty.csv
    fraudwatch flags --entity customer_id=C001234
    """,
)
@click.option("--since", type=Instant(), help="Event time from here on.")
@click.option("--until", type=Instant(), help="Event time before this.")
@click.option("--status", type=click.Choice(["open", "fraud", "genuine", "expired"]))
@click.option("--channel", help="outlier, blend, classification, novelty, audit or rule.")
@click.option("--min-score", type=click.FloatRange(0, 1))
@click.option("--entity", metavar="COLUMN=VALUE", help="Of this customer, card, merchant …")
@click.option("--muted", is_flag=True, help="Those that are muted, too, marked with the mute's number.")
@click.option("--limit", type=click.IntRange(min=1), help="At most so many rows.")
@output_options
@click.pass_obj
def flags(
    door: Door,
    since: Any,
    until: Any,
    status: str | None,
    channel: str | None,
    min_score: float | None,
    entity: str | None,
    muted: bool,
    limit: int | None,
    form: str,
    output: Path | None,
) -> None:
    """List flagged transactions with their reasons, newest first.

    Flags that are muted (fraudwatch mute) are left out, unless --muted asks for them.
    """
    from pipeline.cli import output as console
    from storage.queries import listings

    config = door.config()
    zone = config.schedule.timezone
    with door.store(config) as store:
        wanted = listings.Wanted(
            since=in_zone(since, zone) if since else None,
            until=in_zone(until, zone) if until else None,
            status=status,
            channel=channel,
            min_score=min_score,
            entity=None if entity is None else entity_of(entity, config),
            muted=muted,
            limit=limit,
        )
        rows = listings.flags(store, LIVE, wanted)
        if form == "table":
            rows = (row | {"reasons": _first_words(row["reasons"])} for row in rows)
        columns = [*_flag_columns(form, config), *(["muted_by"] if muted else [])]
        console.show(rows, columns, form, output, "no flags match; see fraudwatch doctor")
        left_out = 0 if muted else listings.muted(store, LIVE, wanted)
    if left_out:
        click.echo(f"{left_out:,} muted flags are left out: --muted shows them", err=True)


def _flag_columns(form: str, config: Any) -> list[str]:
    brief = ["transaction_id", "event_time", "amount", "channel", "score", "status", "reasons"]
    if form == "table":
        return brief
    full = ["fraud_probability", "outlier_score", "decision_value", "threshold", "model_id", "run_id"]
    return [*brief[:3], "currency", *config.schema_.entities, *brief[3:], *full, "reviewed_at", "reviewer"]


def _first_words(reasons: list[dict[str, Any]]) -> str:
    return "; ".join(reason["text"] for reason in reasons[:2])


@click.command(
    cls=Command,
    epilog="""
    fraudwatch verdict T000123 fraud
    fraudwatch verdict T000124 genuine --note "customer confirmed by phone"
    """,
)
@click.argument("transaction_id")
@click.argument("answer", type=click.Choice(["fraud", "genuine"]))
@click.option("--note", default="", help="Kept in the audit trail.")
@click.pass_obj
def verdict(door: Door, transaction_id: str, answer: str, note: str) -> None:
    """Say what a flagged transaction turned out to be: closes the flag and becomes a label.

    Changing your mind is another verdict; both are kept, the newest counts.
    """
    from storage.review import verdicts

    config = door.config()
    with door.store(config) as store:
        outcome = verdicts.verdict(store, LIVE, transaction_id, answer == "fraud", note, door.actor, now())
    click.echo(outcome.sentence())
