"""Commands about models: list and show them, promote or roll back by hand."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from pipeline.cli.options import (
    CliContext,
    Group,
    InstantParam,
    output_options,
    policy_option,
    to_utc,
)

if TYPE_CHECKING:
    from pipeline.services.models.models import PromotionResult

COLUMNS = [
    "model_id", "strategy", "effective_from", "n_mature", "n_fraud", "verdict", "average_precision",
    "average_precision_champion", "thresholds", "promoted_at", "by", "reason",
]  # fmt: skip


@click.group(cls=Group)
def models() -> None:
    """List models, show one, and promote or roll back by hand."""


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
    """List models with their promotions, newest first.

    Rejected candidates are included.
    """
    from pipeline.cli.output import write_rows
    from pipeline.services.models.models import list_models as model_page
    from pipeline.services.pages import every

    with context.session() as session:
        listed = every(model_page, session, policy, limit=limit)
        rows = map(vars, listed)
        write_rows(
            rows, COLUMNS, output_format, output, "no model yet: fraudwatch train, or fraudwatch backfill"
        )


@models.command("show", epilog="fraudwatch models show 3")
@click.argument("model_id", type=click.IntRange(min=1))
@policy_option
@click.pass_obj
def show_model(context: CliContext, model_id: int, policy: str) -> None:
    """Show the model card, and whether the model loads.

    It names the training data and the choice, and says whether the model scores as before.
    """
    from pipeline.cli.models.model_card_text import card_lines
    from pipeline.services.models.models import model_card

    with context.session() as session:
        card = model_card(session, policy, model_id)
        basis = session.config.costs.missed_fraud_basis
    click.echo("\n".join(card_lines(card, basis)))


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
    """Promote a model from now on, or from a later time.

    The next training may promote another. Stored scores do not change.
    """
    from pipeline.services.models.models import PromotionRequest, promote

    with context.session() as session:
        begin = to_utc(start, session.config.schedule.timezone) if start else None
        result = promote(session, PromotionRequest(policy, model_id, reason, begin))
    click.echo(_promotion_text(result))


@models.command("rollback", epilog='fraudwatch models rollback --reason "scores look wrong since Monday"')
@click.option("--reason", required=True, help="Stored with the promotion and in the audit trail.")
@policy_option
@click.pass_obj
def rollback_model(context: CliContext, reason: str, policy: str) -> None:
    """Promote the previous model again; nothing is deleted."""
    from pipeline.services.models.models import rollback

    with context.session() as session:
        result = rollback(session, policy, reason)
    click.echo(_promotion_text(result))


def _promotion_text(result: "PromotionResult") -> str:
    return (
        f"model {result.model_id} scores transactions from {result.effective_from:%Y-%m-%d %H:%M:%S} UTC on "
        f"(promotion {result.promotion}), until a training promotes the next one"
    )
