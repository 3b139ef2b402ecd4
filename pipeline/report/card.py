"""The card of the model that is in force at the end of the span."""

from pipeline.modelling import thresholds_in_words
from pipeline.report.facts import Facts, safe
from pipeline.report.parts import Section, Table
from pipeline.shelf import Shelf
from storage import reports


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
    row = reports.model(facts.store, facts.scope.policy, model_id)
    told = [
        ["model", f"{model_id}, {row['strategy']}"],
        ["trained as of", f"{row['trained_at'][:19]} UTC, by run {row['run_id']}"],
        ["span", f"{_time(row['span_start'])} to {_time(row['span_end'])} UTC"],
        ["rows", f"{row['n_mature'] or 0:,} mature transactions, {row['n_fraud'] or 0:,} of them fraud"],
        ["thresholds", safe(thresholds_in_words(row["thresholds"]))],
        [
            "libraries",
            ", ".join(
                f"{safe(name)} {safe(number)}" for name, number in sorted((row["versions"] or {}).items())
            ),
        ],
        ["artefact", f"{row['bytes']:,} bytes, sha256 {row['sha256'][:16]}…"],
        *(
            [
                "in force",
                f"from {_time(one['effective_from'])} UTC on, by {safe(one['by'])}: {safe(one['reason'])}",
            ]
            for one in row["promotions"]
        ),
    ]
    return Section(
        "model",
        title,
        said=[safe(row["sentence"])] if row["sentence"] else [],
        tables=[
            Table(
                f"Model card; fraudwatch models show {model_id} also tells whether it loads",
                ("what", "value"),
                told,
            ),
            Table(
                f"Its {len(row['feature_names'])} features",
                ("feature",),
                [[safe(name)] for name in row["feature_names"]],
                folded=True,
            ),
        ],
    )


def _time(text: str | None) -> str:
    return "–" if text is None else text[:19]
