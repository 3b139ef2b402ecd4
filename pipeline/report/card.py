"""The card of the model that is in force at the end of the span."""

from pipeline.modelling import thresholds_in_words
from pipeline.report.facts import Facts, safe
from pipeline.report.parts import Section, Table
from storage import reporting, reports


def section(facts: Facts) -> Section:
    """What it is, what it was trained on, and by which choice."""
    title = "The model in force"
    model_id = reporting.model_in_force(facts.store, facts.scope.policy, facts.scope.end)
    if model_id is None:
        return Section("model", title, missing=["No model was in force at the end of the span: fraudwatch train, or fraudwatch backfill."])
    row = reports.model(facts.store, facts.scope.policy, model_id)
    told = [
        ["model", f"{model_id}, {row['strategy']}"],
        ["trained as of", f"{row['trained_at']} UTC, by run {row['run_id']}"],
        ["span", f"{row['span_start']} to {row['span_end']}"],
        ["rows", f"{row['n_mature'] or 0:,} mature transactions, {row['n_fraud'] or 0:,} of them fraud"],
        ["thresholds", safe(thresholds_in_words(row["thresholds"]))],
        ["features", f"{len(row['feature_names'])}: {', '.join(safe(name) for name in row['feature_names'])}"],
        ["libraries", ", ".join(f"{safe(name)} {safe(number)}" for name, number in (row["versions"] or {}).items())],
        ["artefact", f"{row['bytes']:,} bytes, sha256 {row['sha256'][:16]}…"],
        *(["in force", f"from {one['effective_from']} on, by {safe(one['by'])}: {safe(one['reason'])}"] for one in row["promotions"]),
    ]
    return Section(
        "model",
        title,
        said=[safe(row["sentence"])] if row["sentence"] else [],
        tables=[Table(f"Model card; fraudwatch models show {model_id} also tells whether it loads", ("", "model card"), told)],
    )
