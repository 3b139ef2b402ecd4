"""What a model sees and says of transactions: the part of scoring that drift shares."""

from dataclasses import dataclass

import numpy as np

from detectors.model.model import Model, Scores
from pipeline.config.config import Config
from pipeline.features import history as histories
from pipeline.features.compute import Plan
from pipeline.features.history import Floats, History
from pipeline.scoring.model_cache import Shelf
from storage.frames import MONEY, Ints, Transactions


@dataclass(frozen=True)
class Measured:
    """What a model saw and said of some transactions: its own word, before rules and audits."""

    model_id: int
    model: Model
    features: Plan
    rows: Transactions
    raw: Floats
    scores: Scores

    def __len__(self) -> int:
        return len(self.rows)

    def take(self, kept: Ints) -> "Measured":
        """These of the transactions, in order."""
        scores = Scores(*(getattr(self.scores, name)[kept] for name in Scores.__dataclass_fields__))
        raw = np.ascontiguousarray(self.raw[kept])
        return Measured(self.model_id, self.model, self.features, self.rows.take(kept), raw, scores)


def measure(config: Config, shelf: Shelf, history: History, rows: Ints, model_id: int) -> Measured:
    """Features and scores of the transactions at these positions, by this model."""
    model, features = shelf.model(model_id), shelf.plan(model_id)
    raw = histories.raw_matrix(history, rows, features, config, shelf.fields(model_id))
    chosen = history.transactions.take(rows)
    return Measured(model_id, model, features, chosen, raw, model.score(raw, chosen.amount / MONEY))
