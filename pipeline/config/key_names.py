"""Lists the keys of config.toml and suggests the nearest name for an unknown one."""

import difflib
from functools import cache

from pydantic.fields import FieldInfo

from pipeline.config.sections import (
    ConfigSection,
    LimitSection,
    Sections,
    ShadowSection,
    SourceSection,
    WatchSection,
    WebhookSection,
)

GONE = {
    # a key or section that earlier versions had, and what to do about it
    "choose": "[choose] is [strategy] now, with choose.strategy as strategy.method",
    "costs.missed": "it is costs.missed_fraud_basis now",
    "drift.js_alarm": "alarms are calibrated to drift.false_alarms_per_week now",
    "drift.psi_alarm": "alarms are calibrated to drift.false_alarms_per_week now",
    "drift.seasonal": "remove it: a window is compared with all of the reference",
    "labels.default_source": "remove it: a label without a source is a chargeback; name others in the column labels.source",
    "notify.events": "write the events in front of each URL of notify.urls",
    "notify.fields": "remove it: a message names no field of a payment",
    "notify.templates": "remove it: messages have one text",
    "notify.top": "remove it: a digest shows ten flags",
    "quality.alarm_change": "remove it: an alarm needs a difference of a fifth from the estimate",
    "strategy.strategy": "it is strategy.method now",
    "strategy.few": "it is strategy.min_positives_blend now",
    "strategy.enough": "it is strategy.min_positives_classifier now",
    "strategy.rare": "it is strategy.prevalence_gate_low now",
    "strategy.common": "it is strategy.prevalence_gate_high now",
    "strategy.confirm": "it is strategy.confirmations now",
    "strategy.confidence": "remove it: the interval of the prevalence is always at 95 %",
    "strategy.evidence_rows": "remove it: strategies are always tested on 40,000 transactions besides all frauds",
    "training.seed": "remove it: the seed is always 7",
    "training.trees": "remove it: an isolation forest always has 200 trees",
    "watch.*.settle": "it is settle_time now",
}
NAMED = (
    "source",
    "watch",
    "shadow",
    "limit",
    "webhook",
)  # sections of which there may be any number, each with a name


@cache
def known_keys() -> dict[str, FieldInfo]:
    """Return every dotted key with its field; the keys of named sections as `source.*.key`, `limit.*.key`."""
    fields_by_key = dict[str, FieldInfo]()
    for name, section in Sections.model_fields.items():
        fields = getattr(section.annotation, "model_fields", {})
        title = section.alias or name
        fields_by_key.update({f"{title}.{field.alias or key}": field for key, field in fields.items()})
    named: dict[str, type[ConfigSection]] = {
        "source": SourceSection,
        "watch": WatchSection,
        "limit": LimitSection,
        "webhook": WebhookSection,
    }
    for title, model in named.items():
        fields_by_key.update({f"{title}.*.{key}": field for key, field in model.model_fields.items()})
    return fields_by_key


def overridden_key(key: str) -> str | None:
    """Return the key that `shadow.NAME.section.key` overrides; None for keys that a challenger cannot override."""
    parts = key.split(".", 2)
    own = parts[2] if len(parts) == 3 else ""
    return own if own.partition(".")[0] in ShadowSection.model_fields else None


def what_became_of(key: str) -> str:
    """Return what replaced a key or section of an earlier version; "" for one that never was."""
    own = key.split(".", 2)[-1] if key.startswith("shadow.") else key
    section, _, rest = own.partition(".")
    pattern = f"{section}.*.{rest.rpartition('.')[2]}" if section in NAMED else f"{section}.{rest}"
    return GONE.get(section, GONE.get(pattern, ""))


def did_you_mean(name: str, names: list[str]) -> str:
    """Return `, did you mean …?` if one of the names is similar, else an empty text."""
    near = similar_name(name, names)
    return f", did you mean {near}?" if near else ""


def similar_name(name: str, names: list[str]) -> str | None:
    """Return the one of the names that is most similar, None if none is."""
    return next(iter(difflib.get_close_matches(name, names, n=1, cutoff=0.6)), None)
