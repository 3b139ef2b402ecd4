"""Commands about flags: list them, show one, and record a verdict."""

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from pipeline.cli.options import (
    CliContext,
    Command,
    Group,
    InstantParam,
    output_options,
    parse_entity,
    policy_option,
    to_utc,
)

if TYPE_CHECKING:
    from pipeline.services.review.flags import FlagRecord

TABLE_COLUMNS = (
    "transaction_id",
    "event_time",
    "amount",
    "currency",
    "channel",
    "score",
    "status",
    "reasons",
)
SCORE_COLUMNS = ("fraud_probability", "outlier_score", "decision_value", "threshold", "model_id", "run_id")
REASONS_MAX = 2  # in a table; other formats have all of them


@click.group(cls=Group)
def flags() -> None:
    """List flagged transactions, and show one with its reasons."""


@flags.command(
    "list",
    epilog="""
    fraudwatch flags list --status open --limit 20
    fraudwatch flags list --since 2026-03-01 --channel novelty --format csv --output novelty.csv
    fraudwatch flags list --entity customer_id=C001234
    fraudwatch flags list --sort amount --limit 10
    """,
)
@click.option("--since", type=InstantParam(), help="Event time from this time on.")
@click.option("--until", type=InstantParam(), help="Event time before this time.")
@click.option("--status", type=click.Choice(["open", "fraud", "genuine", "expired"]))
@click.option("--channel", help="outlier, blend, classification, novelty, audit or rule.")
@click.option("--min-score", type=click.FloatRange(0, 1))
@click.option("--entity", metavar="COLUMN=VALUE", help="Only this customer, card, merchant …")
@click.option("--muted", is_flag=True, help="Include muted flags, with the number of their mute.")
@click.option(
    "--sort",
    "order",
    type=click.Choice(["time", "score", "amount"]),
    default="time",
    show_default=True,
    help="Newest first, highest score first, or largest amount in the base currency first.",
)
@click.option("--limit", type=click.IntRange(min=1), help="Maximum number of rows.")
@policy_option
@output_options
@click.pass_obj
def list_flags(
    context: CliContext,
    /,
    since: Any,
    until: Any,
    entity: str | None,
    muted: bool,
    limit: int | None,
    output_format: str,
    output: Path | None,
    **filters: Any,
) -> None:
    """List flagged transactions with their reasons, newest first.

    --sort gives another order. Muted flags are hidden unless --muted is given.
    """
    from pipeline.cli.output import write_rows
    from pipeline.services.pages import every
    from pipeline.services.review.flags import FlagRequest, count_flags
    from pipeline.services.review.flags import list_flags as flag_page

    with context.session() as session:
        config = session.config
        zone = config.schedule.timezone
        request = FlagRequest(
            since=to_utc(since, zone) if since else None,
            until=to_utc(until, zone) if until else None,
            entity=parse_entity(entity, config) if entity is not None else None,
            muted=None if muted else False,
            **filters,
        )
        listed = every(flag_page, session, request, limit=limit)
        is_table = output_format == "table"
        columns = [*(TABLE_COLUMNS if is_table else _all_columns(config.schema_.entities))]
        columns += ["muted_by"] if muted else []
        rows = (_row(flag, is_table) for flag in listed)
        write_rows(rows, columns, output_format, output, "no flags match; see fraudwatch doctor")
        hidden = 0 if muted else count_flags(session, replace(request, muted=True))
    if hidden:
        click.echo(f"{hidden:,} muted flags are hidden: --muted shows them", err=True)


def _all_columns(entities: tuple[str, ...]) -> list[str]:
    first, rest = TABLE_COLUMNS[:4], TABLE_COLUMNS[4:]
    return [*first, *entities, *rest, *SCORE_COLUMNS, "reviewed_at", "reviewer"]


def _row(flag: "FlagRecord", is_table: bool) -> dict[str, Any]:
    texts = "; ".join(reason.text for reason in flag.reasons[:REASONS_MAX])
    return {
        **flag.fields,
        **vars(flag),
        "amount": flag.amount.value,
        "currency": flag.amount.currency,
        "reasons": texts if is_table else [vars(reason) for reason in flag.reasons],
    }


@flags.command("show", epilog="fraudwatch flags show T000123")
@click.argument("transaction_id")
@policy_option
@click.pass_obj
def show_flag(context: CliContext, transaction_id: str, policy: str) -> None:
    """Show a flag with its fields, scores, reasons and label."""
    from pipeline.sanitize import for_terminal
    from pipeline.services.review.flags import show_flag as flag_of

    with context.session() as session:
        flag = flag_of(session, policy, transaction_id)
    lines = {
        "transaction": f"{flag.transaction_id}, {flag.event_time:%Y-%m-%d %H:%M:%S} UTC",
        "amount": f"{flag.amount.value:,f} {flag.amount.currency}",
        **{name: _field_text(value) for name, value in flag.fields.items() if value is not None},
        "flagged": f"on channel {flag.channel} by model {flag.model_id} in run {flag.run_id}, score {flag.score:.4f}",
        "status": flag.status + (f", by {flag.reviewer}" if flag.reviewer else ""),
        "label": _label_text(flag),
        "muted": f"by mute {flag.muted_by}" if flag.muted_by is not None else "no",
    }
    for name, value in lines.items():
        click.echo(for_terminal(f"{name + ':':16}{value}"))
    for reason in flag.reasons:
        click.echo(for_terminal(f"{'reason:':16}{reason.text}"))


def _field_text(value: str | float) -> str:
    from pipeline.number_text import exact

    return value if isinstance(value, str) else exact(value)


def _label_text(flag: "FlagRecord") -> str:
    if flag.label_source is None:
        return "none"
    answer = {True: "fraud", False: "genuine", None: "neither fraud nor genuine"}[flag.is_fraud]
    about = f" ({flag.label_type})" if flag.label_type else ""
    return f"{answer}{about}, from {flag.label_source}, known at {flag.known_at:%Y-%m-%d %H:%M} UTC"


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
    """Record whether a flagged transaction is fraud.

    This closes the flag and becomes a label. To change a verdict, record another one: both are kept, and the newest counts.
    """
    from pipeline.services.review.verdicts import NewVerdict, record

    with context.session() as session:
        outcome = record(session, NewVerdict(transaction_id, answer == "fraud", note))
    change = f"{outcome.before} → {outcome.after}"
    if outcome.before == outcome.after:
        change = f"{outcome.after}, as it was"
    click.echo(f"{transaction_id}: {change}; the verdict is stored as a label")
