"""
Render the report as one self-contained HTML page: text, style, chart library and data.

The page's content security policy allows only its own two scripts, identified by their hashes, and no network access,
so a value from the data that escaped every sanitising step could still neither run nor send anything.
"""

import base64
import hashlib
import json
import re
from collections.abc import Iterator, Sequence
from html import escape
from importlib.resources import files

from pipeline.rendering import charts
from pipeline.rendering.elements import Chart, ReportSection, Table, Tile, VegaSpec
from pipeline.rendering.report_data import ReportData
from pipeline.rendering.text import instant_text

SHORT_MAX = 34  # characters of a cell that stays on one line; a longer cell gets a minimum width


def render(data: ReportData, sections: Sequence[ReportSection]) -> str:
    """The page as HTML."""
    title = f"{data.config.monitor.name}: {data.span_text}"
    scripts = [charts.vega_bundle(), _asset("page.js")]
    body = "\n".join(
        [_head(data), _contents(sections), *(_section(section) for section in sections), _foot()]
    )
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
    hashes = (base64.b64encode(hashlib.sha256(script.encode()).digest()).decode() for script in scripts)
    allowed = " ".join(f"'sha256-{digest}'" for digest in hashes)
    return f"default-src 'none'; script-src {allowed} 'unsafe-eval'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; form-action 'none'"


def _style() -> str:
    light, dark = (_variables(colours) for colours in (charts.LIGHT, charts.DARK))
    return f":root{{{light}}}\n@media (prefers-color-scheme: dark){{:root{{{dark}}}}}\n@media print{{:root{{{light}}}}}\n{_asset('page.css')}"


def _variables(colours: dict[str, str]) -> str:
    return "".join(f"--{name}:{value};" for name, value in colours.items())


def _asset(name: str) -> str:
    return files("pipeline.rendering").joinpath(name).read_text(encoding="utf-8")


def _head(data: ReportData) -> str:
    return (
        f'<a class="skip" href="#outcome">To the report</a>\n<header><p class="name">{escape(data.config.monitor.name)}</p>'
        f"<h1>Fraud report</h1><p>{escape(data.span_text)}, policy {escape(data.scope.policy)}; data as of {instant_text(data.scope.as_of)[:16]} UTC. "
        "Times are UTC.</p></header>\n<noscript><p class='missing'>Charts need JavaScript, which is switched off: "
        "the page shows their descriptions and tables instead.</p></noscript>"
    )


def _contents(sections: Sequence[ReportSection]) -> str:
    links = "".join(f'<li><a href="#{section.name}">{escape(section.title)}</a></li>' for section in sections)
    return f'<nav aria-label="Sections"><ul>{links}</ul></nav>\n<main>'


def _foot() -> str:
    return "</main>\n<footer><p>Made by fraudwatch. All figures are counted in the database; nothing is sampled.</p></footer>"


def _section(section: ReportSection) -> str:
    sentences = "".join(f"<p>{escape(sentence)}</p>" for sentence in section.sentences)
    missing = "".join(f'<p class="missing">{escape(sentence)}</p>' for sentence in section.missing)
    points = "".join(f"<li>{escape(point)}</li>" for point in section.points)
    bullets = f"<ul>{points}</ul>" if points else ""
    chart_parts, table_parts = map(_chart, section.charts), map(_table, section.tables)
    parts = [_tiles(section.tiles), sentences, bullets, missing, *chart_parts, *table_parts]
    return "\n".join([
        f'<section id="{section.name}" aria-labelledby="{section.name}-title">',
        f'<h2 id="{section.name}-title" tabindex="-1">{escape(section.title)}</h2>',
        *filter(None, parts),
        "</section>",
    ])  # fmt: skip


def _tiles(tiles: Sequence[Tile]) -> str:
    if not tiles:
        return ""
    items = (
        f"<div><dt>{escape(tile.label)}</dt><dd><b>{escape(tile.value)}</b><span>{escape(tile.note)}</span></dd></div>"
        for tile in tiles
    )
    return f'<dl class="tiles">{"".join(items)}</dl>'


def _chart(chart: Chart) -> str:
    name, drives = f"chart-{chart.name}", f' data-drives="chart-{chart.drives}"' if chart.drives else ""
    spec = charts.compile_to_vega(chart.spec) | {"description": chart.alt}
    return "\n".join([
        f'<figure id="{name}" class="chart"{drives}>',
        f"<figcaption>{escape(chart.title)}</figcaption>",
        _option_select(chart),
        f'<div class="drawing" role="group" aria-label="{escape(chart.alt)}"></div>',
        f"<noscript><p>{escape(chart.alt)}</p></noscript>",
        f'<script type="application/json">{_embedded(spec)}</script>',
        "</figure>",
    ])  # fmt: skip


def _option_select(chart: Chart) -> str:
    if not chart.options:
        return ""
    options = "".join(f"<option>{escape(option)}</option>" for option in chart.options)
    return f"<label>Show: <select>{options}</select></label>"


def _table(table: Table) -> str:
    head = "".join(f"<th scope='col'{_align(name, table)}>{escape(name)}</th>" for name in table.columns)
    rows = "".join(f"<tr>{''.join(_cells(row, table))}</tr>" for row in table.rows)
    html = f'<div class="scroll" tabindex="0" role="region" aria-label="{escape(table.caption)}"><table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table></div>'
    if table.collapsed:
        return f"<details><summary>{escape(table.caption)}</summary>{html}</details>"
    return f'<p class="caption">{escape(table.caption)}</p>{html}'


def _cells(row: Sequence[str], table: Table) -> Iterator[str]:
    for name, cell in zip(table.columns, row, strict=True):
        size = "short" if len(cell) <= SHORT_MAX else "long" if len(row) > 2 else "full"
        yield f"<td class='{'right' if name in table.right_aligned else size}'>{escape(cell)}</td>"


def _align(name: str, table: Table) -> str:
    return " class='right'" if name in table.right_aligned else ""


def _embedded(spec: VegaSpec) -> str:
    """JSON that can neither close the script element around it nor start a comment."""
    text = json.dumps(spec, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return re.sub(r"[<>&]", lambda match: f"\\u{ord(match[0]):04x}", text)
