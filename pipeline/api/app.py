"""The app: routers, and what surrounds every request."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from urllib.parse import urlsplit

from fastapi import APIRouter, FastAPI
from starlette.types import ASGIApp
from uvicorn.middleware.proxy_headers import ProxyHeadersMiddleware

from pipeline.api import document, health
from pipeline.api.access import approvals, oidc, persons, tokens, users
from pipeline.api.access import session as session_routes
from pipeline.api.authorization import Authorization
from pipeline.api.context import AppState
from pipeline.api.cursors import Cursors
from pipeline.api.data import entities, export, feeds, score, transactions
from pipeline.api.event_sender import EventSender
from pipeline.api.middleware import RequestGuard
from pipeline.api.models import choices, comparisons, models, policies
from pipeline.api.monitoring import audit, drift, messages, quality, rates
from pipeline.api.problems import add_handlers
from pipeline.api.provider_checks import ProviderChecks
from pipeline.api.request_limits import RequestLimits
from pipeline.api.review import claims, flags, labels, missed, mutes, notes, rules, verdicts
from pipeline.api.routes import API, ROUTES, Needed
from pipeline.api.runs import jobs as job_routes
from pipeline.api.runs import runs, undo
from pipeline.config.config import Config
from pipeline.services.monitoring.reports import NewestReport
from pipeline.services.runs.jobs import Jobs
from pipeline.services.scorer import ArrivalScorer, open_scorer
from pipeline.services.session import Session, open_session
from pipeline.services.users.activity import ActivityRecorder
from pipeline.services.users.handles import entity_handles
from pipeline.services.users.provider import Provider

LOCK_WAIT_MS = 2_000  # a person waits; whoever loads may wait as long as an ingest does
LOOPBACK = ("localhost", "127.0.0.1", "[::1]")
# Routes are looked for in this order: scores come first, since somebody waits while a payment is scored.
NOUNS = (
    score, flags, missed, verdicts, labels, notes, claims, mutes, rules, transactions, entities, feeds, export, models, choices, comparisons,
    policies, drift, quality, rates, messages, runs, job_routes, undo, audit, session_routes, approvals, users, tokens, persons, document,
)  # fmt: skip


@dataclass(frozen=True)
class Pages:
    """
    Pages for people beside the API.

    Attributes
    ----------
    routes
        What each of them needs, as `pipeline.api.routes`.
    middleware
        Surrounds everything else, and makes pages of problems.
    """

    routers: Sequence[APIRouter]
    routes: Mapping[tuple[str, str], Needed]
    middleware: type[ASGIApp]


@contextmanager
def open_app(config: Config, pages: Pages | None = None) -> Iterator[FastAPI]:
    """
    The app of a monitor, with its database open.

    Raises
    ------
    Unreachable, SchemaOutOfDate, WrongMonitor
        The database cannot be used.
    """
    with (
        open_session(config, "serve", lock_wait_ms=LOCK_WAIT_MS) as session,
        open_session(config, "serve") as loading,
        closing(ActivityRecorder(loading)) as activity,
        open_scorer(session) as scorer,
        closing(Jobs(session)) as jobs,
        closing(EventSender(loading)),
        ExitStack() as stack,
    ):
        app = create_app(config, session, loading, activity, scorer, jobs, pages)
        provider = app.state.shared.provider
        if provider is not None:
            stack.enter_context(closing(ProviderChecks(loading, provider)))
        yield app


def create_app(
    config: Config,
    session: Session,
    loading: Session,
    activity: ActivityRecorder,
    scorer: ArrivalScorer,
    jobs: Jobs,
    pages: Pages | None = None,
) -> FastAPI:
    """
    The app of a monitor.

    Parameters
    ----------
    session
        For everything but loads.
    loading
        For loads: the same database, with the patience of an ingest.
    activity
        Writes who looked at what.
    scorer
        Scores payments as they arrive.
    jobs
        Carries out what takes longer than a request.
    pages
        Of the console; None for the API alone.
    """
    app = FastAPI(
        title="fraudwatch",
        version=version("fraudwatch"),
        docs_url=None,  # its pages load scripts of another host
        redoc_url=None,
        openapi_url=None,
        redirect_slashes=False,
    )
    app.state.shared = AppState(
        config,
        session,
        loading,
        entity_handles(session),
        Cursors(session),
        RequestLimits(),
        activity,
        Provider(config) if config.oidc.issuer else None,
        scorer,
        jobs,
        NewestReport(),
    )
    add_handlers(app)
    router = APIRouter(prefix=API)
    for noun in NOUNS:
        router.include_router(noun.router)
    app.include_router(router)
    app.include_router(health.router)
    app.include_router(oidc.router)
    app.openapi = lambda: document.document_of(app)  # type: ignore[method-assign]
    for router in () if pages is None else pages.routers:
        app.include_router(router, include_in_schema=False)
    routes = ROUTES if pages is None else {**ROUTES, **pages.routes}
    app.add_middleware(Authorization, document=app.openapi(), routes=routes)
    app.add_middleware(RequestGuard, hosts=_hosts(config))
    if pages is not None:
        app.add_middleware(pages.middleware)  # type: ignore[arg-type]
    app.add_middleware(ProxyHeadersMiddleware, trusted_hosts=list(config.web.trusted_proxies))
    return app


def _hosts(config: Config) -> list[str]:
    """Every name in the header Host that is this server's."""
    public = urlsplit(config.web.public_url).hostname or ""
    named = f"[{public}]" if ":" in public else public
    return [*LOOPBACK, *config.web.allowed_hosts, *([named] if named else [])]
