"""Commands about flags: list them, and show one."""

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from pipeline.cli.options import (
    CliContext,
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
    "expected_loss",
    "status",
    "reasons",
)
SCORE_COLUMNS = ("fraud_probability", "outlier_score", "decision_value", "threshold", "model_id", "run_id")
VERDICT_COLUMNS = ("reviewed_at", "reviewer", "verdict", "verdict_type", "verdict_action", "verdict_note")
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
    fraudwatch flags list --sort time --limit 10
    fraudwatch flags list --cleared-then-charged-back
    """,
)
@click.option("--since", type=InstantParam(), help="Event time from this time on.")
@click.option("--until", type=InstantParam(), help="Event time before this time.")
@click.option("--status", type=click.Choice(["open", "fraud", "genuine", "closed", "expired"]))
@click.option("--channel", help="outlier, blend, classification, novelty, audit or rule.")
@click.option("--min-score", type=click.FloatRange(0, 1))
@click.option("--entity", metavar="COLUMN=VALUE", help="Only this customer, card, merchant …")
@click.option(
    "--cleared-then-charged-back",
    "cleared_then_reported",
    is_flag=True,
    help="Only what a reviewer called genuine and a later chargeback or report calls fraud.",
)
@click.option("--muted", is_flag=True, help="Include muted flags, with the number of their mute.")
@click.option(
    "--sort",
    "order",
    type=click.Choice(["loss", "time", "score", "amount"]),
    default="loss",
    show_default=True,
    help="Largest expected loss, newest, highest score, or largest amount in the base currency first.",
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
    """List flagged transactions, the largest expected losses first.

    Outlier detection has no fraud probability: its expected losses are upper guesses (≤). --sort gives another order. Muted flags are hidden unless --muted is given.
    """
    from pipeline.cli.output import write_rows
    from pipeline.number_text import counted
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
        rows = (_row(flag, output_format) for flag in listed)
        write_rows(rows, columns, output_format, output, "no flags match; see fraudwatch doctor")
        hidden = 0 if muted else count_flags(session, replace(request, muted=True))
    if hidden:
        click.echo(
            f"{counted(hidden, 'muted flag is', 'muted flags are')} hidden: --muted shows them", err=True
        )


def _all_columns(entities: tuple[str, ...]) -> list[str]:
    first, rest = TABLE_COLUMNS[:4], TABLE_COLUMNS[4:]
    return [*first, *entities, *rest, *SCORE_COLUMNS, *VERDICT_COLUMNS]


def _row(flag: "FlagRecord", output_format: str) -> dict[str, Any]:
    from pipeline.cli.output import score_cell
    from pipeline.number_text import table_amount

    is_table = output_format == "table"
    texts = "; ".join(reason.text for reason in flag.reasons[:REASONS_MAX])
    loss = None if flag.expected_loss is None else flag.expected_loss.value
    guessed = loss is not None and flag.fraud_probability is None
    return {
        **flag.fields,
        **vars(flag),
        "amount": flag.amount.value,
        "currency": flag.amount.currency,
        "score": score_cell(flag.score, output_format),
        "expected_loss": f"≤ {table_amount(loss)}" if loss is not None and guessed and is_table else loss,
        "reasons": texts if is_table else [vars(reason) for reason in flag.reasons],
    }


@flags.command("show", epilog="fraudwatch flags show T000123")
@click.argument("transaction_id")
@policy_option
@click.pass_obj
def show_flag(context: CliContext, transaction_id: str, policy: str) -> None:
    """Show a flag with its fields, scores, reasons, label and verdicts."""
    from pipeline.cli.review.verdicts import verdict_text
    from pipeline.number_text import score_text
    from pipeline.sanitize import for_terminal
    from pipeline.services.review.flags import show_flag as flag_of
    from pipeline.services.review.verdicts import VerdictRequest, list_verdicts

    with context.session() as session:
        flag = flag_of(session, policy, transaction_id)
        verdicts = list_verdicts(session, VerdictRequest(transaction_id)).items
    lines = {
        "transaction": f"{flag.transaction_id}, {flag.event_time:%Y-%m-%d %H:%M:%S} UTC",
        "amount": f"{flag.amount.value:,f} {flag.amount.currency}",
        **{name: _field_text(value) for name, value in flag.fields.items() if value is not None},
        "flagged": f"on channel {flag.channel} by model {flag.model_id} in run {flag.run_id}, score {score_text(flag.score)} ({flag.score})",
        "expected loss": _expected_loss_text(flag),
        "status": flag.status + (f", by {flag.reviewer}" if flag.reviewer else ""),
        "label": _label_text(flag),
        "muted": f"by mute {flag.muted_by}" if flag.muted_by is not None else "no",
    }
    for name, value in lines.items():
        click.echo(for_terminal(f"{name + ':':16}{value}"))
    for reason in flag.reasons:
        click.echo(for_terminal(f"{'reason:':16}{reason.text}"))
    for verdict in verdicts:
        click.echo(for_terminal(f"{'verdict:':16}{verdict_text(verdict)}"))


def _field_text(value: str | float) -> str:
    from pipeline.number_text import exact

    return value if isinstance(value, str) else exact(value)


def _expected_loss_text(flag: "FlagRecord") -> str:
    from pipeline.number_text import table_amount

    loss = flag.expected_loss
    if loss is None:
        return "none, without a fraud probability"
    guess = (
        ""
        if flag.fraud_probability is not None
        else ", an upper guess: outlier detection has no fraud probability"
    )
    return f"{table_amount(loss.value)} {loss.currency}{guess}"


def _label_text(flag: "FlagRecord") -> str:
    if flag.label_source is None:
        return "none"
    answer = {True: "fraud", False: "genuine", None: "neither fraud nor genuine"}[flag.is_fraud]
    about = f" ({flag.label_type})" if flag.label_type else ""
    return f"{answer}{about}, from {flag.label_source}, known at {flag.known_at:%Y-%m-%d %H:%M} UTC"
