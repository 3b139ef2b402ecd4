"""
What programs outside are told of a flag's reasons, by code: no thresholds, no values, nothing of other people.

`[outward_reasons]` of the configuration replaces single texts. The sentences for reviewers are in `pipeline.scoring.reason_text`.
"""

from collections.abc import Mapping

OUTWARD_REASONS: Mapping[str, str] = {
    "AMOUNT": "The amount is unusual.",
    "AMOUNT_ABOVE_USUAL": "The amount is unusual for this customer or merchant.",
    "AMOUNT_AGAINST_FIELD": "The amount does not fit the other details of the payment.",
    "AMOUNT_AGAINST_MEAN": "The amount is unusual for this customer or merchant.",
    "AMOUNT_SPREAD": "The recent amounts are unusual.",
    "AUDIT_SAMPLE": "The payment was chosen at random for a check.",
    "CATEGORY": "The details of the payment are unusual.",
    "FIELD_VALUE": "The details of the payment are unusual.",
    "FRAUD_HISTORY": "Earlier payments were disputed.",
    "KNOWN_FRAUD": "Earlier payments were disputed.",
    "NEW_PAIR": "The combination of customer, card, device or merchant is new.",
    "NO_VALUE": "The details of the payment are unusual.",
    "RECENT_ACTIVITY": "Payments followed each other unusually.",
    "RECENT_FRAUD": "Earlier payments were disputed.",
    "RULE": "The payment matches a rule of the payments team.",
    "TIME_OF_DAY": "The time is unusual.",
    "USUAL_AMOUNT": "The recent amounts are unusual.",
    "VELOCITY": "There were unusually many payments in a short time.",
}
