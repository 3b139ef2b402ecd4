"""An LRU cache of a policy's promoted models, looked up by the time of a transaction."""

from collections import OrderedDict
from collections.abc import Mapping
from typing import Any

import numpy as np

from detectors.base import ArtifactError
from detectors.model.artifact import RETRAIN, Seal, unseal
from detectors.model.model import Model
from pipeline.config.config import Config
from pipeline.features.catalogue import FeatureCatalogue
from pipeline.features.history import catalogue_of
from storage.database.database import Store
from storage.frames import Ints, Transactions
from storage.models import models
from storage.models.models import LIVE

MODELS_MAX = 4  # in memory; windows move forward, so an old model is rarely needed again


def seal_of(config: Config, model_id: int) -> Seal:
    """The seal of a model of this monitor."""
    return Seal(config.monitor.name, model_id, config.model_keys())


def load_model(store: Store, config: Config, model_id: int) -> Model:
    """
    A stored model that can score here.

    Raises
    ------
    Unknown, Damaged, ArtifactError
        There is no such model, its bytes cannot be trusted, or a column that it was trained on is not computed any more.
    """
    model = Model.from_bytes(unseal(models.load_artifact(store, model_id), seal_of(config, model_id)))
    catalogue_of_model(model)
    return model


def catalogue_of_model(model: Model) -> FeatureCatalogue:
    """
    The features that a model was trained on, independent of the current configuration.

    Raises
    ------
    ArtifactError
        A column that it was trained on is not computed any more, or its notes are none of a training.
    """
    try:
        int(model.notes["trained_at"])
        computed = catalogue_of(model.notes["fields"])
    except (LookupError, TypeError, ValueError, AttributeError) as error:
        raise ArtifactError(f"the model's notes cannot be read: {error}", remedy=RETRAIN) from error
    return computed.of_model(model.columns, model.detector.layout_.encoding)


class ModelCache:
    """Promotions of a policy, in the order they took effect, and their models; or one fixed model for all times."""

    def __init__(self, store: Store, config: Config, policy: str, only: int | None = None) -> None:
        self._store = store
        self._config = config
        self._policy = policy
        self.fixed_model_id = only
        self._models: OrderedDict[int, tuple[Model, FeatureCatalogue]] = OrderedDict()
        self.refresh()

    def refresh(self) -> None:
        """Read the promotions again, after one was added; a fixed model replaces all promotions."""
        if self.fixed_model_id is not None:
            self._from, self._ids = (
                np.empty(0, dtype=np.int64),
                np.array([self.fixed_model_id], dtype=np.int64),
            )
            return
        promotions = sorted(
            models.promoted(self._store, self._policy), key=lambda p: (p.effective_from, p.seq)
        )
        self._seq = np.array([p.seq for p in promotions], dtype=np.int64)
        self._from = np.array([p.effective_from for p in promotions], dtype=np.int64)
        self._ids = np.array([-1] + [p.model_id for p in promotions], dtype=np.int64)

    def model_ids(self, event_times: Ints) -> Ints:
        """The model of the newest promotion with effective_from ≤ event_time, −1 if there is none yet."""
        return self._ids[np.searchsorted(self._from, event_times, side="right")]

    def models_of(self, rows: Transactions) -> Ints:
        """
        The model that scores each row, (n,), −1 if there is none yet.

        A row that was scored on arrival knows the promotions that there were then: a training that was due may not have ended.
        """
        found = self.model_ids(rows.event_time)
        if rows.promotion is None or self._policy != LIVE or self.fixed_model_id is not None:
            return found
        for seq in np.unique(rows.promotion[rows.promotion >= 0]):
            known = self._seq <= seq
            ids, start = np.append(-1, self._ids[1:][known]), self._from[known]
            arrived = rows.promotion == seq
            found[arrived] = ids[np.searchsorted(start, rows.event_time[arrived], side="right")]
        return found

    def in_force_until(self, instant: int) -> list[int]:
        """The models that took effect up to an instant, in that order."""
        return [int(model_id) for model_id in self._ids[1:][self._from <= instant]]

    def model(self, model_id: int) -> Model:
        """A model by id, from the cache or the database."""
        return self._loaded(model_id)[0]

    def _loaded(self, model_id: int) -> tuple[Model, FeatureCatalogue]:
        if model_id not in self._models:
            model = load_model(self._store, self._config, model_id)
            self._models[model_id] = model, catalogue_of_model(model)
        self._models.move_to_end(model_id)
        while len(self._models) > MODELS_MAX:
            self._models.popitem(last=False)
        return self._models[model_id]

    def fields(self, model_id: int) -> Mapping[str, Any]:
        """The configured columns, windows and maturity that this model was trained with."""
        fields: Mapping[str, Any] = self.model(model_id).notes["fields"]
        return fields

    def maturity(self, model_id: int) -> int:
        """The label maturity, in µs, that this model's features are computed with."""
        return int(self.fields(model_id).get("maturity", self._config.labels.longest_maturity))

    def catalogue(self, model_id: int) -> FeatureCatalogue:
        """The features that this model was trained on, independent of the current configuration."""
        return self._loaded(model_id)[1]
