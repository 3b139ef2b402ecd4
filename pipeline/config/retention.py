"""Turns retention periods into instants: older rows are pruned, and older open flags expire."""

from pipeline.config.config import Config


def cutoffs(config: Config, as_of: int) -> dict[str, int]:
    """
    Return the instant (µs) before which each kind of row is pruned, and `flags`, before which open flags expire.

    A retention of 0 keeps rows for ever; without maturity, flags stay open unless `alerts.expire` is set.
    """
    spans = {name: getattr(config.retention, name) for name in type(config.retention).model_fields}
    spans["flags"] = config.alerts.expire or config.labels.longest_maturity
    return {name: as_of - span for name, span in spans.items() if span}
