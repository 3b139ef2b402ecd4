"""Titles and cells of the table of a comparison."""

COLUMN_TITLES = {
    "ap": "AP", "ap_train": "AP train", "f1": "F1", "mcc": "MCC", "recall_0.5": "R@.5", "recall_0.2": "R@.2",
    "recall_0.1": "R@.1", "precision_at_k": "P@k", "recall_at_k": "R@k", "cost": "cost", "savings": "savings",
    "rows_discarded": "-rows", "rows_invented": "+rows", "seconds": "s",
}  # fmt: skip
INTEGER_METRICS = frozenset({"cost", "rows_discarded", "rows_invented", "seconds"})
LEGEND = (
    "± is half of a 95 % bootstrap confidence interval over entities; AP on test rows and AP train on training rows (overfitting); F1, "
    "MCC, cost and savings at thresholds set on earlier days; R@.5 and so on: recall at this uncalibrated probability; P@k, R@k: "
    "precision and recall of the k = {per_day} highest scores per day; −rows, +rows: training rows dropped and synthesised."
)


def cell(metric: str, value: float, half_width: float) -> str:
    """A value with half the width of its interval, which may be NaN; a dash where it is not defined."""
    if value != value:  # noqa: PLR0124 (NaN: undefined)
        return "–"
    if metric in INTEGER_METRICS:
        return f"{value:,.0f}" + (f"±{half_width:,.0f}" if half_width == half_width and half_width else "")  # noqa: PLR0124
    digits = 3 if metric in ("ap", "ap_train") or metric.startswith("false") else 2
    return f"{value:.{digits}f}" + (f"±{half_width:.{digits}f}" if half_width == half_width else "")  # noqa: PLR0124
