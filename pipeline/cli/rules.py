"""The commands for rules of people's own: watch-lists and hard limits beside the detectors."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from pipeline.cli.mutes import REASON, expiry, expiry_options, shown
from pipeline.cli.options import LIVE, Door, Examples, now, output_options

COLUMNS = ["rule_id", "rule", "reason", "by", "effective_from", "until", "ended_at", "state", "flags"]
DAYS = click.option(
    "--days", type=click.IntRange(1, 366), default=30, show_default=True, help="Of history to try it on."
)


@click.group(cls=Examples)
def rule() -> None:
    """Rules that flag whatever the detectors think, on channel "rule"."""


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
@REASON
@DAYS
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.pass_obj
def add(door: Door, text: str, until: Any, span: str | None, reason: str, days: int, yes: bool) -> None:
    """Show what a rule would have flagged, ask, and let it flag what happens from now on.

    A test is NAME = != < <= > >= VALUE, NAME in ("a", "b"), NAME in @FILE, NAME is missing; tests are joined
    with and, or, not and brackets. A number may be compared with a multiple of another: amount > 5 * NAME.
    """
    from pipeline.rules.engine import written
    from storage.review import rules_and_mutes

    config, moment = door.config(), now()
    end = expiry(until, span, config, moment)
    said, fields = written(text, config)
    _preview(door, said, days)
    if not yes:
        click.confirm("Add this rule?", abort=True)
    row: Mapping[str, Any] = {"text": said, "fields": dict(fields)}
    with door.store(config) as store:
        number, _ = rules_and_mutes.add(store, rules_and_mutes.RULE, row, end, reason, door.actor, now())
    click.echo(f"rule {number} flags what happens from now on; fraudwatch rule end {number} ends it")


@rule.command("preview", epilog="fraudwatch rule preview 'amount > 5000' --days 90")
@click.argument("text")
@DAYS
@click.pass_obj
def preview(door: Door, text: str, days: int) -> None:
    """Show what a rule would have flagged, and add nothing."""
    from pipeline.rules.engine import written

    _preview(door, written(text, door.config())[0], days)


def _preview(door: Door, said: str, days: int) -> None:
    from pipeline.rules.preview import preview as tried
    from pipeline.sanitize import for_terminal

    config = door.config()
    with door.store(config) as store:
        for line in tried(store, config, LIVE, said, days, now()).lines(config.schema_.base_currency):
            click.echo(for_terminal(line))


@rule.command("list", epilog="fraudwatch rule list\nfraudwatch rule list --format json")
@output_options
@click.pass_obj
def list_rules(door: Door, form: str, output: Path | None) -> None:
    """List rules with their reason, author and end, and how many flags each has raised."""
    from pipeline.cli import output as console
    from storage.review import rules_and_mutes

    moment = now()
    with door.store(door.config()) as store:
        raised = rules_and_mutes.flagged_by_rule(store, LIVE)
        rows = [
            shown(row, moment, raised.get(row["rule_id"], 0)) | {"rule": row["text"]}
            for row in reversed(rules_and_mutes.every(store, rules_and_mutes.RULE))
        ]
    console.show(rows, COLUMNS, form, output, "there is no rule: fraudwatch rule add --help says how")


@rule.command("names", epilog="fraudwatch rule names")
@output_options
@click.pass_obj
def list_names(door: Door, form: str, output: Path | None) -> None:
    """List the fields and features a rule may speak of."""
    from pipeline.cli import output as console
    from pipeline.rules.engine import names

    console.show(names(door.config()), ["name", "holds", "is"], form, output, "no field is configured")


@rule.command("end", epilog="fraudwatch rule end 3")
@click.argument("rule_id", type=click.IntRange(min=1))
@click.pass_obj
def end_rule(door: Door, rule_id: int) -> None:
    """End a rule before its time; flags it has raised stay."""
    from storage.review import rules_and_mutes

    with door.store(door.config()) as store:
        rules_and_mutes.end(store, rules_and_mutes.RULE, rule_id, door.actor, now())
    click.echo(f"rule {rule_id} no longer flags what happens from now on")
