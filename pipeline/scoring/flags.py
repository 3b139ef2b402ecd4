"""Scores → flags, with reasons for reviewers."""

import json
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from detectors.model.model import AUDIT, RULE, Model, Scores
from pipeline.config.config import Config
from pipeline.features.catalogue import FeatureCatalogue
from pipeline.scoring.reasons import AUDIT_REASON, FlaggedRows, contributions_of, strongest_reasons
from storage.frames import Transactions
from storage.runs.scores import Flag

Floats = NDArray[np.float64]


def flags_of(
    model: Model,
    model_id: int,
    features: FeatureCatalogue,
    raw: Floats,
    rows: Transactions,
    scores: Scores,
    config: Config,
    rule_reasons: Mapping[int, Mapping[str, Any]] | None = None,
) -> list[Flag]:
    """
    Build a flag for every flagged row, with the features that raised its score most.

    Parameters
    ----------
    rule_reasons
        The reason of the rule that flagged the row at each place, for rows on channel `rule`.
    """
    flagged_places = np.flatnonzero(scores.flagged)
    if not len(flagged_places):
        return []
    raw_chosen = np.ascontiguousarray(raw[flagged_places])
    flagged = FlaggedRows(
        rows.take(flagged_places),
        raw_chosen,
        model.detector.encode(raw_chosen),
        scores.channel[flagged_places],
        model.drift_reference.features,
    )
    contributions = contributions_of(model, flagged)
    return [
        Flag(
            transaction_id=str(flagged.rows.transaction_id[place]),
            model_id=model_id,
            channel=str(flagged.channel[place]),
            reasons=json.dumps(
                [
                    *(AUDIT_REASON if flagged.channel[place] == AUDIT else ()),
                    *(
                        [(rule_reasons or {})[int(flagged_places[place])]]
                        if flagged.channel[place] == RULE
                        else ()
                    ),
                    *strongest_reasons(flagged, place, contributions[place], features, config),
                ],
                ensure_ascii=False,
            ),
        )
        for place in range(len(flagged_places))
    ]
