"""Commands that compare every technique on the user's own history, and that list and show stored comparisons."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from pipeline.cli.options import CliContext, Command, Group, output_options

if TYPE_CHECKING:
    from pipeline.services.models.comparisons import TechniqueComparison

NO_COMPARISON = "nothing has been compared yet: fraudwatch compare"


@click.command(
    cls=Command,
    epilog="""
    fraudwatch compare
    fraudwatch compare --folds 4 --by country --plot curves.html
    fraudwatch compare --only SMOTE --only "no balancing" --format csv --output smote.csv
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
    output_format: str,
    output: Path | None,
) -> None:
    """Backtest every technique on your labelled history.

    Techniques for imbalanced data; significant differences are reported. Folds are in time order: train point in time at a date, test on the days that follow. Takes minutes.
    """
    from datetime import timedelta

    from pipeline.cli.output import progress_bar
    from pipeline.durations import parse_duration
    from pipeline.services.models.comparisons import ComparisonRequest, compare_techniques

    try:
        span = timedelta(microseconds=parse_duration(test))
    except ValueError as error:
        raise click.UsageError(f"--test {test!r} {error}") from None
    request = ComparisonRequest(folds, span, max_rows, only, by, seed)
    with context.session() as session, progress_bar() as bar:
        comparison = compare_techniques(session, request, plot=plot, progress=bar)
    if plot is not None:
        click.echo(f"curves written to {plot}", err=True)
    _print_comparison(comparison, output_format, output)


@click.group(cls=Group)
def comparisons() -> None:
    """List and show stored comparisons of techniques."""


@comparisons.command(
    "list", epilog="fraudwatch comparisons list\nfraudwatch comparisons list --limit 3 --format json"
)
@click.option("--limit", type=click.IntRange(min=1), default=20, show_default=True)
@output_options
@click.pass_obj
def list_stored_comparisons(context: CliContext, limit: int, output_format: str, output: Path | None) -> None:
    """List stored comparisons with their summaries, newest first."""
    from pipeline.cli.output import write_rows
    from pipeline.services.models.comparisons import list_comparisons
    from pipeline.services.pages import every

    with context.session() as session:
        listed = every(list_comparisons, session, limit=limit)
        columns = ["comparison_id", "at", "by", "sentence"]
        write_rows(map(vars, listed), columns, output_format, output, NO_COMPARISON)


@comparisons.command("show", epilog="fraudwatch comparisons show\nfraudwatch comparisons show 2 --format csv")
@click.argument("comparison_id", type=click.IntRange(min=1), required=False)
@output_options
@click.pass_obj
def show_stored_comparison(
    context: CliContext, comparison_id: int | None, output_format: str, output: Path | None
) -> None:
    """Show a stored comparison as it was printed, by default the newest one."""
    from pipeline.services.models.comparisons import show_comparison

    with context.session() as session:
        comparison = show_comparison(session, comparison_id)
    _print_comparison(comparison, output_format, output)


def _print_comparison(comparison: "TechniqueComparison", output_format: str, output: Path | None) -> None:
    from pipeline.cli.output import write_rows
    from pipeline.comparison.table import column_titles, legend

    if output_format != "table":
        columns = ["technique", "metric", "value", "lower", "upper", "note"]
        write_rows(_metric_rows(comparison), columns, output_format, output, "")
        return
    click.echo("\n".join(_fold_lines(comparison)))
    titles = column_titles(each.metric for compared in comparison.techniques for each in compared.metrics)
    rows = _technique_rows(comparison, titles)
    write_rows(rows, ["technique", *titles.values()], output_format, output, "")
    for name, note in comparison.notes.items():
        click.echo(f"{name}: {note}")
    click.echo(f"\n{comparison.sentence}\n\n{legend(comparison.flags_per_day)}")


def _metric_rows(comparison: "TechniqueComparison") -> Iterator[Mapping[str, Any]]:
    for compared in comparison.techniques:
        named = {"technique": compared.technique, "note": comparison.notes.get(compared.technique, "")}
        yield from (named | vars(estimate) for estimate in compared.metrics)


def _fold_lines(comparison: "TechniqueComparison") -> Iterator[str]:
    for fold in comparison.folds:
        yield (
            f"trained as of {fold.trained_at:%Y-%m-%d} on {fold.training_rows:,} rows with {fold.training_frauds:,} "
            f"frauds, tested until {fold.tested_until:%Y-%m-%d} on {fold.test_rows:,} with {fold.test_frauds:,}"
        )


def _technique_rows(
    comparison: "TechniqueComparison", titles: Mapping[str, str]
) -> Iterator[Mapping[str, str]]:
    from pipeline.comparison.table import cell_text

    for compared in comparison.techniques:
        cells = {
            titles[each.metric]: cell_text(each.metric, each.value, each.lower, each.upper)
            for each in compared.metrics
            if each.metric in titles
        }
        yield {"technique": compared.technique} | dict.fromkeys(titles.values(), "") | cells
