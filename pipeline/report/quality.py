"""Quality over time: realised once labels mature, estimated before, with intervals."""

from pipeline.report.facts import Facts
from pipeline.report.parts import Section


def section(facts: Facts) -> Section:
    """Every measure of quality_metrics in the span."""
    return Section("quality", "Quality over time", missing=[f"No quality of {facts.span} has been measured."])
