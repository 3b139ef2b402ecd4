"""The models of a policy, each loaded once and found by the time of a transaction."""

from collections import OrderedDict
from collections.abc import Mapping
from typing import Any

import numpy as np

from detectors.model.model import Model
from pipeline.config.config import Config
from pipeline.features.compute import Plan
from pipeline.features.history import plan_of
from storage.database.database import Store
from storage.frames import Ints
from storage.models import models

HELD = 4  # models kept in memory; windows move forward, so an old one is rarely asked for again


class Shelf:
    """Promotions in order of effect, and the models they name."""

    def __init__(self, store: Store, config: Config, policy: str, only: int | None = None) -> None:
        self._store = store
        self._config = config
        self._policy = policy
        self.only = only
        self._models: OrderedDict[int, Model] = OrderedDict()
        self.refresh()

    def refresh(self) -> None:
        """Read the promotions again, after one was added; `only` stands for every one of them."""
        if self.only is not None:
            self._from, self._ids = np.empty(0, dtype=np.int64), np.array([self.only], dtype=np.int64)
            return
        found = sorted(models.promoted(self._store, self._policy), key=lambda p: (p.effective_from, p.seq))
        self._from = np.array([p.effective_from for p in found], dtype=np.int64)
        self._ids = np.array([-1] + [p.model_id for p in found], dtype=np.int64)

    def model_ids(self, event_times: Ints) -> Ints:
        """The newest promotion with effective_from ≤ event_time, −1 where there is none yet."""
        return self._ids[np.searchsorted(self._from, event_times, side="right")]

    def in_force_until(self, instant: int) -> list[int]:
        """The models that took effect up to an instant, in the order they did."""
        return [int(one) for one in self._ids[1:][self._from <= instant]]

    def model(self, model_id: int) -> Model:
        """A model by id, from memory or storage."""
        if model_id not in self._models:
            artefact = models.load_artefact(self._store, model_id)
            self._models[model_id] = Model.from_bytes(artefact, self._config.model_key())
        self._models.move_to_end(model_id)
        while len(self._models) > HELD:
            self._models.popitem(last=False)
        return self._models[model_id]

    def fields(self, model_id: int) -> Mapping[str, Any]:
        """The configured columns, windows and maturity this model was trained on."""
        found: Mapping[str, Any] = self.model(model_id).notes["fields"]
        return found

    def maturity(self, model_id: int) -> int:
        """The maturity of labels, in µs, that this model's features are computed with."""
        return int(self.fields(model_id).get("maturity", self._config.labels.maturity))

    def plan(self, model_id: int) -> Plan:
        """The features this model was trained on, whatever the config says by now."""
        return plan_of(self.fields(model_id))
