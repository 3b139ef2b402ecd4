"""Converts the section [costs] to the costs that detectors use."""

from detectors.evaluation.thresholds import Costs
from pipeline.config.config import Config


def costs_of(config: Config) -> Costs:
    """Return the costs of [costs]."""
    return Costs(config.costs.missed_fraud, config.costs.review, config.costs.missed_fraud_basis)
