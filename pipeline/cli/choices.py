"""Commands about the choice of strategy: stored choices, a preview, and readiness to train."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from pipeline.cli.options import (
    LIVE,
    CliContext,
    Command,
    InstantParam,
    now,
    output_options,
    policy_option,
    to_instant,
)

if TYPE_CHECKING:
    from pipeline.config.config import Config
    from pipeline.features.history import History
    from storage.database.database import Store

COLUMNS = [
    "choice_id", "training_date", "strategy", "effective_positives", "mature", "prevalence", "rule", "sentence",
]  # fmt: skip


@click.command(
    cls=Command,
    epilog="fraudwatch choices\nfraudwatch choices --explain 12\nfraudwatch choices --policy cautious --format json --limit 5",
)
@click.option(
    "--explain", type=click.IntRange(min=1), metavar="ID", help="Explain one choice with all its evidence."
)
@click.option("--limit", type=click.IntRange(min=1), default=20, show_default=True)
@policy_option
@output_options
@click.pass_obj
def choices(
    context: CliContext, policy: str, explain: int | None, limit: int, output_format: str, output: Path | None
) -> None:
    """List the choices of strategy with their numbers, rule and sentence, newest first."""
    from pipeline.cli.output import write_rows
    from pipeline.services.choices import explain_choice
    from storage.queries.choices import choice_page, choice_row

    with context.open_store(context.load_config()) as store:
        if explain is not None:
            row = choice_row(store, policy, explain)
            click.echo("\n".join(explain_choice(row["evidence"] | {"row": row})))
            return
        rows = choice_page(store, policy, limit).rows
        write_rows(
            rows,
            COLUMNS,
            output_format,
            output,
            "no training has chosen a strategy yet: fraudwatch train, or fraudwatch backfill",
        )


@click.command(
    cls=Command, epilog="fraudwatch choose --dry-run\nfraudwatch choose --dry-run --as-of 2026-03-01"
)
@click.option("--dry-run", is_flag=True, help="Required: only trainings store a choice.")
@click.option(
    "--as-of",
    type=InstantParam(),
    help="Use the data known at this time (default: now, or the newest transaction if older).",
)
@click.pass_obj
def choose(context: CliContext, dry_run: bool, as_of: Any) -> None:
    """Preview which strategy a training would choose and why; nothing is stored or promoted."""
    from pipeline.services.choices import describe_preview, describe_young_cohorts
    from pipeline.training import strategy_choice
    from pipeline.training.readiness import young_cohorts

    if not dry_run:
        raise click.UsageError(
            "only trainings store a choice: run fraudwatch train, or add --dry-run to preview the choice"
        )
    config = context.load_config()
    with context.open_store(config) as store:
        date = _training_date(as_of, config, store)
        history = _load_history(store, config, date)
        choice = strategy_choice.preview(store, config, history, LIVE, date)
    click.echo("\n".join(describe_preview(choice, date)))
    click.echo("\n".join(describe_young_cohorts(young_cohorts(history, config.labels.maturity, date))))


@click.command(
    cls=Command,
    epilog="fraudwatch readiness\nfraudwatch readiness --as-of 2026-03-01 --format json\nfraudwatch readiness --last",
)
@click.option(
    "--as-of",
    type=InstantParam(),
    help="Use the data known at this time (default: now, or the newest transaction if older).",
)
@click.option("--last", is_flag=True, help="Show the findings of the newest training instead.")
@output_options
@click.pass_obj
def readiness(context: CliContext, as_of: Any, last: bool, output_format: str, output: Path | None) -> None:
    """Check whether the history is fit for training: errors, warnings and hints with numbers and remedies.

    Every training runs the same checks and stores them in `readiness`; errors prevent a promotion. Exit code 1 on errors.
    """
    from pipeline.cli.output import write_rows
    from pipeline.training import train
    from storage.queries.choices import newest_findings

    config = context.load_config()
    with context.open_store(config) as store:
        date = _training_date(as_of, config, store)
        if last:
            rows = newest_findings(store, LIVE)
        else:
            rows = [
                finding.row()
                for finding in train.prepare(config, _load_history(store, config, date), date).findings
            ]
        columns = ["level", "code", "message", "remedy"] + (["numbers"] if output_format != "table" else [])
        if output_format == "table":
            for row in rows:
                click.echo(
                    f"{LEVEL_MARKS[row['level']]} {row['code']}: {row['message']}\n    {row['remedy']}"
                )
            click.echo(_level_counts(rows))
        else:
            write_rows(rows, columns, output_format, output, "")
    if any(row["level"] == "error" for row in rows):
        raise SystemExit(1)


LEVEL_MARKS = {"error": "✗", "warning": "!", "hint": "·"}


def _level_counts(rows: list[dict[str, Any]]) -> str:
    parts = [
        f"{n} {level}{'' if n == 1 else 's'}"
        for level in ("error", "warning", "hint")
        if (n := sum(row["level"] == level for row in rows))
    ]
    return (
        f"{', '.join(parts)}: only errors prevent a promotion"
        if parts
        else "✓ the history is ready for training"
    )


def _training_date(as_of: Any, config: "Config", store: "Store") -> int:
    """`as_of` if given; otherwise now, or just after the newest transaction if that is earlier."""
    from storage.ingest import history

    if as_of:
        return to_instant(as_of, config.schedule.timezone)
    span = history.span(store)
    return now() if span is None else min(now(), span[1] + config.schedule.allowed_lateness + 1)


def _load_history(store: "Store", config: "Config", date: int) -> "History":
    from pipeline.features import history

    return history.load(store, config, date - config.training.span - config.lookback, date)
