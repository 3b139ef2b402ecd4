"""The card of the model that is in force at the end of the span."""

from collections.abc import Iterator

from pipeline.rendering.elements import Section, Table
from pipeline.rendering.report_data import Facts
from pipeline.rendering.text import safe, text_of, thresholds_in_words
from pipeline.scoring.model_cache import Shelf
from storage.queries import listings
from storage.queries.listings import Row

CHECKS = 12  # newest ones shown


def section(facts: Facts) -> Section:
    """What it is, what it was trained on, and by which choice."""
    title = "The model in force"
    in_force = Shelf(facts.store, facts.config, facts.scope.policy).in_force_until(facts.scope.end - 1)
    if not in_force:
        return Section(
            "model",
            title,
            missing=[
                "No model was in force at the end of the span: fraudwatch train, or fraudwatch backfill."
            ],
        )
    model_id = in_force[-1]
    row = listings.model(facts.store, facts.scope.policy, model_id)
    card = Table(
        f"Model card; fraudwatch models show {model_id} also tells whether it loads",
        ("what", "value"),
        list(_told(row)),
    )
    features = [[safe(name)] for name in row["feature_names"]]
    folded = Table(f"Its {len(features)} features", ("feature",), features, folded=True)
    checks = _checks(facts)
    said = [safe(row["sentence"])] if row["sentence"] else []
    return Section("model", title, said, tables=[card, folded, *([checks] if checks.rows else [])])


def _told(row: Row) -> Iterator[list[str]]:
    libraries = sorted((row["versions"] or {}).items())
    yield ["model", f"{row['model_id']}, {row['strategy']}"]
    yield ["trained as of", f"{_time(row['trained_at'])} UTC, by run {row['run_id']}"]
    yield ["span", f"{_time(row['span_start'])} to {_time(row['span_end'])} UTC"]
    yield ["rows", f"{row['n_mature'] or 0:,} mature transactions, {row['n_fraud'] or 0:,} of them fraud"]
    yield ["thresholds", safe(thresholds_in_words(row["thresholds"]))]
    yield ["libraries", ", ".join(f"{safe(name)} {safe(number)}" for name, number in libraries)]
    yield ["artefact", f"{row['bytes']:,} bytes, sha256 {row['sha256'][:16]}…"]
    for one in row["promotions"]:
        yield [
            "in force",
            f"from {_time(one['effective_from'])} UTC on, by {safe(one['by'])}: {safe(one['reason'])}",
        ]


def _checks(facts: Facts) -> Table:
    """What new models were worth against the ones in force, up to the end of the span."""
    end = text_of(facts.scope.end)
    rows = [
        [row["training_date"][:10], str(row["model_id"]), row["verdict"], safe(row["sentence"])]
        for row in listings.checks(facts.store, facts.scope.policy, limit=CHECKS)
        if row["training_date"][:19] < end
    ]
    return Table(
        "New models against the one in force, newest first", ("training", "model", "verdict", "why"), rows
    )


def _time(text: str | None) -> str:
    return "–" if text is None else text[:19]
