"""Commands about the choice of strategy: stored choices, and what a training would choose now."""

import math
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import click

from pipeline.cli.options import CliContext, Group, InstantParam, output_options, policy_option, to_utc

COLUMNS = [
    "choice_id", "training_date", "strategy", "effective_positives", "mature", "prevalence", "rule", "sentence",
]  # fmt: skip
NO_CHOICE = "no training has chosen a strategy yet: fraudwatch train, or fraudwatch backfill"


@click.group(cls=Group)
def strategy() -> None:
    """List, explain and preview choices of a strategy."""


@strategy.command(
    "list",
    epilog="fraudwatch strategy list\nfraudwatch strategy list --policy cautious --format json --limit 5",
)
@click.option("--limit", type=click.IntRange(min=1), default=20, show_default=True)
@policy_option
@output_options
@click.pass_obj
def list_strategies(
    context: CliContext, policy: str, limit: int, output_format: str, output: Path | None
) -> None:
    """List what trainings chose and why, newest first."""
    from pipeline.cli.output import write_rows
    from pipeline.services.models.strategy import list_choices
    from pipeline.services.pages import every

    with context.session() as session:
        rows: Iterable[dict[str, Any]] = map(vars, every(list_choices, session, policy, limit=limit))
        if output_format == "table":  # rounded as in the sentence
            rows = ({**row, "effective_positives": math.floor(row["effective_positives"])} for row in rows)
        write_rows(rows, COLUMNS, output_format, output, NO_CHOICE)


@strategy.command("show", epilog="fraudwatch strategy show\nfraudwatch strategy show 12")
@click.argument("choice_id", type=click.IntRange(min=1), required=False)
@policy_option
@click.pass_obj
def show_strategy(context: CliContext, choice_id: int | None, policy: str) -> None:
    """Explain a choice with all its evidence, by default the newest one."""
    from pipeline.cli.models.strategy_text import choice_lines
    from pipeline.services.models.strategy import show_choice

    with context.session() as session:
        explained = show_choice(session, policy, choice_id)
    click.echo("\n".join(choice_lines(explained)))


@strategy.command(
    "preview", epilog="fraudwatch strategy preview\nfraudwatch strategy preview --as-of 2026-03-01"
)
@click.option(
    "--as-of",
    type=InstantParam(),
    help="Use the data known at this time (default: now, or the newest transaction if older).",
)
@policy_option
@click.pass_obj
def preview_strategy(context: CliContext, as_of: Any, policy: str) -> None:
    """Show which strategy a training would choose and why.

    Nothing is stored or promoted.
    """
    from pipeline.cli.models.strategy_text import preview_lines
    from pipeline.services.models.strategy import preview_choice

    with context.session() as session:
        date = to_utc(as_of, session.config.schedule.timezone) if as_of else None
        preview = preview_choice(session, policy, date)
    click.echo("\n".join(preview_lines(preview)))
