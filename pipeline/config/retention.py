"""How long things are kept, as instants before which they go."""

from pipeline.config.config import Config


def cutoffs(config: Config, as_of: int) -> dict[str, int]:
    """What goes, and the instant before which it does; a retention of 0 keeps for ever."""
    kept = {name: getattr(config.retention, name) for name in type(config.retention).model_fields}
    return {name: as_of - span for name, span in kept.items() if span}
