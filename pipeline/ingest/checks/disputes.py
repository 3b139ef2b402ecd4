"""
What a dispute says of a payment: fraud by its reason code, something else, or only where the money went.

Card schemes and payment providers have codes of their own; `labels.fraud_reasons` and `labels.dispute_types` say what they
mean. A report of fraud without a dispute (TC40 of Visa, SAFE of Mastercard) is fraud, whatever its own code is.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from pipeline.config.sections import LabelsSection
from pipeline.ingest.formats.arrow_arrays import Bools
from storage.frames import Strings

Stage = Literal["inquiry", "dispute", "won", "lost"]
OTHER = "other"  # the type of a dispute whose reason [labels] does not know
# Without blanks, points and underscores: words of Visa and Mastercard, then of Stripe, of Adyen, and of PayPal.
_STAGE_WORDS: dict[Stage, str] = {
    "inquiry": """
        inquiry enquiry retrieval retrievalrequest informationrequest tc40 safe fraudreport
        warningneedsresponse warningunderreview warningclosed prevented earlyfraudwarning
        requestforinformation rfi informationsupplied notificationoffraud nof
    """,
    "dispute": """
        dispute disputed chargeback chargedback firstchargeback secondchargeback opened open new representment
        prearbitration arbitration
        needsresponse underreview disputecreated disputeupdated
        notificationofchargeback disputeopenedwithchargeback defended informationdefended
        waitingforsellerresponse waitingforbuyerresponse
    """,
    "won": """
        won reversed reversal chargebackreversal disputereversal withdrawn prearbitrationwon arbitrationwon
        disputewon fundsreinstated
        chargebackreversed issuerresponsetimeframeexpired
        resolvedsellerfavour resolvedsellerfavor canceledbybuyer cancelledbybuyer
    """,
    "lost": """
        lost accepted prearbitrationlost arbitrationlost
        disputelost chargerefunded
        disputedefenseperiodended
        resolvedbuyerfavour resolvedbuyerfavor
    """,
}
STAGES: dict[str, Stage] = {word: stage for stage, words in _STAGE_WORDS.items() for word in words.split()}
_FRAUD_REPORT = re.compile(r"tc40.*|safe|fraudreport|nof|notificationoffraud|earlyfraudwarning")


def stage_of(word: str) -> Stage | None:
    """The stage that a word of a scheme or provider means, in any case; None for an unknown one."""
    return STAGES.get(_plain(word))


def _is_fraud_report(word: str) -> bool:
    return _FRAUD_REPORT.fullmatch(_plain(word)) is not None


def _plain(word: str) -> str:
    return re.sub(r"[^a-z0-9]", "", word.lower())


class ReasonCodes:
    """What reason codes mean by [labels], in any case; in a pattern * stands for any characters."""

    def __init__(self, labels: LabelsSection) -> None:
        self._fraud = _pattern(labels.fraud_reasons)
        self._types = {name: _pattern(codes) for name, codes in labels.dispute_types.items()}

    def is_fraud(self, code: str) -> bool:
        """Whether a code means fraud."""
        return self._fraud.fullmatch(code.lower()) is not None

    def type_of(self, code: str) -> str | None:
        """What a dispute that is not about fraud is about; None if the code means fraud, or [labels] does not know it."""
        if self.is_fraud(code):
            return None
        return next((name for name, codes in self._types.items() if codes.fullmatch(code.lower())), None)


def _pattern(codes: Sequence[str]) -> re.Pattern[str]:
    return re.compile("|".join(re.escape(code.strip().lower()).replace(r"\*", ".*") for code in codes))


@dataclass(frozen=True)
class DisputeRows:
    """
    What rows say of disputes; arrays (n,), None for missing.

    Attributes
    ----------
    is_fraud
        Whether the row itself calls the payment fraud (True) or genuine (False).
    reason
        The reason code.
    stage
        A word for the stage.
    source
        Who reports it.
    """

    is_fraud: Strings
    reason: Strings
    stage: Strings
    source: Strings


@dataclass(frozen=True)
class DisputeMeaning:
    """
    What rows mean; arrays (n,).

    Attributes
    ----------
    is_fraud
        True, False, or None for neither.
    type
        What a dispute is about that is not about fraud; None otherwise.
    stage
        None without one.
    unknown_reason
        Whether [labels] does not know the reason.
    unknown_stage
        Whether the word for the stage has no meaning.
    contradicts
        Whether the row calls fraud what is no fraud by its reason, or genuine what is.
    """

    is_fraud: Strings
    type: Strings
    stage: Strings
    unknown_reason: Bools
    unknown_stage: Bools
    contradicts: Bools

    @property
    def neither(self) -> Bools:
        """Rows of disputes about something else than fraud."""
        return ~present(self.is_fraud) & present(self.type)

    @property
    def changes_no_label(self) -> Bools:
        """Rows that say neither fraud nor genuine nor what else: only a stage, or nothing."""
        return ~present(self.is_fraud) & ~present(self.type)


def dispute_meaning(rows: DisputeRows, labels: LabelsSection) -> DisputeMeaning:
    """
    Decide what rows mean.

    A reason that [labels] knows decides, and `is_fraud` must not contradict it. Beside a reason that [labels] does not know
    `is_fraud` decides; without one the dispute is of type `other`. A dispute for fraud that was won leaves what
    `labels.won_means` says. A row with a stage alone changes no label.
    """
    codes = ReasonCodes(labels)
    stage, kind = _mapped(rows.stage, stage_of), _mapped(rows.reason, codes.type_of)
    by_reason = _true(_mapped(rows.reason, codes.is_fraud))
    by_reason |= _true(_mapped(rows.source, _is_fraud_report)) | _true(_mapped(rows.stage, _is_fraud_report))
    kind[by_reason] = None
    other = present(kind)
    stated_fraud, stated = _true(rows.is_fraud), present(rows.is_fraud)
    fraud = by_reason | (stated_fraud & ~other)
    cleared = fraud & np.asarray(stage == "won", dtype=bool) & (labels.won_means == "genuine")
    unknown = present(rows.reason) & ~by_reason & ~other
    kind[unknown & ~stated] = OTHER
    is_fraud = np.full(len(stage), None, dtype=object)
    is_fraud[stated & ~other] = False
    is_fraud[fraud] = True
    is_fraud[cleared] = False
    contradicts = (stated_fraud & other) | (stated & ~stated_fraud & by_reason & ~cleared)
    unknown_stage = present(rows.stage) & ~present(stage)
    return DisputeMeaning(is_fraud, kind, stage, unknown, unknown_stage, contradicts)


def _mapped(values: Strings, meaning: Callable[[str], object]) -> Strings:
    """The meaning of each value; None for a missing one."""
    meanings = {value: meaning(value) for value in set(values.tolist()) - {None}}
    return np.array([meanings.get(value) for value in values], dtype=object)


def present(values: Strings) -> Bools:
    """Which values are not missing."""
    return np.asarray(values != None, dtype=bool)  # noqa: E711 (elementwise)


def _true(values: Strings) -> Bools:
    return np.asarray(values == True, dtype=bool)  # noqa: E712 (elementwise)
