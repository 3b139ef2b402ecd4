"""Commands about analysts' rules: watch-lists and hard limits in addition to the detectors."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from pipeline.cli.mutes import display_row, expiry_options, parse_expiry, reason_option
from pipeline.cli.options import LIVE, CliContext, Group, now, output_options

COLUMNS = ["rule_id", "rule", "reason", "by", "effective_from", "until", "ended_at", "state", "flags"]
days_option = click.option(
    "--days",
    type=click.IntRange(1, 366),
    default=30,
    show_default=True,
    help="Days of history for the preview.",
)


@click.group(cls=Group)
def rule() -> None:
    """Rules that flag transactions on channel "rule", whatever their scores."""


@rule.command(
    "add",
    epilog="""
    fraudwatch rule add 'amount > 5000 and country in ("XX", "YY")' --for 90d --reason "limit of the board"
    fraudwatch rule add 'amount > 10 * customer_id_amount_mean_30d' --for 30d --reason "trial" --yes
    fraudwatch rule add 'card_id in @stolen.txt' --until 2026-12-31 --reason "list of the police"
    """,
)
@click.argument("text")
@expiry_options
@reason_option
@days_option
@click.option("--yes", is_flag=True, help="Do not ask for confirmation.")
@click.pass_obj
def add(
    context: CliContext, text: str, until: Any, span: str | None, reason: str, days: int, yes: bool
) -> None:
    """Show what a rule would have flagged, ask for confirmation, and apply it to transactions from now on.

    A condition is NAME = != < <= > >= VALUE, NAME in ("a", "b"), NAME in @FILE or NAME is missing; conditions are
    joined with and, or, not and brackets. A number may be compared with a multiple of another: amount > 5 * NAME.
    """
    from pipeline.rules.engine import stored_text
    from storage.review import rules_and_mutes

    config, moment = context.load_config(), now()
    end = parse_expiry(until, span, config, moment)
    rule_text, fields = stored_text(text, config)
    _print_preview(context, rule_text, days)
    if not yes:
        click.confirm("Add this rule?", abort=True)
    row: Mapping[str, Any] = {"text": rule_text, "fields": dict(fields)}
    with context.open_store(config) as store:
        number, _ = rules_and_mutes.add(store, rules_and_mutes.RULE, row, end, reason, context.actor, now())
    click.echo(f"rule {number} applies to transactions from now on; fraudwatch rule end {number} ends it")


@rule.command("preview", epilog="fraudwatch rule preview 'amount > 5000' --days 90")
@click.argument("text")
@days_option
@click.pass_obj
def preview(context: CliContext, text: str, days: int) -> None:
    """Show what a rule would have flagged, without adding it."""
    from pipeline.rules.engine import stored_text

    _print_preview(context, stored_text(text, context.load_config())[0], days)


def _print_preview(context: CliContext, text: str, days: int) -> None:
    from pipeline.rules.preview import preview as preview_rule
    from pipeline.sanitize import for_terminal

    config = context.load_config()
    with context.open_store(config) as store:
        for line in preview_rule(store, config, LIVE, text, days, now()).lines(config.schema_.base_currency):
            click.echo(for_terminal(line))


@rule.command("list", epilog="fraudwatch rule list\nfraudwatch rule list --format json")
@output_options
@click.pass_obj
def list_rules(context: CliContext, output_format: str, output: Path | None) -> None:
    """List rules with their reason, author and end, and how many flags each has raised."""
    from pipeline.cli.output import write_rows
    from storage.review import rules_and_mutes

    moment = now()
    with context.open_store(context.load_config()) as store:
        flag_counts = rules_and_mutes.flagged_by_rule(store, LIVE)
        rows = [
            display_row(row, moment, flag_counts.get(row["rule_id"], 0)) | {"rule": row["text"]}
            for row in reversed(rules_and_mutes.every(store, rules_and_mutes.RULE))
        ]
    write_rows(rows, COLUMNS, output_format, output, "there is no rule: see fraudwatch rule add --help")


@rule.command("names", epilog="fraudwatch rule names")
@output_options
@click.pass_obj
def list_names(context: CliContext, output_format: str, output: Path | None) -> None:
    """List the fields and features that a rule may use."""
    from pipeline.cli.output import write_rows
    from pipeline.rules.engine import rule_names

    write_rows(
        rule_names(context.load_config()),
        ["name", "type", "kind"],
        output_format,
        output,
        "no field is configured",
    )


@rule.command("end", epilog="fraudwatch rule end 3")
@click.argument("rule_id", type=click.IntRange(min=1))
@click.pass_obj
def end_rule(context: CliContext, rule_id: int) -> None:
    """End a rule early; flags that it has raised stay."""
    from storage.review import rules_and_mutes

    with context.open_store(context.load_config()) as store:
        rules_and_mutes.end(store, rules_and_mutes.RULE, rule_id, context.actor, now())
    click.echo(f"rule {rule_id} no longer applies to transactions from now on")
