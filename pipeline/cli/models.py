"""Commands about models: list and show them, promote or roll back by hand, and compare policies."""

from pathlib import Path
from typing import Any

import click

from pipeline.cli.options import (
    CliContext,
    Command,
    Group,
    InstantParam,
    now,
    output_options,
    policy_option,
    to_instant,
)

COLUMNS = [
    "model_id", "strategy", "effective_from", "n_mature", "n_fraud", "verdict", "ap", "ap_champion", "thresholds",
    "promoted_at", "by", "reason",
]  # fmt: skip


@click.group(cls=Group, invoke_without_command=True)
@policy_option
@click.pass_context
def models(ctx: click.Context, policy: str) -> None:
    """List models, show one, and promote or roll back by hand; without a subcommand it lists models."""
    if ctx.invoked_subcommand is None:
        ctx.invoke(list_models, policy=policy, limit=20, output_format="table", output=None)


@models.command(
    "list", epilog="fraudwatch models list\nfraudwatch models list --policy cautious --format json --limit 5"
)
@policy_option
@click.option("--limit", type=click.IntRange(min=1), default=20, show_default=True)
@output_options
@click.pass_obj
def list_models(
    context: CliContext, policy: str, limit: int, output_format: str, output: Path | None
) -> None:
    """List models with their promotions, rejected candidates included, newest first."""
    from pipeline.cli.output import write_rows
    from storage.queries.models import model_page

    with context.open_store(context.load_config()) as store:
        rows = model_page(store, policy, limit).rows
        write_rows(
            rows, COLUMNS, output_format, output, "no model yet: fraudwatch train, or fraudwatch backfill"
        )


@models.command("show", epilog="fraudwatch models show 3")
@click.argument("model_id", type=click.IntRange(min=1))
@policy_option
@click.pass_obj
def show_model(context: CliContext, model_id: int, policy: str) -> None:
    """Show the model card: training data, choice, and whether the model loads and scores as before."""
    from pipeline.services.models import model_card

    config = context.load_config()
    with context.open_store(config) as store:
        for line in model_card(store, config, policy, model_id):
            click.echo(line)


@models.command(
    "promote",
    epilog="""
    fraudwatch models promote 3 --reason "the new one flags too much"
    fraudwatch models promote 3 --from 2026-03-01 --reason "begins with the month"
    """,
)
@click.argument("model_id", type=click.IntRange(min=1))
@click.option(
    "--from", "start", type=InstantParam(), help="Score transactions from this time on (default: now)."
)
@click.option("--reason", required=True, help="Stored with the promotion and in the audit trail.")
@policy_option
@click.pass_obj
def promote_model(context: CliContext, model_id: int, start: Any, reason: str, policy: str) -> None:
    """Promote a model from now on, or from a later time, until the next training promotes another.

    Stored scores do not change.
    """
    from pipeline.services.models import promote

    config = context.load_config()
    moment = now()
    begin = to_instant(start, config.schedule.timezone) if start else moment
    with context.open_store(config) as store:
        click.echo(promote(store, config, policy, model_id, begin, reason, context.actor, moment))


@models.command("rollback", epilog='fraudwatch models rollback --reason "scores look wrong since Monday"')
@click.option("--reason", required=True, help="Stored with the promotion and in the audit trail.")
@policy_option
@click.pass_obj
def rollback_model(context: CliContext, reason: str, policy: str) -> None:
    """Promote the previous model again from now on; nothing is deleted."""
    from pipeline.services.models import rollback

    config = context.load_config()
    with context.open_store(config) as store:
        click.echo(rollback(store, config, policy, reason, context.actor, now()))


@click.command(
    cls=Command,
    epilog="""
    fraudwatch diff live cheaper
    fraudwatch diff live cheaper --from 2026-02-01 --to 2026-04-01 --format csv
    """,
)
@click.argument("policy_a")
@click.argument("policy_b")
@click.option("--from", "start", type=InstantParam(), help="Event time from this time on.")
@click.option("--to", "end", type=InstantParam(), help="Event time before this time.")
@click.option(
    "--limit",
    type=click.IntRange(min=0),
    default=20,
    show_default=True,
    help="Maximum number of transactions to list.",
)
@output_options
@click.pass_obj
def diff(
    context: CliContext,
    policy_a: str,
    policy_b: str,
    start: Any,
    end: Any,
    limit: int,
    output_format: str,
    output: Path | None,
) -> None:
    """Compare the flags of two policies, with amounts, on the transactions that both have scored.

    Rows that a model was trained on are excluded; their number is printed.
    """
    from pipeline.cli.output import write_rows
    from storage.queries import policy_diff

    config = context.load_config()
    zone = config.schedule.timezone
    span = to_instant(start, zone) if start else None, to_instant(end, zone) if end else None
    with context.open_store(config) as store:
        for line in policy_diff.compare_policies(store, policy_a, policy_b, *span).lines(
            config.schema_.base_currency
        ):
            click.echo(line, err=output_format != "table")
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
            write_rows(rows, columns, output_format, output, "both policies flag the same transactions")
