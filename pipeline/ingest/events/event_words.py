"""What the words of a column of events mean by [events]."""

from collections import Counter
from typing import Any, Literal, get_args

import numpy as np
import pyarrow.compute as pc

from pipeline.config.sections import EventsSection
from pipeline.ingest.formats.columns import texts
from storage.frames import Strings

EventKey = Literal[
    "payments", "settled", "declined", "refunds", "disputes", "won", "inquiries", "fraud_reports", "ignored"
]  # fmt: skip
KEYS: tuple[EventKey, ...] = get_args(EventKey)
UNKNOWN = ""  # the meaning of a word that no key has
WORDS_MAX = 50  # that are counted by themselves: the column may be a wrong one
OTHER_WORDS = "other words"
MISSING = "(empty)"


class EventWords:
    """The keys of [events] by their words, in any case."""

    def __init__(self, events: EventsSection) -> None:
        self._keys = {word.strip().lower(): key for key in KEYS for word in getattr(events, key)}

    def key_of(self, word: str | None) -> str:
        """The key that has a word; `UNKNOWN` if none has."""
        return UNKNOWN if word is None else self._keys.get(word.strip().lower(), UNKNOWN)

    def keys_of(self, column: Any, counts: Counter[str]) -> Strings:
        """The key of each value, (n,); the words are added to `counts`."""
        encoded = texts(column).dictionary_encode()
        words = [*encoded.dictionary.to_pylist(), None]
        codes = pc.fill_null(encoded.indices, len(words) - 1).to_numpy(zero_copy_only=False)
        for word, number in zip(words, np.bincount(codes, minlength=len(words)).tolist(), strict=True):
            if number:
                known = word in counts or len(counts) < WORDS_MAX
                counts[MISSING if word is None else word if known else OTHER_WORDS] += number
        keys: Strings = np.array([self.key_of(word) for word in words], dtype=object)[codes]
        return keys
