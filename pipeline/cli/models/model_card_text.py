"""A model card as lines of text; the last one says whether the model loads."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

from pipeline.rendering.text import thresholds_text

if TYPE_CHECKING:
    from pipeline.services.models.models import ModelCard

TIME = "%Y-%m-%d %H:%M:%S UTC"


def card_lines(card: "ModelCard", basis: str) -> Iterator[str]:
    """Training data, choice, features, artifact, gate and promotions; what is not known is left out."""
    libraries = ", ".join(f"{name} {number}" for name, number in card.versions.items())
    lines = (
        (
            "model",
            f"{card.model_id}, {card.strategy}, trained as of {card.trained_at:{TIME}} by run {card.run_id}",
        ),
        ("choice", card.sentence),
        ("rows", f"{card.n_mature or 0:,} mature transactions, {card.n_fraud or 0:,} of them fraud"),
        (
            "span",
            f"{card.span_start:{TIME}} to {card.span_end:{TIME}}"
            if card.span_start and card.span_end
            else None,
        ),
        ("thresholds", thresholds_text(card.thresholds, basis)),
        ("features", f"{len(card.feature_names)}: {', '.join(card.feature_names)}"),
        ("libraries", libraries),
        ("config", f"hash {card.config_hash[:16]}" if card.config_hash else None),
        ("artifact", f"{card.bytes:,} bytes, sha256 {card.sha256[:16]}…"),
        *(("gate", f"{check.verdict}, {check.rule}: {check.sentence}") for check in card.checks),
        *(
            (
                "promoted",
                f"from {each.effective_from:{TIME}} on, by {each.by} at {each.promoted_at:{TIME}}: {each.reason}",
            )
            for each in card.promotions
        ),
        ("loads", _load_text(card)),
    )
    yield from (f"{name + ':':12}{text}" for name, text in lines if text)


def _load_text(card: "ModelCard") -> str:
    if not card.loads:
        return f"NO: {card.load_error}"
    changed = [
        f"{each.name} {each.trained_with or 'none'} → {each.installed}" for each in card.changed_libraries
    ]
    return "yes, its sample rows have the same scores" + (f", under {', '.join(changed)}" if changed else "")
