"""The command that compares every technique on the user's own history."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from pipeline.cli.options import CliContext, Command, now, output_options

if TYPE_CHECKING:
    from detectors.imbalance.results import Comparison
    from pipeline.config.config import Config
    from storage.database.database import Store
    from storage.models.comparisons import StoredComparison


@click.command(
    cls=Command,
    epilog="""
    fraudwatch compare
    fraudwatch compare --folds 4 --by country --plot curves.html
    fraudwatch compare --only SMOTE --only "no balancing" --format csv --output smote.csv
    fraudwatch compare --last --format json
    """,
)
@click.option("--folds", type=click.IntRange(1, 52), default=3, show_default=True, help="Training dates.")
@click.option("--test", default="7d", show_default=True, help="Test span after each training date.")
@click.option(
    "--max-rows",
    type=click.IntRange(min=1000),
    default=60_000,
    show_default=True,
    help="Fit each technique on at most this many of the newest labelled rows; prevalence is unchanged.",
)
@click.option(
    "--only",
    multiple=True,
    metavar="WORD",
    help="Only techniques whose name or family contains this word; may be repeated.",
)
@click.option(
    "--by", default="", metavar="FIELD", help="Report false-flag rates by the values of this field."
)
@click.option("--seed", type=int, default=7, show_default=True)
@click.option(
    "--plot",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Write curves to this .html, .svg or .png file.",
)
@click.option("--last", is_flag=True, help="Show the newest stored comparison instead.")
@output_options
@click.pass_obj
def compare(
    context: CliContext,
    folds: int,
    test: str,
    max_rows: int,
    only: tuple[str, ...],
    by: str,
    seed: int,
    plot: Path | None,
    last: bool,
    output_format: str,
    output: Path | None,
) -> None:
    """Backtest every technique for imbalanced data on your labelled history and report significant differences.

    Folds are in time order: train point in time at a date, test on the days that follow. Takes minutes.
    """
    from pipeline.comparison.plots import check
    from storage.models import comparisons

    config = context.load_config()
    if plot is not None:
        check(plot)
    if plot is not None and last:
        raise click.UsageError("--plot needs the scores, which are not stored: omit --last")
    settings = {
        "folds": folds, "test": test, "max_rows": max_rows, "only": list(only), "by": by, "seed": seed,
        "per_day": config.alerts.per_day,
    }  # fmt: skip
    with context.open_store(config) as store:
        if not last:
            comparison = _compare_and_save(context, store, config, settings)
            if plot is not None:
                _plot_curves(plot, comparison, config)
        _print_comparison(comparisons.load(store), output_format, output)


def _compare_and_save(
    context: CliContext, store: "Store", config: "Config", settings: dict[str, Any]
) -> "Comparison":
    """Run the comparison and store its results."""
    from pipeline.cli.output import ProgressBar
    from pipeline.comparison.compare import compare as run_comparison
    from pipeline.comparison.folds import ComparisonOptions
    from pipeline.comparison.results import fold_row, metric_rows
    from pipeline.durations import parse_duration
    from storage.models import comparisons

    try:
        span = parse_duration(settings["test"])
    except ValueError as error:
        raise click.UsageError(f"--test {settings['test']!r} {error}") from None
    names, threads = tuple(settings["only"]), config.training.threads
    options = ComparisonOptions(
        settings["folds"], span, settings["max_rows"], names, settings["by"], settings["seed"], threads
    )
    with ProgressBar() as bar:
        comparison = run_comparison(store, config, options, now(), bar)
    comparisons.save(
        store, now(), context.actor, config.public_text(), settings, [fold_row(fold) for fold in comparison.folds],
        comparison.notes(), comparison.sentence, metric_rows(comparison),
    )  # fmt: skip
    return comparison


def _plot_curves(plot: Path, comparison: "Comparison", config: "Config") -> None:
    """Write the curves to a file."""
    from pipeline.comparison.plots import curves

    curves(comparison, plot, config.schema_.base_currency)
    click.echo(f"curves written to {plot}", err=True)


def _print_comparison(comparison: "StoredComparison", output_format: str, output: Path | None) -> None:
    from detectors.imbalance.table import LEGEND
    from pipeline.cli.output import write_rows

    if output_format != "table":
        rows = (
            {**vars(result), "note": comparison.notes.get(result.technique, "")}
            for result in comparison.results
        )
        columns = ["technique", "metric", "value", "lower", "upper", "note"]
        write_rows(rows, columns, output_format, output, "nothing was compared")
        return
    click.echo("\n".join(_fold_lines(comparison)))
    write_rows(
        _technique_rows(comparison),
        ["technique", *_column_titles(comparison).values()],
        output_format,
        output,
        "nothing was compared",
    )
    for name, note in comparison.notes.items():
        click.echo(f"{name}: {note}")
    click.echo(f"\n{comparison.sentence}\n\n{LEGEND.format(per_day=comparison.settings['per_day'])}")


def _fold_lines(comparison: "StoredComparison") -> Iterator[str]:
    for fold in comparison.folds:
        yield (
            f"trained as of {fold['from'][:10]} on {fold['training_rows']:,} rows with {fold['training_frauds']:,} "
            f"frauds, tested until {fold['to'][:10]} on {fold['test_rows']:,} with {fold['test_frauds']:,}"
        )


def _column_titles(comparison: "StoredComparison") -> dict[str, str]:
    from detectors.imbalance.table import COLUMN_TITLES

    groups = sorted(
        {result.metric for result in comparison.results if result.metric.startswith("false_flag_rate ")}
    )
    return COLUMN_TITLES | {name: f"FF {name.partition(' ')[2]}" for name in groups}


def _technique_rows(comparison: "StoredComparison") -> Iterator[Mapping[str, Any]]:
    from detectors.imbalance.table import cell

    columns = _column_titles(comparison)
    lines: dict[str, dict[str, str]] = {}
    for result in comparison.results:
        line = lines.setdefault(result.technique, {"technique": result.technique})
        if result.metric in columns:
            line[columns[result.metric]] = cell(
                result.metric, result.value, (result.upper - result.lower) / 2
            )
    yield from (
        {name: line.get(name, "") for name in ("technique", *columns.values())} for line in lines.values()
    )
