"""
Render a page as one self-contained HTML file: text, style, chart library and data.

Text is escaped by the template engine. The page's content security policy allows only its own two scripts, identified
by their hashes, and no network access, so a value from the data that escaped every sanitising step could still neither
run nor send anything.
"""

import base64
import hashlib
from collections.abc import Sequence
from importlib.resources import files

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from pipeline.rendering import charts
from pipeline.rendering.elements import Chart, ReportPage, ReportSection, Table, VegaSpec
from pipeline.rendering.page_links import with_page_links
from storage.database.column_types import as_datetime

SHORT_MAX = 34  # characters of a cell that stays on one line; a longer cell gets a minimum width


def render(page: ReportPage) -> str:
    """The page as HTML; the same page gives the same bytes."""
    scripts = [charts.vega_bundle(), _asset("page.js")]
    return (
        _environment()
        .get_template("page.html")
        .render(
            page=page,
            security_policy=_security_policy(scripts),
            style=Markup(_style()),  # noqa: S704 - our own files, which hold no data
            scripts=[Markup(script) for script in scripts],  # noqa: S704
        )
    )


def render_section(section: ReportSection, as_of: int) -> str:
    """A section as a part of a page of the console, whose charts are pictures that the page loads; `as_of` in µs."""
    drawings = [chart() for chart in section.charts]
    template = _environment().get_template("section.html")
    return template.render(section=section, charts=drawings, as_of=as_datetime(as_of))


def chart_picture(name: str, alt: str) -> Markup:
    """A chart of the report in a page of the console: the picture for the scheme and the width of the screen."""
    sources = (
        ("(max-width: 600px) and (prefers-color-scheme: dark)", "dark/narrow"), ("(max-width: 600px)", "light/narrow"),
        ("(prefers-color-scheme: dark)", "dark/wide"),
    )  # fmt: skip
    others = Markup().join(
        Markup('<source media="{}" srcset="/charts/{}/{}">').format(media, name, path)
        for media, path in sources
    )
    image = Markup('<img src="/charts/{}/light/wide" alt="{}" loading="lazy" width="760" height="360">')
    return Markup("<picture>{}{}</picture>").format(others, image.format(name, alt))


def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("pipeline.rendering", ""),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.policies["json.dumps_kwargs"] = {"sort_keys": True, "separators": (",", ":")}
    environment.globals.update(
        vega=_vega, cell_class=_cell_class, linked=with_page_links, picture=chart_picture
    )
    return environment


def _vega(chart: Chart) -> VegaSpec:
    return charts.compile_to_vega(chart.spec) | {"description": chart.alt}


def _cell_class(table: Table, place: int, cell: str) -> str:
    if table.columns[place] in table.right_aligned:
        return "right"
    return "short" if len(cell) <= SHORT_MAX else "long" if len(table.columns) > 2 else "full"


def _security_policy(scripts: Sequence[str]) -> str:
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
