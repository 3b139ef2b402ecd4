"""
The grammar of numbers in text: decimal and thousands separators, signs, and the currency beside an amount.

Thousands are separated wholly and in the right places, or not at all: 1.234.567,89, or as in India 12,34,567.89. A
negative number has a minus before or after it, or brackets around it.
"""

import re
from collections.abc import Mapping

BLANK = r"[ \x{A0}\x{2009}\x{202F}]"
PLAIN = r"(?i)^[+-]?((\d+\.?\d*|\.\d+)(e[+-]?\d+)?|nan|inf|infinity)$"  # Arrow's grammar, but for nan(…)
WORD = r"(?i)^[+-]?(nan|inf|infinity)$"
SEPARATORS: Mapping[str, str] = {
    "": "", ".": r"\.", ",": ",", " ": BLANK, "'": "['’]"
}  # fmt: skip
MIXED_CASE = (
    "^([a-z][A-Z][A-Za-z]|[A-Z][a-z][A-Za-z]|[a-z]{2}[A-Z]|[A-Z]{2}[a-z])$"  # of a code: GBp, ZAc, Eur
)
CURRENCY_CODE = re.compile("[A-Z]{3}")
# A sign or code, whatever it is: an expression of all letters takes 10 ms to compile. What it means, a table says.
_CURRENCY = r"(?:[^\d \x{A0}\x{2009}\x{202F}.,'’()+−%-]{1,5}\.?)"
_DOLLARS = "ARS AUD BBD BMD BND BSD BZD CAD CLP COP CUP DOP FJD GYD HKD JMD KYD LRD MXN NAD NZD SBD SGD SRD TTD TWD USD UYU XCD"
_SIGNS = f"""
    € EUR | $ {_DOLLARS} | US$ USD | £ GBP EGP FKP GIP LBP SDG SHP SSP SYP | ¥ JPY CNY | ￥ JPY CNY | ₹ INR | ₩ KRW KPW
    ₽ RUB | R$ BRL | A$ AUD | AU$ AUD | C$ CAD NIO | CA$ CAD | HK$ HKD | MX$ MXN | NT$ TWD | NZ$ NZD | S$ SGD | ₺ TRY
    ₫ VND | ₴ UAH | ₪ ILS | ฿ THB | ₱ PHP CUP | ₦ NGN | ₡ CRC | ₲ PYG | ₸ KZT | ₼ AZN | ₾ GEL | ₭ LAK | ₮ MNT | ៛ KHR
    ৳ BDT | ֏ AMD | ؋ AFN | ₵ GHS | ₿ BTC | ₨ INR LKR MUR NPR PKR SCR | RS INR LKR MUR NPR PKR SCR | KR SEK NOK DKK ISK
    ZŁ PLN | KČ CZK | FT HUF | LEI RON MDL | FR CHF | SFR CHF | R ZAR | RM MYR | RP IDR | ЛВ BGN | РУБ RUB | Р RUB
    TL TRY | RMB CNY | LEK ALL | BS BOB VES | KM BAM | DH AED MAD"""
CURRENCIES_OF_SIGN: Mapping[str, frozenset[str]] = {
    words[0]: frozenset(words[1:])
    for words in (entry.split() for line in _SIGNS.splitlines() for entry in line.split("|"))
    if words
}


def grammar(decimal: str, thousands: str) -> str:
    """
    Return the RE2 expression of a number with these separators.

    Its groups are `open` and `close` (brackets), `minus` and `minus_inside` (a sign before the number), `minus_after`,
    `before` and `after` (the currency), and `digits`.
    """
    return _expression(SEPARATORS[decimal], SEPARATORS[thousands])


def any_thousands(decimal: str) -> str:
    """Return the expression of a number with this decimal separator, whatever separates thousands."""
    other = SEPARATORS["." if decimal == "," else ","]
    return _expression(SEPARATORS[decimal], rf"(?:{BLANK}|['’]|{other})")


def _expression(point: str, group: str) -> str:
    whole = r"\d+"
    if group:
        whole = rf"(?:\d+|\d{{1,3}}(?:{group}\d{{3}})+|\d{{1,2}}(?:{group}\d\d)+{group}\d{{3}})"
    digits = rf"(?P<digits>(?:{whole}(?:{point}\d*)?|{point}\d+)(?:[eE][+-]?\d+)?)"
    return (
        rf"^(?P<open>\()?{BLANK}*(?P<minus>[-+−]?){BLANK}*(?P<before>{_CURRENCY}?){BLANK}*(?P<minus_inside>[-+−]?){BLANK}*"
        rf"{digits}{BLANK}*(?P<minus_after>[-−]?){BLANK}*(?P<after>{_CURRENCY}?){BLANK}*(?P<close>\))?$"
    )


def currencies_of(mark: str) -> frozenset[str]:
    """
    The currencies that a sign or code in capitals, without a point, can stand for; none for another unit.

    A code in mixed case is none: exchanges write pence as GBp.
    """
    if mark.upper() in CURRENCIES_OF_SIGN:
        return CURRENCIES_OF_SIGN[mark.upper()]
    return frozenset([mark]) if CURRENCY_CODE.fullmatch(mark) else frozenset()
