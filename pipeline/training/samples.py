"""Which of the rows that a date knows are learned from, as samples with their raw features."""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from detectors.inputs.encoding import Encoder
from detectors.inputs.sample import Sample
from detectors.strategy.exclude_suspicious import flagged_in_turn
from pipeline import hash_sampling
from pipeline.config.config import Config
from pipeline.features.compute import Plan
from pipeline.features.history import History, raw_matrix
from pipeline.features.label_history import FRAUD
from pipeline.training.training_set import Known, payers
from storage.frames import DAY, MONEY, Ints

USUAL_ROWS = 60_000  # trees of the outlier detector draw 4,096 rows each; more rows only cost features
RECENT_ROWS = 60_000  # a daily budget of 50 is then read off hundreds of scores
Floats = NDArray[np.float64]


class Matrix:
    """Raw features computed once for several overlapping samples."""

    def __init__(self, config: Config, history: History, features: Plan, samples: list[Ints]) -> None:
        self._history = history
        self._rows = np.unique(np.concatenate(samples))
        self._raw = raw_matrix(history, self._rows, features, config)
        self._payers = payers(config, history)

    def sample(
        self, rows: Ints, y: Floats | None = None, weight: Floats | None = None, known_at: Ints | None = None
    ) -> Sample:
        """These rows of the history; without `y` nothing is known of them, without `weight` each stands for itself."""
        held = self._history.transactions
        return Sample(
            np.ascontiguousarray(self._raw[np.searchsorted(self._rows, rows)]),
            np.full(len(rows), np.nan) if y is None else y,
            np.ones(len(rows)) if weight is None else weight,
            held.amount[rows] / MONEY,
            held.event_time[rows],
            known_at,
            self._payers[rows],
        )


@dataclass(frozen=True)
class Drawn:
    """The rows of a training."""

    mature: Sample
    usual: Sample
    recent: Sample


def for_training(config: Config, history: History, known: Known, features: Plan) -> Drawn:
    """All frauds and about `training.max_rows` other mature rows, usual rows for the outlier detector, and the newest ones."""
    draws, most = hash_sampling.uniform(history.transactions.transaction_id), config.training.max_rows
    mature, of_mature = hash_sampling.draw(draws[known.mature], most, known.y == FRAUD)
    usual, of_usual = hash_sampling.draw(draws[known.usual], min(USUAL_ROWS, most))
    recent, of_recent = hash_sampling.draw(draws[known.recent], RECENT_ROWS)
    rows = [known.mature[mature], known.usual[usual], known.recent[recent]]
    matrix = Matrix(config, history, features, rows)
    drawn = Drawn(
        matrix.sample(rows[0], known.y[mature], of_mature, known.learnable[mature]),
        matrix.sample(rows[1], weight=of_usual),
        matrix.sample(rows[2], weight=of_recent),
    )
    if not config.training.exclude_flagged:
        return drawn
    normal = ~_flagged(config, features, drawn.usual) | known.cleared[usual]
    return replace(drawn, usual=drawn.usual.take(normal))


def for_evidence(config: Config, history: History, known: Known, features: Plan) -> Sample:
    """All frauds and about `choose.evidence_rows` other mature rows."""
    draws = hash_sampling.uniform(history.transactions.transaction_id[known.mature])
    chosen, weight = hash_sampling.draw(draws, config.choose.evidence_rows, known.y == FRAUD)
    rows = known.mature[chosen]
    matrix = Matrix(config, history, features, [rows])
    return matrix.sample(rows, known.y[chosen], weight, known.learnable[chosen])


def _flagged(config: Config, features: Plan, usual: Sample) -> NDArray[np.bool_]:
    """Which usual rows outlier detection would have put before a reviewer."""
    if not len(usual):
        return np.zeros(0, dtype=bool)
    encoded = Encoder(features.encoding).fit(usual.raw, usual.y, usual.weight).transform(usual.raw)
    view, trees, seed = features.layout.outlier_view(encoded), config.training.trees, config.training.seed
    return flagged_in_turn(view, usual.weight, usual.times, config.alerts.per_day, trees, seed, DAY)
