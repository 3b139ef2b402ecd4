"""Reasons of a flag: the strongest of each fact, and nothing about an entity that the payment does not have."""

import numpy as np

from detectors.drift.histograms import ReferenceHistograms
from pipeline.features.catalogue import build_catalogue
from pipeline.scoring.reasons import FlaggedRows, strongest_reasons
from storage.frames import DAY, HOUR, Coded, Transactions
from tests.support.worlds import SMALL

FEATURES = build_catalogue(
    ("customer_id", "device_id"), ("risk",), ("status", "3D+CVC"), (HOUR, 7 * DAY), (0, 6)
)
NOTHING = ReferenceHistograms((), ())


def reasons(
    *names: str, device: int = 0, status: int = 0, raw: float = 2.0, reference: ReferenceHistograms = NOTHING
) -> list[tuple[str, str]]:
    """Code and text of the reasons of one payment whose score was raised by these features, the first of them most."""
    places = [FEATURES.encoding.names.index(name) for name in names]
    contributions = np.zeros(len(FEATURES.features))
    contributions[places] = np.arange(len(names), 0, -1)
    one, codes = np.zeros(1, np.int64), np.array([device], np.int32)
    columns = {
        "customer_id": Coded(one.astype(np.int32), np.array(["c"], object)),
        "device_id": Coded(codes, np.array(["d"], object)),
        "status": Coded(np.array([status], np.int32), np.array(["declined"], object)),
        "3D+CVC": Coded(one.astype(np.int32), np.array(["yes"], object)),
    }
    rows = Transactions(np.array(["t"], object), one, one, one, columns)
    values = np.full((1, len(FEATURES.raw_names)), raw)
    flagged = FlaggedRows(
        rows, values, np.full((1, len(FEATURES.features)), 2.0), np.array(["outlier"], object), reference
    )
    return [
        (reason["code"], reason["text"])
        for reason in strongest_reasons(flagged, 0, contributions, FEATURES, SMALL)
    ]


def test_a_fact_of_several_windows_is_one_reason() -> None:
    found = reasons("device_id_count_7d", "device_id_count_1h", "customer_id_count_1h", device=0)
    assert found == [
        ("VELOCITY", "2 payments of this device in the 7 days before"),
        ("VELOCITY", "2 payments of this customer in the hour before"),
    ]


def test_an_absent_entity_is_one_reason_and_nothing_is_said_about_its_past() -> None:
    found = reasons(
        "device_id_count_7d",
        "device_id_seconds_since_last",
        "device_id_amount_mean_1h",
        "customer_id_count_1h",
        device=-1,
    )
    assert found == [
        ("NO_VALUE", "this payment has no device"),
        ("VELOCITY", "2 payments of this customer in the hour before"),
    ]


def test_a_rate_tells_the_payments_behind_it() -> None:
    (found,) = reasons("device_id_fraud_rate_7d")
    assert found == (
        "FRAUD_HISTORY",
        "2 of 2 payments of this device were fraud in the newest 7 days with a known outcome",
    )


def test_a_share_is_of_the_payments_that_the_model_learned_from_and_of_no_absent_value() -> None:
    assert reasons("status_frequency") == [
        ("CATEGORY", "200 % of the payments that the model learned from have this status")
    ]
    assert reasons("status_frequency", "status_fraud_rate", status=-1) == [
        ("NO_VALUE", "this payment has no status")
    ]


def test_a_value_of_others_is_not_said_of_the_payment() -> None:
    found = reasons("customer_id_amount_mean_7d", raw=np.nan)
    assert found == [("USUAL_AMOUNT", "no payment of this customer in the 7 days before")]
    assert reasons("risk", raw=np.nan) == [("NO_VALUE", "this payment has no risk")]


def test_a_plus_in_the_name_of_a_field_makes_it_no_pair() -> None:
    assert [code for code, _ in reasons("3D+CVC_frequency")] == ["CATEGORY"]


def test_a_value_is_compared_with_earlier_payments() -> None:
    amounts = np.arange(1.0, 101.0)
    reference = ReferenceHistograms.fit(amounts[:, None], ["amount"])
    assert reasons("log_amount", "amount", raw=99.0, reference=reference) == [
        ("AMOUNT", "amount is 0.00 EUR, as large in about 2 % of earlier payments")
    ]
    assert reasons("amount", raw=1000.0, reference=reference)[0][1].endswith("as large in no earlier payment")
    assert reasons("amount", raw=2.0, reference=reference)[0][1].endswith(
        "as small in about 2 % of earlier payments"
    )
