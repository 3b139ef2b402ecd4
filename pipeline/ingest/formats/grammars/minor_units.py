"""The smallest units of currencies, by ISO 4217: cents for most, whole yen, thousandths of a dinar."""

import numpy as np

from storage.frames import Floats, Ints, Strings

DIGITS_DEFAULT = 2
DIGITS = {
    0: "BIF BYR CLP DJF GNF ISK JPY KMF KRW PYG RWF UGX UYI VND VUV XAF XOF XPF",
    3: "BHD IQD JOD KWD LYD OMR TND",
    4: "CLF UYW",
}


def in_major_units(amounts: Floats, currency: Strings | None) -> Floats:
    """
    Divide amounts in the smallest units of their currency by how many of them make one.

    The result is the number nearest to the decimal one: 2899 cents are 28.99, and 12.5 cents 0.125.
    """
    digits = np.full(len(amounts), DIGITS_DEFAULT) if currency is None else minor_digits(currency)
    values = amounts / 10.0**digits  # rounded correctly for whole numbers, which are exact
    fractions = np.flatnonzero(np.isfinite(amounts) & (amounts != np.rint(amounts)))
    values[fractions] = [float(f"{value:.15g}") for value in values[fractions].tolist()]
    return values


def minor_digits(currency: Strings) -> Ints:
    """How many decimals the smallest unit of each currency has; codes in capitals."""
    digits = np.full(len(currency), DIGITS_DEFAULT, dtype=np.int64)
    for number, codes in DIGITS.items():
        digits[np.isin(currency.astype(str), codes.split())] = number
    return digits
