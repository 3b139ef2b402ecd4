"""
Templates to pages, with the headers that keep a page to this server.

No page has a script or style of its own, so the policy allows files of this server only: a value that escaped every other step could
neither run nor send anything.
"""

from collections.abc import Mapping
from datetime import UTC, datetime
from functools import cache
from typing import Any
from urllib.parse import quote

from fastapi import Response
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape

from pipeline.api.context import RequestContext
from pipeline.number_text import counted, exact, hundredths, mean_money, money, number, percent, score_text
from pipeline.rendering.charts import DARK, LIGHT
from pipeline.rendering.html_page import chart_picture
from pipeline.rendering.text import safe_text, share
from pipeline.sanitize import for_page
from pipeline.services.records import Amount
from pipeline.services.users.permissions import Caller, Permission
from pipeline.web.assets import asset_address

SECURITY_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; form-action 'self'; "
    "base-uri 'none'; frame-ancestors 'none'"
)
SENTENCE_MAX = 2_000  # characters
NAVIGATION = (  # name, title, address, and what it needs
    ("queue", "Queue", "/queue", Permission.VIEW),
    ("missed", "Missed", "/missed", Permission.VIEW),
    ("overview", "Overview", "/overview", Permission.VIEW),
    ("strategy", "Strategy", "/strategy", Permission.VIEW),
    ("drift", "Drift and quality", "/drift", Permission.VIEW),
    ("runs", "Runs", "/runs", Permission.VIEW),
    ("models", "Models", "/models", Permission.VIEW),
    ("rules", "Rules", "/rules", Permission.VIEW),
    ("mutes", "Mutes", "/mutes", Permission.VIEW),
    ("approvals", "Approvals", "/approvals", Permission.VIEW),
    ("users", "Users", "/users", Permission.MANAGE_USERS),
    ("audit", "Audit", "/audit", Permission.VIEW_AUDIT),
)


@cache
def environment() -> Environment:
    """What knows the templates; a name that a template does not get is an error."""
    found = Environment(
        loader=PackageLoader("pipeline.web", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    found.filters.update(
        safe=safe_text,
        money=_money,
        cents=_cents,
        number=number,
        counted=counted,
        exact=exact,
        moment=moment,
        day=_day,
        words=_value_text,
        sentence=_sentence_text,
        segment=_segment,
        share=share,
        percent=percent,
        score=_score,
        hundredths=hundredths,
    )
    found.globals.update(
        asset=asset_address,
        chart_picture=chart_picture,
        colours={"light": LIGHT["paper"], "dark": DARK["paper"]},
    )
    return found


def render(template: str, caller: Caller | None, status: int = 200, **values: Any) -> Response:
    """A template as an answer, whole page or a part of one."""
    may = {permission.value: caller is not None and caller.may(permission) for permission in Permission}
    links = [entry for entry in NAVIGATION if caller is not None and caller.may(entry[3])]
    text = environment().get_template(template).render(caller=caller, may=may, navigation=links, **values)
    return html(text, status)


def html(text: str, status: int = 200) -> Response:
    """HTML as an answer."""
    headers = {"Content-Security-Policy": SECURITY_POLICY, "Vary": "HX-Request"}
    return Response(text, status, headers, "text/html; charset=utf-8")


def page(context: RequestContext, template: str, *, place: str, status: int = 200, **values: Any) -> Response:
    """
    A page, or a part of one, for the caller of a request.

    Parameters
    ----------
    place
        The entry of the navigation that it belongs to.
    """
    live = context.request.scope["state"].get("live_session")
    shared: Mapping[str, Any] = {
        "monitor": context.app.config.monitor.name,
        "csrf": "" if live is None else live.csrf,
        "place": place,
    }
    return render(template, context.caller, status, **shared, **values)


def redirect(address: str) -> Response:
    """Go to another page, after a form too."""
    return Response(status_code=303, headers={"Location": address})


def _money(amount: Amount | None) -> str:
    return "–" if amount is None else money(amount.value, amount.currency)


def _cents(amount: Amount | None) -> str:
    """An amount that is expected, not paid: to the cent."""
    return "–" if amount is None else mean_money(float(amount.value), amount.currency)


def _score(score: float) -> Markup:
    """A score as the share of payments that are as suspicious; the number itself on pointing at it."""
    return Markup('<span class="score" title="score {}">{}</span>').format(exact(score), score_text(score))


def moment(at: datetime | None) -> Markup:
    """A time; the script writes it in the viewer's zone."""
    if at is None:
        return Markup("–")
    text = at.astimezone(UTC)
    return Markup('<time datetime="{}">{}</time>').format(
        text.strftime("%Y-%m-%dT%H:%M:%SZ"), text.strftime("%d %b %Y %H:%M UTC")
    )


def _day(at: datetime | None) -> str:
    return "–" if at is None else at.astimezone(UTC).strftime("%d %b %Y")


def _value_text(text: object) -> Markup:
    """A value from outside: sanitised unless it is markup, and set apart from the direction of the text around it."""
    return Markup("<bdi>{}</bdi>").format(text if isinstance(text, Markup) else escape(safe_text(text)))


def _sentence_text(text: str) -> Markup:
    """A sentence of the monitor or of a person, which may be longer than a value."""
    return Markup("<bdi>{}</bdi>").format(for_page(text, SENTENCE_MAX))


def _segment(text: str) -> str:
    """A value as one segment of a path; Jinja's `urlencode` keeps slashes."""
    return quote(text, safe="")
