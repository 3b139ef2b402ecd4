"""Commands about analysts' rules: watch-lists and hard limits in addition to the detectors."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from pipeline.cli.options import (
    CliContext,
    Group,
    confirm,
    expiry,
    expiry_options,
    output_options,
    reason_option,
)

if TYPE_CHECKING:
    from pipeline.services.review.rules import RulePreview

COLUMNS = ["rule_id", "text", "reason", "by", "effective_from", "until", "ended_at", "state", "flags"]
days_option = click.option(
    "--days",
    type=click.IntRange(1, 366),
    default=30,
    show_default=True,
    help="Days of history for the preview.",
)


@click.group(cls=Group)
def rules() -> None:
    """Flag transactions by conditions of your own."""


@rules.command(
    "add",
    epilog="""
    fraudwatch rules add 'amount > 5000 and country in ("XX", "YY")' --for 90d --reason "limit of the board"
    fraudwatch rules add 'amount > 10 * customer_id_amount_mean_30d' --for 30d --reason "trial" --yes
    fraudwatch rules add 'card_id in @stolen.txt' --until 2026-12-31 --reason "list of the police"
    """,
)
@click.argument("text")
@expiry_options
@reason_option
@days_option
@click.option("--yes", is_flag=True, help="Do not ask for confirmation.")
@click.pass_obj
def add_rule(
    context: CliContext, text: str, until: Any, span: Any, reason: str, days: int, yes: bool
) -> None:
    """Show what a rule would have flagged, ask, and add it.

    It applies to transactions from now on. A condition is NAME = != < <= > >= VALUE, NAME in ("a", "b"), NAME in @FILE
    or NAME is missing; conditions are joined with and, or, not and brackets. A number may be compared with a multiple
    of another: amount > 5 * NAME.
    """
    from pipeline.services.review.rules import NewRule
    from pipeline.services.review.rules import add_rule as add
    from pipeline.services.review.rules import preview_rule as preview

    with context.session() as session:
        end = expiry(until, span, session.config.schedule.timezone)
        _print_preview(preview(session, text, days))
        if not yes:
            confirm("Add this rule?")
        rule = add(session, NewRule(end, reason, text))
    click.echo(
        f"rule {rule.rule_id} applies to transactions from now on; fraudwatch rules end {rule.rule_id} ends it"
    )


@rules.command("preview", epilog="fraudwatch rules preview 'amount > 5000' --days 90")
@click.argument("text")
@days_option
@click.pass_obj
def preview_rule(context: CliContext, text: str, days: int) -> None:
    """Show what a rule would have flagged, without adding it."""
    from pipeline.services.review.rules import preview_rule as preview

    with context.session() as session:
        _print_preview(preview(session, text, days))


def _print_preview(preview: "RulePreview") -> None:
    from pipeline.sanitize import for_terminal

    for line in preview_lines(preview):
        click.echo(for_terminal(line))


def preview_lines(preview: "RulePreview") -> Iterator[str]:
    """The preview of a rule as lines of text."""
    from pipeline.number_text import counted, table_amount

    total, days, currency = preview.transactions, preview.days, preview.amount.currency
    busiest = f" ({preview.busiest_day:,} on the busiest)" if total else ""
    yield f"rule: {preview.text}"
    yield (
        f"over the {counted(days, 'day')} to {preview.until:%Y-%m-%d} it would have flagged {counted(total, 'transaction')}, "
        f"{total / days:,.1f} a day{busiest}, worth {table_amount(preview.amount.value)} {currency}"
    )
    if not total:
        yield "nothing matched: that is fine for a hard limit; otherwise check the values in the rule"
        return
    yield f"{preview.unflagged:,} of them, {preview.unflagged / days:,.1f} a day, have no flag yet"
    yield (
        f"{preview.fraud:,} of them are known to be fraud by now, worth {table_amount(preview.fraud_amount.value)} {currency}; "
        f"{preview.fraud_unflagged:,} of these have no flag"
    )
    yield _precision_text(preview)
    if preview.unflagged / days > preview.alerts_per_day:
        yield (
            f"that is more than the detectors may flag (alerts.per_day = {preview.alerts_per_day}): consider a "
            "narrower rule"
        )


def _precision_text(preview: "RulePreview") -> str:
    from pipeline.durations import SECOND, format_duration
    from pipeline.number_text import percent

    if not preview.mature:
        maturity = format_duration(round(preview.maturity.total_seconds()) * SECOND)
        return (
            f"none is old enough to know the share of fraud among them (labels.maturity = {maturity}): use a "
            "larger --days"
        )
    return (
        f"of {preview.mature:,} that are old enough for all labels to be known, {preview.mature_fraud:,} were fraud "
        f"({percent(preview.mature_fraud / preview.mature)})"
    )


@rules.command("list", epilog="fraudwatch rules list\nfraudwatch rules list --format json")
@output_options
@click.pass_obj
def list_rules(context: CliContext, output_format: str, output: Path | None) -> None:
    """List rules with reason, author, end and number of flags."""
    from pipeline.cli.output import write_rows
    from pipeline.services.pages import every
    from pipeline.services.review.rules import list_rules as rule_page

    with context.session() as session:
        rows = every(rule_page, session)
        write_rows(rows, COLUMNS, output_format, output, "there is no rule: see fraudwatch rules add --help")


@rules.command("names", epilog="fraudwatch rules names")
@output_options
@click.pass_obj
def list_names(context: CliContext, output_format: str, output: Path | None) -> None:
    """List the fields and features that a rule may use."""
    from pipeline.cli.output import write_rows
    from pipeline.services.review.rules import rule_names

    rows = rule_names(context.load_config())
    write_rows(rows, ["name", "type", "kind"], output_format, output, "no field is configured")


@rules.command("end", epilog="fraudwatch rules end 3")
@click.argument("rule_id", type=click.IntRange(min=1))
@click.pass_obj
def end_rule(context: CliContext, rule_id: int) -> None:
    """End a rule early; flags that it has raised stay."""
    from pipeline.services.review.rules import end_rule as end

    with context.session() as session:
        end(session, rule_id)
    click.echo(f"rule {rule_id} no longer applies to transactions from now on")
