"""The commands that look at models, and decide by hand which one scores."""

from pathlib import Path
from typing import Any

import click

from pipeline.cli.options import Command, Door, Examples, Instant, in_zone, now, output_options, policy_option

COLUMNS = [
    "model_id", "strategy", "effective_from", "n_mature", "n_fraud", "verdict", "ap", "ap_in_force", "thresholds",
    "promoted_at", "by", "reason",
]  # fmt: skip


@click.group(cls=Examples, invoke_without_command=True)
@policy_option
@click.pass_context
def models(context: click.Context, policy: str) -> None:
    """List models, show one, and promote or roll back by hand; alone it lists."""
    if context.invoked_subcommand is None:
        context.invoke(list_models, policy=policy, limit=20, form="table", output=None)


@models.command(
    "list", epilog="fraudwatch models list\nfraudwatch models list --policy cautious --format json --limit 5"
)
@policy_option
@click.option("--limit", type=click.IntRange(min=1), default=20, show_default=True)
@output_options
@click.pass_obj
def list_models(door: Door, policy: str, limit: int, form: str, output: Path | None) -> None:
    """List models with their promotions, and those that were refused, the newest first."""
    from pipeline.cli import output as console
    from storage.queries import listings

    with door.store(door.config()) as store:
        rows = listings.models(store, policy, limit=limit)
        console.show(rows, COLUMNS, form, output, "no model yet: fraudwatch train, or fraudwatch backfill")


@models.command("show", epilog="fraudwatch models show 3")
@click.argument("model_id", type=click.IntRange(min=1))
@policy_option
@click.pass_obj
def show(door: Door, model_id: int, policy: str) -> None:
    """Tell what a model was trained on and by which choice, and whether it loads and scores as it did."""
    from pipeline.services.models import card

    config = door.config()
    with door.store(config) as store:
        for line in card(store, config, policy, model_id):
            click.echo(line)


@models.command(
    "promote",
    epilog="""
    fraudwatch models promote 3 --reason "the new one flags too much"
    fraudwatch models promote 3 --from 2026-03-01 --reason "begins with the month"
    """,
)
@click.argument("model_id", type=click.IntRange(min=1))
@click.option("--from", "start", type=Instant(), help="Scores transactions from this time on (default: now).")
@click.option("--reason", required=True, help="Kept with the promotion and in the audit trail.")
@policy_option
@click.pass_obj
def promote(door: Door, model_id: int, start: Any, reason: str, policy: str) -> None:
    """Let a model score from now, or from later, on, until the next training promotes its own.

    What is scored stays as it is.
    """
    from pipeline.services import models as modelling

    config = door.config()
    moment = now()
    begin = in_zone(start, config.schedule.timezone) if start else moment
    with door.store(config) as store:
        click.echo(modelling.promote(store, config, policy, model_id, begin, reason, door.actor, moment))


@models.command("rollback", epilog='fraudwatch models rollback --reason "scores look wrong since Monday"')
@click.option("--reason", required=True, help="Kept with the promotion and in the audit trail.")
@policy_option
@click.pass_obj
def rollback(door: Door, reason: str, policy: str) -> None:
    """Let the model before the present one score again, from now on: one more promotion, nothing is deleted."""
    from pipeline.services import models as modelling

    config = door.config()
    with door.store(config) as store:
        click.echo(modelling.rollback(store, config, policy, reason, door.actor, now()))


@click.command(
    cls=Command,
    epilog="""
    fraudwatch diff live cheaper
    fraudwatch diff live cheaper --from 2026-02-01 --to 2026-04-01 --format csv
    """,
)
@click.argument("policy_a")
@click.argument("policy_b")
@click.option("--from", "start", type=Instant(), help="Event time from here on.")
@click.option("--to", "end", type=Instant(), help="Event time before this.")
@click.option(
    "--limit", type=click.IntRange(min=0), default=20, show_default=True, help="Transactions to list."
)
@output_options
@click.pass_obj
def diff(
    door: Door, policy_a: str, policy_b: str, start: Any, end: Any, limit: int, form: str, output: Path | None
) -> None:
    """Compare what two policies flag of the transactions that both have scored, with money.

    Rows that a model was trained on are left out; their number is said.
    """
    from pipeline.cli import output as console
    from storage.queries import policy_diff

    config = door.config()
    zone = config.schedule.timezone
    span = in_zone(start, zone) if start else None, in_zone(end, zone) if end else None
    with door.store(config) as store:
        for line in policy_diff.compare(store, policy_a, policy_b, *span).lines(config.schema_.base_currency):
            click.echo(line, err=form != "table")
        if limit:
            columns = [
                "transaction_id",
                "event_time",
                "amount",
                "flagged_by",
                "score_a",
                "score_b",
                "is_fraud",
            ]
            rows = policy_diff.differences(store, policy_a, policy_b, *span, limit)
            console.show(rows, columns, form, output, "both flag the same transactions")
