"""Comparisons of techniques for imbalanced data on the monitor's own history: run one, and list and show stored ones."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

from pipeline.comparison import plots
from pipeline.comparison.compare import compare
from pipeline.comparison.folds import ComparisonOptions
from pipeline.comparison.results import curve_rows, fold_row, metric_rows
from pipeline.durations import format_duration, parse_duration
from pipeline.progress import NoProgress, Progress
from pipeline.services.pages import PAGE_ROWS, Page, decode_cursor, encode_cursor
from pipeline.services.records import as_record
from pipeline.services.session import Session
from storage.database.column_types import as_datetime
from storage.models import comparisons
from storage.models.comparisons import StoredComparison
from storage.queries.comparisons import comparison_page

MICROSECOND = timedelta(microseconds=1)


@dataclass(frozen=True)
class ComparisonRequest:
    """
    What to compare, and how.

    Attributes
    ----------
    folds
        Training dates, each followed by a test span.
    test_span
        How long a test span is: whole seconds.
    rows_max
        Each technique is fitted on at most this many of the newest labelled rows; prevalence is unchanged.
    techniques
        Words that a technique's name or family must contain; all techniques if empty.
    by
        A field by whose values false-flag rates are reported; none if empty.
    """

    folds: int = 3
    test_span: timedelta = timedelta(days=7)
    rows_max: int = 60_000
    techniques: tuple[str, ...] = ()
    by: str = ""
    seed: int = 7


@dataclass(frozen=True)
class ComparedSpan:
    """One fold: a training at a date, and the test until another."""

    trained_at: datetime
    tested_until: datetime
    training_rows: int
    training_frauds: int
    test_rows: int
    test_frauds: int


@dataclass(frozen=True)
class MetricEstimate:
    """A metric with its 95 % bootstrap interval; None where it is not defined, or is a count without an interval."""

    metric: str
    value: float | None
    lower: float | None
    upper: float | None


@dataclass(frozen=True)
class TechniqueCurve:
    """Recall and precision of the pooled test rows as the threshold falls, at the same places."""

    recall: tuple[float, ...]
    precision: tuple[float, ...]


@dataclass(frozen=True)
class ComparedTechnique:
    """The metrics of one technique, and its curve; None of the baseline, and of comparisons from before curves were stored."""

    technique: str
    metrics: tuple[MetricEstimate, ...]
    curve: TechniqueCurve | None


@dataclass(frozen=True)
class ComparisonRecord:
    """A stored comparison, without its results."""

    comparison_id: int
    at: datetime
    by: str
    sentence: str


@dataclass(frozen=True)
class TechniqueComparison:
    """
    A comparison with its results, as it is stored.

    Attributes
    ----------
    flags_per_day
        How many of the highest scores of a day are reviewed.
    techniques
        The baseline that flags nothing, then the techniques, best first.
    notes
        By technique: what is special about it here, or why it was not possible.
    """

    comparison_id: int
    at: datetime
    by: str
    sentence: str
    request: ComparisonRequest
    flags_per_day: float
    folds: tuple[ComparedSpan, ...]
    techniques: tuple[ComparedTechnique, ...]
    notes: Mapping[str, str]


def compare_techniques(
    session: Session,
    request: ComparisonRequest,
    *,
    plot: Path | None = None,
    progress: Progress | None = None,
) -> TechniqueComparison:
    """
    Backtest the techniques on the newest spans whose labels are mature, and store the results. Takes minutes.

    Parameters
    ----------
    plot
        A .html, .svg or .png file for the curves, with those of the cost, which are not stored.

    Raises
    ------
    NotReady
        There is no span that has a fraud and whose training knows two.
    InputError
        A technique or the field is unknown, or the curves cannot be written to this file.
    """
    store, config = session.store, session.config
    if plot is not None:
        plots.check(plot)
    options = ComparisonOptions(
        folds=request.folds,
        test=request.test_span // MICROSECOND,
        max_rows=request.rows_max,
        names=request.techniques,
        by=request.by,
        seed=request.seed,
        threads=config.training.threads,
    )
    result = compare(store, config, options, session.now, progress or NoProgress())
    settings = {
        "folds": request.folds, "test": format_duration(options.test), "max_rows": request.rows_max,
        "only": list(request.techniques), "by": request.by, "seed": request.seed, "per_day": config.alerts.per_day,
    }  # fmt: skip
    number = comparisons.save(
        store, session.now, session.actor, config.public_text(), settings,
        [fold_row(fold) for fold in result.folds], result.notes(), result.sentence, metric_rows(result),
        curve_rows(result),
    )  # fmt: skip
    if plot is not None:
        plots.curves(result, plot, config.monitor.name, config.schema_.base_currency)
    return show_comparison(session, number)


def list_comparisons(
    session: Session, *, limit: int = PAGE_ROWS, cursor: str | None = None
) -> Page[ComparisonRecord]:
    """
    Stored comparisons, newest first.

    Raises
    ------
    InputError
        The cursor is not one of this list.
    """
    page = comparison_page(session.store, limit, decode_cursor(cursor, keys=1))
    records = tuple(as_record(ComparisonRecord, row) for row in page.rows)
    return Page(records, encode_cursor(page.next_position))


def show_comparison(session: Session, comparison_id: int | None = None) -> TechniqueComparison:
    """
    A stored comparison, the newest by default.

    Raises
    ------
    Unknown
        There is no such comparison, or none at all.
    """
    stored = comparisons.load(session.store, comparison_id)
    settings = stored.settings
    request = ComparisonRequest(
        folds=settings["folds"],
        test_span=parse_duration(settings["test"]) * MICROSECOND,
        rows_max=settings["max_rows"],
        techniques=tuple(settings["only"]),
        by=settings["by"],
        seed=settings["seed"],
    )
    return TechniqueComparison(
        comparison_id=stored.comparison_id,
        at=as_datetime(stored.at),
        by=stored.by,
        sentence=stored.sentence,
        request=request,
        flags_per_day=settings["per_day"],
        folds=tuple(_span(fold) for fold in stored.folds),
        techniques=_techniques(stored),
        notes=stored.notes,
    )


def _span(fold: Mapping[str, str]) -> ComparedSpan:
    return as_record(
        ComparedSpan,
        fold,
        trained_at=datetime.fromisoformat(fold["from"]),
        tested_until=datetime.fromisoformat(fold["to"]),
    )


def _techniques(stored: StoredComparison) -> tuple[ComparedTechnique, ...]:
    metrics: dict[str, list[MetricEstimate]] = {}
    for row in stored.results:
        estimate = MetricEstimate(row.metric, row.value, row.lower, row.upper)
        metrics.setdefault(row.technique, []).append(estimate)
    curves = {
        name: TechniqueCurve(tuple(curve["recall"]), tuple(curve["precision"]))
        for name, curve in stored.curves.items()
    }
    return tuple(
        ComparedTechnique(name, tuple(estimates), curves.get(name)) for name, estimates in metrics.items()
    )
