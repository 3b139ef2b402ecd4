"""Section "Champion model": the card of the model in force at the end of the span."""

from collections.abc import Iterator
from datetime import datetime

from pipeline.number_text import counted
from pipeline.rendering.elements import ReportSection, Table
from pipeline.rendering.report_data import ReportData
from pipeline.rendering.text import safe_text, thresholds_text
from pipeline.scoring.model_cache import ModelCache
from storage.database.column_types import as_datetime
from storage.queries.models import check_page, model_row
from storage.queries.rows import Row

CHECKS_MAX = 12  # newest ones shown


def section(data: ReportData) -> ReportSection:
    """The model card, its features, and the results of the promotion gate."""
    title = "Champion model"
    in_force = ModelCache(data.store, data.config, data.scope.policy).in_force_until(data.scope.end - 1)
    if not in_force:
        return ReportSection(
            "model",
            title,
            missing=[
                "No model was in force at the end of the span: fraudwatch train, or fraudwatch backfill."
            ],
        )
    model_id = in_force[-1]
    row = model_row(data.store, data.scope.policy, model_id)
    card = Table(
        f"Model card; fraudwatch models show {model_id} also checks that it loads",
        ("item", "value"),
        list(_card_rows(row, data.config.costs.missed_fraud_basis)),
    )
    features = [[safe_text(name)] for name in row["feature_names"]]
    folded = Table(f"Its {counted(len(features), 'feature')}", ("feature",), features, collapsed=True)
    checks = _checks(data)
    sentences = [safe_text(row["sentence"])] if row["sentence"] else []
    return ReportSection("model", title, sentences, tables=[card, folded, *([checks] if checks.rows else [])])


def _card_rows(row: Row, basis: str) -> Iterator[list[str]]:
    libraries = sorted((row["versions"] or {}).items())
    yield ["model", f"{row['model_id']}, {row['strategy']}"]
    yield ["trained as of", f"{_time(row['trained_at'])}, by run {row['run_id']}"]
    yield ["span", f"{_time(row['span_start'])} to {_time(row['span_end'])}"]
    yield ["rows", f"{row['n_mature'] or 0:,} mature transactions, {row['n_fraud'] or 0:,} of them fraud"]
    yield ["thresholds", safe_text(thresholds_text(row["thresholds"], basis))]
    yield ["libraries", ", ".join(f"{safe_text(name)} {safe_text(number)}" for name, number in libraries)]
    yield ["artifact", f"{row['bytes']:,} bytes, sha256 {row['sha256'][:16]}…"]
    for promotion in row["promotions"]:
        yield [
            "in force",
            f"from {_time(promotion['effective_from'])} on, by {safe_text(promotion['by'])}: {safe_text(promotion['reason'])}",
        ]


def _checks(data: ReportData) -> Table:
    """Results of the promotion gate up to the end of the span."""
    end = as_datetime(data.scope.end)
    rows = [
        [f"{row['training_date']:%Y-%m-%d}", str(row["model_id"]), row["verdict"], safe_text(row["sentence"])]
        for row in check_page(data.store, data.scope.policy, CHECKS_MAX).rows
        if row["training_date"] < end
    ]
    return Table(
        "Candidates against the champion, newest first", ("training", "model", "verdict", "reason"), rows
    )


def _time(moment: datetime | None) -> str:
    return "–" if moment is None else f"{moment:%Y-%m-%d %H:%M:%S} UTC"
