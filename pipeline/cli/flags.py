"""Commands about flags: list flags, and record a verdict."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import click

from pipeline.cli.options import (
    LIVE,
    CliContext,
    Command,
    InstantParam,
    now,
    output_options,
    parse_entity,
    to_instant,
)


@click.command(
    cls=Command,
    epilog="""
    fraudwatch flags --status open --limit 20
    fraudwatch flags --since 2026-03-01 --channel novelty --format csv --output novelty.csv
    fraudwatch flags --entity customer_id=C001234
    """,
)
@click.option("--since", type=InstantParam(), help="Event time from this time on.")
@click.option("--until", type=InstantParam(), help="Event time before this time.")
@click.option("--status", type=click.Choice(["open", "fraud", "genuine", "expired"]))
@click.option("--channel", help="outlier, blend, classification, novelty, audit or rule.")
@click.option("--min-score", type=click.FloatRange(0, 1))
@click.option("--entity", metavar="COLUMN=VALUE", help="Only this customer, card, merchant …")
@click.option("--muted", is_flag=True, help="Include muted flags, with the number of their mute.")
@click.option("--limit", type=click.IntRange(min=1), help="Maximum number of rows.")
@output_options
@click.pass_obj
def flags(
    context: CliContext,
    since: Any,
    until: Any,
    status: str | None,
    channel: str | None,
    min_score: float | None,
    entity: str | None,
    muted: bool,
    limit: int | None,
    output_format: str,
    output: Path | None,
) -> None:
    """List flagged transactions with their reasons, newest first.

    Muted flags (fraudwatch mute) are hidden unless --muted is given.
    """
    from pipeline.cli.output import write_rows
    from storage.queries.flags import FlagFilter, count_flags, flag_page

    config = context.load_config()
    zone = config.schedule.timezone
    with context.open_store(config) as store:
        filters = FlagFilter(
            since=to_instant(since, zone) if since else None,
            until=to_instant(until, zone) if until else None,
            status=status,
            channel=channel,
            min_score=min_score,
            entity=None if entity is None else parse_entity(entity, config),
            muted=None if muted else False,
        )
        rows = flag_page(store, LIVE, filters, limit).rows
        if output_format == "table":
            rows = [row | {"reasons": _short_reasons(row["reasons"])} for row in rows]
        columns = [*_flag_columns(output_format, config), *(["muted_by"] if muted else [])]
        write_rows(rows, columns, output_format, output, "no flags match; see fraudwatch doctor")
        hidden = 0 if muted else count_flags(store, LIVE, replace(filters, muted=True))
    if hidden:
        click.echo(f"{hidden:,} muted flags are hidden: --muted shows them", err=True)


def _flag_columns(output_format: str, config: Any) -> list[str]:
    table_columns = ["transaction_id", "event_time", "amount", "channel", "score", "status", "reasons"]
    if output_format == "table":
        return table_columns
    score_columns = [
        "fraud_probability",
        "outlier_score",
        "decision_value",
        "threshold",
        "model_id",
        "run_id",
    ]
    return [
        *table_columns[:3], "currency", *config.schema_.entities, *table_columns[3:],
        *score_columns, "reviewed_at", "reviewer",
    ]  # fmt: skip


def _short_reasons(reasons: list[dict[str, Any]]) -> str:
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
@click.option("--note", default="", help="Stored in the audit trail.")
@click.pass_obj
def verdict(context: CliContext, transaction_id: str, answer: str, note: str) -> None:
    """Record whether a flagged transaction is fraud; this closes the flag and becomes a label.

    To change a verdict, record another one: both are kept, and the newest counts.
    """
    from storage.review import verdicts

    config = context.load_config()
    with context.open_store(config) as store:
        outcome = verdicts.verdict(store, LIVE, transaction_id, answer == "fraud", note, context.actor, now())
    click.echo(outcome.sentence())
