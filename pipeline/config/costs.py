"""What a missed fraud and a review cost here, as detectors take it."""

from detectors.evaluation.thresholds import Costs
from pipeline.config.config import Config


def costs_of(config: Config) -> Costs:
    """The section [costs]."""
    return Costs(config.costs.missed_fraud, config.costs.review, config.costs.missed)
