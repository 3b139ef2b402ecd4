"""Compares techniques for imbalanced data on the user's own stored history."""

import time

from detectors.base import DetectorError
from detectors.imbalance.backtest import ReviewTerms, backtest, select_techniques
from detectors.imbalance.results import Comparison
from pipeline.comparison.folds import ComparisonOptions, folds_of
from pipeline.config.config import Config
from pipeline.config.costs import costs_of
from pipeline.errors import InputError, NotReady
from pipeline.progress import NoProgress, Progress
from storage.database.database import Store


def compare(
    store: Store, config: Config, options: ComparisonOptions, as_of: int, progress: Progress | None = None
) -> Comparison:
    """
    Fit and evaluate the techniques on the newest spans whose labels are mature.

    Raises
    ------
    NotReady
        There is no span of `options.test` that has a fraud and whose training knows two, or no technique is possible.
    InputError
        `options.by` or a technique is unknown.
    """
    try:
        techniques = select_techniques(options.names)
    except DetectorError as error:
        raise InputError(str(error), code="unknown_technique") from error
    folds = folds_of(store, config, options, as_of)
    terms = ReviewTerms(costs_of(config), round(config.alerts.per_day), config.schema_.base_currency)
    bar = progress or NoProgress()
    bar.start("comparing", float(len(techniques) * len(folds)), "fits")
    try:
        return backtest(techniques, folds, terms, lambda *_: bar.advance(1), time.perf_counter)
    except DetectorError as error:
        raise NotReady(str(error), code="nothing_to_compare") from error
    finally:
        bar.stop()
