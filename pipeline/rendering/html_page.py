"""
One page that holds all it needs: text, style, drawing library and data.

A content security policy in the page itself lets it run its own two scripts, known by their hashes, and reach nothing
else, so that a value of the data that slipped through every escape could still neither run nor call home.
"""

import base64
import hashlib
import json
import re
from collections.abc import Iterator, Sequence
from html import escape
from importlib.resources import files

from pipeline.rendering import charts
from pipeline.rendering.elements import Chart, Section, Spec, Table, Tile
from pipeline.rendering.report_data import Facts
from pipeline.rendering.text import text_of

SHORT_MAX = (
    34  # characters of a cell that stays on one line; a longer one among others has a width of its own
)


def render(facts: Facts, sections: Sequence[Section]) -> str:
    """The page as HTML."""
    title = f"{facts.config.monitor.name}: {facts.span}"
    scripts = [charts.bundle(), _asset("page.js")]
    body = "\n".join([_head(facts), _contents(sections), *(_section(one) for one in sections), _foot()])
    return "\n".join([
        "<!DOCTYPE html>",
        '<html lang="en">',
        "<head>",
        '<meta charset="utf-8">',
        f'<meta http-equiv="Content-Security-Policy" content="{_policy(scripts)}">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        '<meta name="color-scheme" content="light dark">',
        '<link rel="icon" href="data:,">',
        f"<title>{escape(title)}</title>",
        f"<style>{_style()}</style>",
        "</head>",
        "<body>",
        body,
        *(f"<script>{script}</script>" for script in scripts),
        "</body>",
        "</html>\n",
    ])  # fmt: skip


def _policy(scripts: Sequence[str]) -> str:
    """Our scripts by their hashes; the drawing library makes functions of its expressions, which is `unsafe-eval`."""
    hashes = (base64.b64encode(hashlib.sha256(one.encode()).digest()).decode() for one in scripts)
    allowed = " ".join(f"'sha256-{one}'" for one in hashes)
    return f"default-src 'none'; script-src {allowed} 'unsafe-eval'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; form-action 'none'"


def _style() -> str:
    light, dark = (_variables(colours) for colours in (charts.LIGHT, charts.DARK))
    return f":root{{{light}}}\n@media (prefers-color-scheme: dark){{:root{{{dark}}}}}\n@media print{{:root{{{light}}}}}\n{_asset('page.css')}"


def _variables(colours: dict[str, str]) -> str:
    return "".join(f"--{name}:{value};" for name, value in colours.items())


def _asset(name: str) -> str:
    return files("pipeline.rendering").joinpath(name).read_text(encoding="utf-8")


def _head(facts: Facts) -> str:
    return (
        f'<a class="skip" href="#outcome">To the report</a>\n<header><p class="name">{escape(facts.config.monitor.name)}</p>'
        f"<h1>Fraud report</h1><p>{escape(facts.span)}, policy {escape(facts.scope.policy)}; as known at {text_of(facts.scope.as_of)[:16]} UTC. "
        "Times are UTC.</p></header>\n<noscript><p class='missing'>Charts are drawn by a script inside this page, which is switched off: "
        "their descriptions and tables stand in for them.</p></noscript>"
    )


def _contents(sections: Sequence[Section]) -> str:
    links = "".join(f'<li><a href="#{one.name}">{escape(one.title)}</a></li>' for one in sections)
    return f'<nav aria-label="Sections"><ul>{links}</ul></nav>\n<main>'


def _foot() -> str:
    return "</main>\n<footer><p>Made by fraudwatch. Everything was counted in the database, nothing was sampled.</p></footer>"


def _section(one: Section) -> str:
    said = "".join(f"<p>{escape(sentence)}</p>" for sentence in one.said)
    missing = "".join(f'<p class="missing">{escape(sentence)}</p>' for sentence in one.missing)
    points = "".join(f"<li>{escape(point)}</li>" for point in one.points)
    listed = f"<ul>{points}</ul>" if points else ""
    parts = [_tiles(one.tiles), said, listed, missing, *map(_chart, one.charts), *map(_table, one.tables)]
    return "\n".join([
        f'<section id="{one.name}" aria-labelledby="{one.name}-title">',
        f'<h2 id="{one.name}-title" tabindex="-1">{escape(one.title)}</h2>',
        *filter(None, parts),
        "</section>",
    ])  # fmt: skip


def _tiles(tiles: Sequence[Tile]) -> str:
    if not tiles:
        return ""
    each = (
        f"<div><dt>{escape(one.label)}</dt><dd><b>{escape(one.value)}</b><span>{escape(one.note)}</span></dd></div>"
        for one in tiles
    )
    return f'<dl class="tiles">{"".join(each)}</dl>'


def _chart(one: Chart) -> str:
    name, drives = f"chart-{one.name}", f' data-drives="chart-{one.drives}"' if one.drives else ""
    spec = charts.compiled(one.spec) | {"description": one.alt}
    return "\n".join([
        f'<figure id="{name}" class="chart"{drives}>',
        f"<figcaption>{escape(one.title)}</figcaption>",
        _picker(one),
        f'<div class="drawing" role="group" aria-label="{escape(one.alt)}"></div>',
        f"<noscript><p>{escape(one.alt)}</p></noscript>",
        f'<script type="application/json">{_embedded(spec)}</script>',
        "</figure>",
    ])  # fmt: skip


def _picker(one: Chart) -> str:
    if not one.picks:
        return ""
    options = "".join(f"<option>{escape(pick)}</option>" for pick in one.picks)
    return f"<label>Shown: <select>{options}</select></label>"


def _table(one: Table) -> str:
    head = "".join(f"<th scope='col'{_side(name, one)}>{escape(name)}</th>" for name in one.columns)
    rows = "".join(f"<tr>{''.join(_cells(row, one))}</tr>" for row in one.rows)
    table = f'<div class="scroll" tabindex="0" role="region" aria-label="{escape(one.caption)}"><table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table></div>'
    if one.folded:
        return f"<details><summary>{escape(one.caption)}</summary>{table}</details>"
    return f'<p class="caption">{escape(one.caption)}</p>{table}'


def _cells(row: Sequence[str], table: Table) -> Iterator[str]:
    for name, cell in zip(table.columns, row, strict=True):
        size = "short" if len(cell) <= SHORT_MAX else "long" if len(row) > 2 else "full"
        yield f"<td class='{'right' if name in table.right else size}'>{escape(cell)}</td>"


def _side(name: str, table: Table) -> str:
    return " class='right'" if name in table.right else ""


def _embedded(spec: Spec) -> str:
    """JSON that cannot end the element it stands in, and starts no comment."""
    text = json.dumps(spec, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return re.sub(r"[<>&]", lambda found: f"\\u{ord(found[0]):04x}", text)
