"""How rare fraud was measured to be, and which strategy was chosen for it."""

from typing import Any

from pipeline.rendering import charts as look
from pipeline.rendering.elements import Chart, Section, Table
from pipeline.rendering.report_data import Facts
from pipeline.rendering.text import safe

SHOWN = 12  # newest choices told in full
UNIT = 10_000


def section(facts: Facts) -> Section:
    """Choices up to the end of the span."""
    title = "How fraud was looked for"
    if not facts.choices:
        return Section(
            "choices", title, missing=["No training has chosen yet: fraudwatch train makes the first one."]
        )
    newest = facts.choices[-1]
    said = [f"Now: {safe(newest['sentence'])}"]
    if newest["what_would_change"]:
        said.append(f"What would change it: {safe(newest['what_would_change'])}")
    measured = [row for row in facts.choices if row["prevalence_upper"] is not None and row["mature"]]
    missing = (
        []
        if measured
        else ["No transaction was mature at any training, so prevalence has not been measured yet."]
    )
    charts = [prevalence(facts)] if measured else []
    return Section("choices", title, said, missing, charts=charts, tables=[_table(facts)])


def prevalence(facts: Facts) -> Chart:
    """Prevalence with its interval at each training, marked by the strategy chosen."""
    import altair

    rows = _rows(facts)
    colour = look.by_strategy([row["strategy"] for row in rows], points=True)
    floor, top = min(row["floor"] for row in rows), max(row["upper"] for row in rows)
    base = altair.Chart(look.data(rows)).encode(x=look.time_axis("at:T", padding=12), tooltip="told:N")
    scale = altair.Scale(type="log", domain=[floor, top * 1.15], nice=False)
    y = altair.Y(
        "prevalence:Q",
        scale=scale,
        title="frauds in 10,000 payments",
        axis=altair.Axis(values=look.log_ticks(floor, top, (1, 2, 5)), format="~g"),
    )
    bars = base.mark_rule(strokeWidth=2).encode(
        y=altair.Y("lower:Q", scale=scale), y2="upper:Q", color=colour["color"]
    )
    line = base.mark_line(strokeWidth=1, color=look.MUTED).encode(y=y)
    dots = base.mark_point(size=90, filled=True, opacity=1).encode(y=y, **colour)
    names = base.mark_text(align="left", dx=7, dy=-9, fontWeight="bold").encode(y=y, text="change:N")
    newest = rows[-1]
    return Chart(
        "choice",
        "How rare fraud is, and the strategy chosen",
        f"Prevalence of fraud with its 95 % interval at {len(rows)} trainings; the shape says which strategy was chosen. "
        f"The newest: {newest['told']}.",
        look.finished(line + bars + dots + names),
    )


def _rows(facts: Facts) -> list[dict[str, Any]]:
    rows, before = [], ""
    measured = [row for row in facts.choices if row["prevalence_upper"] is not None and row["mature"]]
    values = [
        row[name] for row in measured for name in ("prevalence", "prevalence_lower", "prevalence_upper")
    ]
    floor = min(value for value in values if value) * UNIT / 2
    for row in measured:
        value, lower, upper = (
            (row[name] or 0) * UNIT for name in ("prevalence", "prevalence_lower", "prevalence_upper")
        )
        rows.append({
            "at": row["training_date"][:19].replace(" ", "T") + "Z",
            "strategy": row["strategy"],
            "change": row["strategy"] if row["strategy"] != before else "",
            "prevalence": max(value, floor), "lower": max(lower, floor), "upper": upper, "floor": floor,
            "told": f"{row['training_date'][:10]}: {row['strategy']}, {value:.2g} in 10,000 ({lower:.2g} to {upper:.2g}), "
                    f"{row['effective_positives']:,.0f} effective frauds",
        })  # fmt: skip
        before = row["strategy"]
    return rows


def _table(facts: Facts) -> Table:
    told = facts.choices[-SHOWN:]
    rows = [
        [
            row["training_date"][:10], safe(row["strategy"]), f"{row['effective_positives']:,.0f}", f"{row['mature']:,}",
            safe(row["sentence"]),
        ]
        for row in reversed(told)
    ]  # fmt: skip
    left = len(facts.choices) - len(told)
    more = f"; {left:,} earlier ones: fraudwatch choices" if left else ""
    columns = ("training", "strategy", "effective frauds", "mature", "why")
    return Table(f"Choices, newest first{more}", columns, rows, frozenset(columns[2:4]), folded=True)
