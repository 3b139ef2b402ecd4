"""The commands that show the choice of strategy: as it was made, as it would be now, and what stands in its way."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from pipeline.cli.options import LIVE, Command, Door, Instant, in_zone, now, output_options, policy_option

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
    "--explain", type=click.IntRange(min=1), metavar="ID", help="Tell everything one choice rests on."
)
@click.option("--limit", type=click.IntRange(min=1), default=20, show_default=True)
@policy_option
@output_options
@click.pass_obj
def choices(door: Door, policy: str, explain: int | None, limit: int, form: str, output: Path | None) -> None:
    """List the choices of strategy with their numbers, rule and sentence, newest first."""
    from pipeline.cli import output as console
    from pipeline.services.choices import explained
    from storage.queries import listings

    with door.store(door.config()) as store:
        if explain is not None:
            row = listings.choice(store, policy, explain)
            click.echo("\n".join(explained(row["evidence"] | {"row": row})))
            return
        rows = listings.choices(store, policy, limit=limit)
        console.show(
            rows,
            COLUMNS,
            form,
            output,
            "no training has chosen yet: fraudwatch train, or fraudwatch backfill",
        )


@click.command(
    cls=Command, epilog="fraudwatch choose --dry-run\nfraudwatch choose --dry-run --as-of 2026-03-01"
)
@click.option("--dry-run", is_flag=True, help="Required: choices are made by trainings.")
@click.option(
    "--as-of",
    type=Instant(),
    help="With what was known then (default: now, or the newest transaction if older).",
)
@click.pass_obj
def choose(door: Door, dry_run: bool, as_of: Any) -> None:
    """Show what a training would choose and why; nothing is stored or promoted."""
    from pipeline.services.choices import previewed, young
    from pipeline.training import strategy_choice
    from pipeline.training.readiness import young_cohorts

    if not dry_run:
        raise click.UsageError(
            "choices are made by trainings: fraudwatch train makes one, --dry-run shows what it would be"
        )
    config = door.config()
    with door.store(config) as store:
        date = _date(as_of, config, store)
        history = _history(store, config, date)
        found = strategy_choice.preview(store, config, history, LIVE, date)
    click.echo("\n".join(previewed(found, date)))
    click.echo("\n".join(young(young_cohorts(history, config.labels.maturity, date))))


@click.command(
    cls=Command,
    epilog="fraudwatch readiness\nfraudwatch readiness --as-of 2026-03-01 --format json\nfraudwatch readiness --last",
)
@click.option(
    "--as-of",
    type=Instant(),
    help="With what was known then (default: now, or the newest transaction if older).",
)
@click.option("--last", is_flag=True, help="Show what the newest training found instead.")
@output_options
@click.pass_obj
def readiness(door: Door, as_of: Any, last: bool, form: str, output: Path | None) -> None:
    """Say whether the history is fit to train on: errors, warnings and hints, each with a number and a remedy.

    The same is done before every training and stored in `readiness`; errors stop its promotion. Ends with 1 on errors.
    """
    from pipeline.cli import output as console
    from pipeline.training import train
    from storage.queries import listings

    config = door.config()
    with door.store(config) as store:
        date = _date(as_of, config, store)
        if last:
            rows = listings.readiness(store, LIVE)
        else:
            rows = [one.row() for one in train.prepare(config, _history(store, config, date), date).findings]
        columns = ["level", "code", "said", "remedy"] + (["numbers"] if form != "table" else [])
        if form == "table":
            for row in rows:
                click.echo(f"{MARKS[row['level']]} {row['code']}: {row['said']}\n    {row['remedy']}")
            click.echo(_count(rows))
        else:
            console.show(rows, columns, form, output, "")
    if any(row["level"] == "error" for row in rows):
        raise SystemExit(1)


MARKS = {"error": "✗", "warning": "!", "hint": "·"}


def _count(rows: list[dict[str, Any]]) -> str:
    told = [
        f"{n} {level}{'' if n == 1 else 's'}"
        for level in ("error", "warning", "hint")
        if (n := sum(row["level"] == level for row in rows))
    ]
    return (
        f"{', '.join(told)}: errors stop a promotion, nothing else does"
        if told
        else "✓ nothing stands in the way of a training"
    )


def _date(as_of: Any, config: "Config", store: "Store") -> int:
    """Now by default, or just after the newest transaction where the stored history ended before."""
    from storage.ingest import history

    if as_of:
        return in_zone(as_of, config.schedule.timezone)
    span = history.span(store)
    return now() if span is None else min(now(), span[1] + config.schedule.allowed_lateness + 1)


def _history(store: "Store", config: "Config", date: int) -> "History":
    from pipeline.features import history

    return history.load(store, config, date - config.training.span - config.lookback, date)
