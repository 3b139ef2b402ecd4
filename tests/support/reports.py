"""Reports of the scored world, and rows whose values would act on a page, if anything let them."""

import json

from pipeline.config.config import Config
from pipeline.rendering.report_data import ReportData
from pipeline.reporting import report
from storage.database.database import Store
from storage.models import comparisons
from storage.models.comparisons import TechniqueMetric
from tests.support.sql import execute
from tests.support.worlds import FROM, NOW, SMALL, TO

HOSTILE = "</script><script>alert(1)</script><img src=x onerror=alert(2)>"
CARD = "4111 1111 1111 1111"  # the test number that every card scheme's check digit accepts


def report_page(store: Store, config: Config = SMALL, as_of: int = NOW) -> str:
    """The report of the live policy over the scored span, as HTML."""
    return report.render_html(ReportData.load(store, config, "live", FROM, TO, as_of))


def write_quality_metrics(store: Store) -> None:
    """Rows as a measurement writes them: one that came true, one estimated, one that cannot be told."""
    execute(
        store,
        "DELETE FROM quality_metrics",
        """INSERT INTO quality_metrics (policy, window_start, window_end, model_id, channel, metric, kind, value, lower, upper, n, alarm, message)
           VALUES ('live', '2025-01-20 00:00:00.000000', '2025-01-27 00:00:00.000000', 0, '', 'precision', 'realised', .5, .4, .6, 30, TRUE, NULL),
                  ('live', '2025-01-20 00:00:00.000000', '2025-01-27 00:00:00.000000', 0, '', 'precision', 'estimated', .45, .3, .6, 30, FALSE, NULL),
                  ('live', '2025-01-20 00:00:00.000000', '2025-01-27 00:00:00.000000', 0, 'blend', 'precision', 'realised', .5, NULL, NULL, 9, FALSE, NULL),
                  ('live', '2025-01-27 00:00:00.000000', '2025-02-03 00:00:00.000000', 0, '', 'recall', 'realised', NULL, NULL, NULL, 0, FALSE, 'no fraud is known')""",
    )  # fmt: skip


def write_comparison(store: Store) -> None:
    """A comparison as `compare` stores it."""
    results = [
        TechniqueMetric("HBOS", 1, "ap", 0.4, 0.3, 0.5),
        TechniqueMetric("SMOTE 10 %", 2, "ap", 0.2, None, None),
        TechniqueMetric("SMOTE 10 %", 2, "cost", None, None, None),
    ]
    curves = {"HBOS": {"recall": [0.25, 0.5, 1.0], "precision": [0.9, 0.6, 0.1]}}
    comparisons.save(
        store, NOW, "ann", "", {"per_day": 5}, [{}], {"HBOS": "quick"}, "HBOS ranks best.", results, curves
    )


def plant_hostile_values(store: Store) -> None:
    """Values from data that would act, if anything let them."""
    planted = json.dumps([{"code": "x", "text": f"{HOSTILE} paid with {CARD}"}])
    flagged = "(SELECT transaction_id FROM flags)"
    execute(
        store,
        f"UPDATE transactions SET customer_id = :bad WHERE transaction_id IN {flagged}",
        f"UPDATE transactions SET terminal_id = :card WHERE transaction_id IN {flagged}",
        "UPDATE flags SET reasons = :reasons, reviewer = :bad, reviewed_at = '2025-02-05 00:00:00.000000'",
        "UPDATE drift_metrics SET feature = :bad || feature",
        "UPDATE choices SET sentence = :bad, next_change = :bad",
        "UPDATE ledger SET status = 'failed', error = :bad WHERE kind = 'score'",
        bad=HOSTILE, card=CARD, reasons=planted,
    )  # fmt: skip
