"""
Files as people have them, each with the truth about its rows. Their structure is a fact; the rows are made up.

Every function of `LAYOUTS` takes nothing and returns a `Layout` with the same rows each time.
"""

from collections.abc import Callable

from tests.layouts import accounting, competitions, exports, processors, shops_and_banks, simulators
from tests.layouts.layout import Layout

LAYOUTS: dict[str, Callable[[], Layout]] = {
    layout.__name__: layout
    for layout in (
        processors.stripe,
        processors.stripe_api,
        processors.adyen,
        processors.adyen_minor_units,
        accounting.adyen_accounting,
        accounting.stripe_balance,
        shops_and_banks.shopify,
        shops_and_banks.german_bank,
        shops_and_banks.wires,
        simulators.paysim,
        simulators.banksim,
        simulators.sparkov,
        simulators.sparkov_raw,
        competitions.kaggle,
        competitions.ieee,
        exports.excel,
        exports.french_text,
        exports.swiss_zip,
        exports.parquet,
    )
}
