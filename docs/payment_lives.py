"""
Draw docs/images/payment-lives.svg, the lives of payments in docs/labels.md: `python docs/payment_lives.py`.

`tests/test_payment_lives.py` lives through each of them in a database, and refuses a stale picture.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path

PICTURE = Path(__file__).parent / "images" / "payment-lives.svg"
MATURITY, DAYS = 30, 45

# What counts as the label of a payment, at some instant.
NOTHING_YET = "no label yet"
SILENCE = "genuine by silence"
NO_SILENCE = "silence says nothing"
FRAUD, GENUINE, NEITHER = "fraud", "genuine", "neither"


@dataclass(frozen=True)
class Life:
    """
    What happens to a payment of day 0, and what counts from when on.

    Attributes
    ----------
    events
        Day, what happens, and how the picture calls it.
    counts
        From which day on (the event's, or maturity) which label counts.
    """

    title: str
    events: Sequence[tuple[float, str, str]]
    counts: Sequence[tuple[float, str]]

    def label_at(self, day: float) -> str:
        """What counts on a day."""
        return [label for since, label in self.counts if since <= day][-1]


LIVES = (
    Life("nobody says anything",
         [(0, "paid", "paid")],
         [(0, NOTHING_YET), (MATURITY, SILENCE)]),
    Life("charged back, and won",
         [(0, "paid", "paid"), (12, "fraud dispute", "dispute 10.4"), (38, "won", "won: the money comes back")],
         [(0, NOTHING_YET), (12, FRAUD)]),
    Life("flagged and stopped",
         [(0, "flagged", "flagged"), (3, "fraud verdict, refunded", "verdict fraud, refunded: nobody charges it back")],
         [(0, NOTHING_YET), (3, FRAUD)]),
    Life("cleared, then charged back",
         [(0, "flagged", "flagged"), (3, "genuine verdict", "verdict genuine"), (20, "fraud dispute", "dispute 4837")],
         [(0, NOTHING_YET), (3, GENUINE), (20, FRAUD)]),
    Life("closed without opinion",
         [(0, "flagged", "flagged"), (3, "no opinion", "closed without opinion")],
         [(0, NOTHING_YET), (MATURITY, SILENCE)]),
    Life("a verdict taken back",
         [(0, "flagged", "flagged"), (3, "fraud verdict", "verdict fraud"), (10, "undo", "undone")],
         [(0, NOTHING_YET), (3, FRAUD), (10, NOTHING_YET), (MATURITY, SILENCE)]),
    Life("disputed, not about fraud",
         [(0, "paid", "paid"), (9, "other dispute", "dispute 13.1: not received")],
         [(0, NOTHING_YET), (9, NEITHER)]),
    Life("pending, then declined",
         [(0, "pending", "pending"), (4, "declined", "declined")],
         [(0, NOTHING_YET), (4, NO_SILENCE)]),
    Life("refunded in full",
         [(0, "paid", "paid"), (6, "refund", "refund")],
         [(0, NOTHING_YET), (6, NO_SILENCE)]),
)  # fmt: skip

WIDTH, LEFT, RIGHT, TOP, ROW, BAR = 1000, 225, 24, 74, 52, 20
COLOURS = {
    NOTHING_YET: ("#eef0f3", "#5b6470"),
    SILENCE: ("#dcefe1", "#1e6b39"),
    GENUINE: ("#9fd3ae", "#0f4a25"),
    FRAUD: ("#f3b5ae", "#7d1a10"),
    NEITHER: ("#fbe3b0", "#6d4a00"),
    NO_SILENCE: ("#e3def4", "#443180"),
}
STYLE = (
    "text{font:12px system-ui,sans-serif;fill:#1c1e21}.title{font-weight:600;font-size:13px}.axis{fill:#60656c;font-size:11px}"
    ".event{font-size:11px;fill:#3a4049}.grid{stroke:#e1e4e8}.mature{stroke:#5b6470;stroke-dasharray:4 4}circle{fill:#1c1e21}"
)


def main() -> None:
    """Write the picture."""
    PICTURE.write_text(picture(), encoding="utf-8")


def picture() -> str:
    """The picture as SVG."""
    height = TOP + ROW * len(LIVES) + 12
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" role="img">',
        "<title>Lives of payments: what counts as their label, day by day</title>",
        f'<style>{STYLE}</style><rect width="{WIDTH}" height="{height}" fill="#fff"/>',
        *_axis(height),
        *(part for row, life in enumerate(LIVES) for part in _life(life, TOP + row * ROW)),
        "</svg>\n",
    ]
    return "\n".join(parts)


def _x(day: float) -> float:
    return round(LEFT + day / DAYS * (WIDTH - LEFT - RIGHT), 1)


def _axis(height: float) -> list[str]:
    lines = [
        f'<line class="grid" x1="{_x(day)}" x2="{_x(day)}" y1="{TOP - 14}" y2="{height - 8}"/>'
        f'<text class="axis" x="{_x(day)}" y="{TOP - 20}" text-anchor="middle">day {day}</text>'
        for day in range(0, DAYS + 1, 5)
    ]
    mature = (
        f'<line class="mature" x1="{_x(MATURITY)}" x2="{_x(MATURITY)}" y1="{TOP - 14}" y2="{height - 8}"/>'
    )
    note = f'<text class="axis" x="{_x(MATURITY)}" y="{TOP - 38}" text-anchor="middle">labels.maturity</text>'
    head = '<text class="title" x="14" y="26">What counts as the label of a payment of day 0</text>'
    return [*lines, mature, note, head]


def _life(life: Life, y: float) -> list[str]:
    ends = [*(since for since, _ in life.counts[1:]), DAYS]
    parts = [f'<text class="title" x="14" y="{y + BAR - 5}">{escape(life.title)}</text>']
    for (since, label), end in zip(life.counts, ends, strict=True):
        fill, ink = COLOURS[label]
        width = _x(end) - _x(since)
        parts.append(
            f'<rect x="{_x(since)}" y="{y}" width="{width:.1f}" height="{BAR}" rx="3" fill="{fill}"/>'
        )
        if width > 7 * len(label):
            parts.append(
                f'<text x="{_x(since) + width / 2:.1f}" y="{y + BAR - 6}" text-anchor="middle" style="fill:{ink}">{label}</text>'
            )
    for day, _, text in life.events:
        parts.append(f'<circle cx="{_x(day)}" cy="{y + BAR}" r="3.5"/>')
        near_end = _x(day) + 6 * len(text) > WIDTH
        where = f'x="{WIDTH - RIGHT}" text-anchor="end"' if near_end else f'x="{_x(day) + 1}"'
        parts.append(f'<text class="event" {where} y="{y + BAR + 15}">{escape(text)}</text>')
    return parts


if __name__ == "__main__":
    main()
