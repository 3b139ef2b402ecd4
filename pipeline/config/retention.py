"""Turns retention periods into instants: older rows are pruned."""

from pipeline.config.config import Config


def cutoffs(config: Config, as_of: int) -> dict[str, int]:
    """Return the instant (µs) before which each kind of row is pruned; a retention of 0 keeps rows for ever."""
    spans = {name: getattr(config.retention, name) for name in type(config.retention).model_fields}
    return {name: as_of - span for name, span in spans.items() if span}
