"""What of payments is at risk, and what a missed fraud costs by the section [costs]."""

import numpy as np

from detectors.base import Floats
from detectors.evaluation.thresholds import Costs
from pipeline.config.config import Config
from storage.frames import MONEY, Transactions


def costs_of(config: Config) -> Costs:
    """Return the costs of [costs]."""
    return Costs(config.costs.missed_fraud, config.costs.review, config.costs.missed_fraud_basis)


def at_risk(config: Config, rows: Transactions) -> Floats:
    """What the fraud of each row costs if nobody stops it, exposure and fee, (n,) in the base currency."""
    return np.maximum(rows.exposure, 0) / MONEY + config.costs.fee


def at_stake(config: Config, rows: Transactions) -> Floats:
    """Cost of each row if it is a missed fraud by `costs.missed_fraud_basis`, (n,) in the base currency."""
    return costs_of(config).at_stake(at_risk(config, rows))
