"""
The grammars of times in text, by `format.time`: RE2 expressions with named groups, tried one after the other.

Every format also understands ISO 8601. No text is read by two expressions of one format as two different times, so
what a time means does not depend on their order. English names of months are in full or have three letters (or are
`Sept`); a year of two digits is one from 1970 to 2069. A blank may be a no-break or a thin one.
"""

import pyarrow as pa

BLANK = r"[ \x{A0}\x{2009}\x{202F}]"
MONTHS = (
    "january", "february", "march", "april", "may", "june",
    "july", "august", "september", "october", "november", "december",
)  # fmt: skip
MONTH_NAMES = pa.array([*MONTHS, *(name[:3] for name in MONTHS), "sept"])
MONTH_NUMBERS = pa.array([*range(1, 13), *range(1, 13), 9], pa.int64())

# RE2: \d is 0 to 9. Arrow's own parser accepts a part of this and reads it alike (tests/test_formats_instants.py).
ISO = (
    r"^(?P<year>\d{4})-(?P<month>\d\d)-(?P<day>\d\d)"
    r"(?:[Tt ](?P<hour>\d\d)(?::(?P<minute>\d\d)(?::(?P<second>\d\d)(?:[.,](?P<fraction>\d{1,9}))?)?)?"
    r" ?(?P<zone>[Zz]|(?P<sign>[+-])(?P<zone_hour>\d\d)(?::?(?P<zone_minute>\d\d))?)?)?$"
)
_YEAR = r"(?:(?P<year>\d{4})|(?P<short_year>\d\d))"
_MONTH = r"(?P<month>\d{1,2})"
_MONTH_NAME = r"(?P<month_name>[a-z]{3,9})"
_DAY = r"(?P<day>\d{1,2})"
_FIRST, _SECOND = r"(?P<first_separator>[-/.])", r"(?P<second_separator>[-/.])"  # which must be the same
_FRACTION = r"(?:[.,](?P<fraction>\d{1,9}))?"
_CLOCK = (
    rf"(?P<hour>\d{{1,2}})(?::(?P<minute>\d\d)(?::(?P<second>\d\d){_FRACTION})?)?"
    rf"(?:{BLANK}*(?P<half>[ap])\.?m\.?)?"
)
_ZONE = rf"(?:{BLANK}*(?P<zone>z|utc|gmt|(?P<sign>[+-])(?P<zone_hour>\d\d)(?::?(?P<zone_minute>\d\d))?))?"
_THEN_CLOCK = rf"(?:(?:{BLANK}*[t,]{BLANK}*|{BLANK}+){_CLOCK}{_ZONE})?$"
_COMPACT_CLOCK = rf"(?:t|{BLANK}+)?(?P<hour>\d\d)(?P<minute>\d\d)(?:(?P<second>\d\d){_FRACTION})?{_ZONE}$"
_COMPACT_DATE = r"(?P<year>\d{4})(?P<month>\d\d)(?P<day>\d\d)"

GRAMMARS = {
    "iso": (ISO,),
    "year_first": (
        rf"(?i)^(?P<year>\d{{4}}){_FIRST}(?:{_MONTH}|{_MONTH_NAME}){_SECOND}{_DAY}{_THEN_CLOCK}",
        rf"(?i)^(?P<year>\d{{4}})年{BLANK}*{_MONTH}月{BLANK}*{_DAY}日{_THEN_CLOCK}",
        rf"(?i)^{_COMPACT_DATE}{_THEN_CLOCK}",
        rf"(?i)^{_COMPACT_DATE}{_COMPACT_CLOCK}",
        ISO,
    ),
    "day_first": (
        rf"(?i)^{_DAY}{_FIRST}{_MONTH}{_SECOND}{_YEAR}{_THEN_CLOCK}",
        rf"(?i)^{_DAY}(?:st|nd|rd|th|\.)?(?:{BLANK}+|[-/.]){_MONTH_NAME}\.?(?:,?{BLANK}+|[-/.]){_YEAR}{_THEN_CLOCK}",
        ISO,
    ),
    "month_first": (
        rf"(?i)^{_MONTH}{_FIRST}{_DAY}{_SECOND}{_YEAR}{_THEN_CLOCK}",
        rf"(?i)^{_MONTH_NAME}\.?(?:{BLANK}+|[-/.]){_DAY}(?:st|nd|rd|th)?(?:,{BLANK}*|{BLANK}+|[-/.]){_YEAR}{_THEN_CLOCK}",
        ISO,
    ),
}
EXAMPLES = {
    "iso": "2026-03-01T06:00:00+00:00",
    "year_first": "2026/03/01 06:00",
    "day_first": "01.03.2026 06:00",
    "month_first": "03/01/2026 6:00 AM",
}
# A time of day by itself: 14:30, 2:30 PM, 143000. Four digits could be hours and minutes, or minutes and seconds.
TIME_OF_DAY = (
    rf"(?i)^{_CLOCK}{_ZONE}$",
    rf"^(?P<hour>\d{{1,2}})(?P<minute>\d\d)(?P<second>\d\d){_FRACTION}$",
)
