"""Compute features and model scores of a batch of transactions; scoring runs and drift share it."""

from dataclasses import dataclass

import numpy as np

from detectors.model.model import Model, Scores
from pipeline.config.config import Config
from pipeline.config.costs import at_risk
from pipeline.features import history as feature_history
from pipeline.features.catalogue import FeatureCatalogue
from pipeline.features.history import Floats, History
from pipeline.scoring.model_cache import ModelCache
from storage.frames import Ints, Transactions


@dataclass(frozen=True)
class ScoredBatch:
    """Features and scores of some transactions by one model, before rules and the audit sample are applied."""

    model_id: int
    model: Model
    features: FeatureCatalogue
    rows: Transactions
    raw: Floats
    scores: Scores
    at_risk: Floats

    def __len__(self) -> int:
        return len(self.rows)

    def take(self, positions: Ints) -> "ScoredBatch":
        """The transactions at these positions, in order."""
        scores = Scores(*(getattr(self.scores, name)[positions] for name in Scores.__dataclass_fields__))
        raw = np.ascontiguousarray(self.raw[positions])
        rows, money = self.rows.take(positions), self.at_risk[positions]
        return ScoredBatch(self.model_id, self.model, self.features, rows, raw, scores, money)

    @property
    def expected_loss(self) -> Floats:
        """
        Fraud probability × what is at risk, (n,) in the base currency; under outlier detection with an upper guess of the
        probability, NaN without one.
        """
        return np.asarray(self.scores.loss_probability * self.at_risk)


def score_batch(
    config: Config, model_cache: ModelCache, history: History, rows: Ints, model_id: int
) -> ScoredBatch:
    """Score the transactions at these positions of a history with one model."""
    model, features = model_cache.model(model_id), model_cache.catalogue(model_id)
    raw = feature_history.raw_matrix(history, rows, features, config, model_cache.fields(model_id))
    transactions = history.transactions.take(rows)
    money = at_risk(config, transactions)
    return ScoredBatch(model_id, model, features, transactions, raw, model.score(raw, money), money)
