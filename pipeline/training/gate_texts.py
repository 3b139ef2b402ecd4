"""What a rule of the promotion gate says of a candidate, in the gate's sentences and on pages."""

RULE_TEXTS = {
    "FIRST": "the first model",
    "INCONCLUSIVE": "could not be compared",
    "BETTER": "better",
    "NOT_WORSE": "not significantly worse",
    "MIXED": "better by one metric and worse by the other",
    "WORSE_AP": "worse by average precision",
    "WORSE_COST": "more costly",
    "WORSE": "worse and more costly",
    "LEAK": "a field tells the outcome",
    "HISTORY_CHANGED": "history has changed since",
    "FAILS_ON_LEARNED": "fails on what it has learned",
}
