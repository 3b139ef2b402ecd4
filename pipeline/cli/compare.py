"""The command that tries every technique on the user's own history."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from pipeline.cli.options import Command, Door, now, output_options

if TYPE_CHECKING:
    from pipeline.comparison.results import Compared
    from pipeline.config.config import Config
    from storage.database.database import Store
    from storage.models.comparisons import Comparison

SHOWN = {
    "ap": "AP", "ap_train": "AP train", "f1": "F1", "mcc": "MCC", "recall_0.5": "R@.5", "recall_0.2": "R@.2",
    "recall_0.1": "R@.1", "precision_at_k": "P@k", "recall_at_k": "R@k", "cost": "cost", "savings": "savings",
    "rows_discarded": "-rows", "rows_invented": "+rows", "seconds": "s",
}  # fmt: skip
WHOLE = {"cost", "rows_discarded", "rows_invented", "seconds"}
LEGEND = (
    "± is half of a 95 % interval over resampled entities; AP on test and on training rows (what was memorised); F1, MCC, cost "
    "and savings at thresholds set on earlier days; R@.5 and so on: recall where the model itself, uncorrected, says that much; "
    "P@k, R@k: precision and recall of the {per_day} highest scores a day; −rows, +rows: left out and invented in training."
)


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
@click.option("--test", default="7d", show_default=True, help="Span judged after each training date.")
@click.option(
    "--max-rows",
    type=click.IntRange(min=1000),
    default=60_000,
    show_default=True,
    help="Newest labelled rows a technique is fitted on; their prevalence stays as it is.",
)
@click.option(
    "--only",
    multiple=True,
    metavar="WORD",
    help="Techniques whose name or family has this word; repeat for more.",
)
@click.option("--by", default="", metavar="FIELD", help="Tell false-flag rates of this field's values apart.")
@click.option("--seed", type=int, default=7, show_default=True)
@click.option(
    "--plot", type=click.Path(path_type=Path, dir_okay=False), help="Curves to a .html, .svg or .png file."
)
@click.option("--last", is_flag=True, help="Show the newest stored comparison instead.")
@output_options
@click.pass_obj
def compare(
    door: Door,
    folds: int,
    test: str,
    max_rows: int,
    only: tuple[str, ...],
    by: str,
    seed: int,
    plot: Path | None,
    last: bool,
    form: str,
    output: Path | None,
) -> None:
    """Try every technique of imbalanced data on your own labelled history, and say what differs beyond noise.

    Folds are in order of time: train on what was known at a date, test on the days that followed. Takes minutes.
    """
    from pipeline.comparison.plots import check
    from storage.models import comparisons

    config = door.config()
    if plot is not None:
        check(plot)
    if plot is not None and last:
        raise click.UsageError("--plot needs the scores, which are not stored: leave --last out")
    settings = {
        "folds": folds, "test": test, "max_rows": max_rows, "only": list(only), "by": by, "seed": seed,
        "per_day": config.alerts.per_day,
    }  # fmt: skip
    with door.store(config) as store:
        if not last:
            found = _run(door, store, config, settings)
            if plot is not None:
                _draw(plot, found, config)
        _show(comparisons.load(store), form, output)


def _run(door: Door, store: "Store", config: "Config", settings: dict[str, Any]) -> "Compared":
    """Compare and keep the table."""
    from pipeline.cli.output import Bar
    from pipeline.comparison.compare import compare as run
    from pipeline.comparison.folds import Wanted
    from pipeline.durations import parse_duration
    from storage.models import comparisons

    try:
        span = parse_duration(settings["test"])
    except ValueError as error:
        raise click.UsageError(f"--test {settings['test']!r} {error}") from None
    names, threads = tuple(settings["only"]), config.training.threads
    wanted = Wanted(
        settings["folds"], span, settings["max_rows"], names, settings["by"], settings["seed"], threads
    )
    with Bar() as bar:
        found = run(store, config, wanted, now(), bar)
    comparisons.save(
        store, now(), door.actor, config.public_text(), settings, found.folds, found.notes(),
        found.sentence, found.measured(),
    )  # fmt: skip
    return found


def _draw(plot: Path, found: "Compared", config: "Config") -> None:
    """Draw and say where."""
    from pipeline.comparison.plots import curves

    curves(found, plot, config.schema_.base_currency)
    click.echo(f"curves written to {plot}", err=True)


def _show(found: "Comparison", form: str, output: Path | None) -> None:
    from pipeline.cli import output as console

    if form != "table":
        rows = ({**vars(one), "note": found.notes.get(one.technique, "")} for one in found.results)
        columns = ["technique", "measure", "value", "lower", "upper", "note"]
        console.show(rows, columns, form, output, "nothing was compared")
        return
    click.echo("\n".join(_head(found)))
    console.show(
        _table(found), ["technique", *_columns(found).values()], form, output, "nothing was compared"
    )
    for name, note in found.notes.items():
        click.echo(f"{name}: {note}")
    click.echo(f"\n{found.sentence}\n\n{LEGEND.format(per_day=found.settings['per_day'])}")


def _head(found: "Comparison") -> Iterator[str]:
    for fold in found.folds:
        yield (
            f"trained as of {fold['from'][:10]} on {fold['training_rows']:,} rows with {fold['training_frauds']:,} "
            f"frauds, tested until {fold['to'][:10]} on {fold['test_rows']:,} with {fold['test_frauds']:,}"
        )


def _columns(found: "Comparison") -> dict[str, str]:
    groups = sorted({one.measure for one in found.results if one.measure.startswith("false_flag_rate ")})
    return SHOWN | {name: f"FF {name.partition(' ')[2]}" for name in groups}


def _table(found: "Comparison") -> Iterator[Mapping[str, Any]]:
    columns = _columns(found)
    lines: dict[str, dict[str, str]] = {}
    for one in found.results:
        line = lines.setdefault(one.technique, {"technique": one.technique})
        if one.measure in columns:
            line[columns[one.measure]] = _cell(one.measure, one.value, (one.upper - one.lower) / 2)
    yield from (
        {name: line.get(name, "") for name in ("technique", *columns.values())} for line in lines.values()
    )


def _cell(measure: str, value: float, half: float) -> str:
    if value != value:  # noqa: PLR0124 (NaN: not defined here)
        return "–"
    if measure in WHOLE:
        return f"{value:,.0f}" + (f"±{half:,.0f}" if half == half and half else "")  # noqa: PLR0124
    digits = 3 if measure in ("ap", "ap_train") or measure.startswith("false") else 2
    return f"{value:.{digits}f}" + (f"±{half:.{digits}f}" if half == half else "")  # noqa: PLR0124
