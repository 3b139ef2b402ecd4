"""Whether the server and its database answer, Prometheus metrics, and the page of problems."""

from collections.abc import Iterator
from dataclasses import dataclass

from fastapi import APIRouter, Request, Response
from prometheus_client import CollectorRegistry
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from pipeline.api.context import Context, app_state
from pipeline.api.listing import json_answer
from pipeline.api.problem_codes import problems_page
from pipeline.expected_errors import EXPECTED_ERRORS, error_code
from pipeline.rendering.health_metrics import FAILING, figure_gauges, gauge, gauge_family, metrics_encoder
from pipeline.schedule.run_context import LIVE
from pipeline.services.runs.tick import health_figures
from pipeline.services.session import Session

router = APIRouter(tags=["Health"])


@dataclass(frozen=True)
class ServerState:
    """Whether all is well, in a word."""

    ok: bool
    state: str


@router.get("/healthz", operation_id="is_alive", response_model=ServerState)
async def is_alive() -> Response:
    """Say that the server answers."""
    return json_answer(ServerState, ServerState(ok=True, state="ok"))


@router.get(
    "/readyz", operation_id="is_ready", response_model=ServerState, responses={503: {"model": ServerState}}
)
def is_ready(request: Request) -> Response:
    """Say whether the database answers, too."""
    try:
        health_figures(app_state(request).session, LIVE)
    except EXPECTED_ERRORS as error:
        return json_answer(ServerState, ServerState(ok=False, state=error_code(error)), 503)
    return json_answer(ServerState, ServerState(ok=True, state="active"))


@router.get("/metrics", operation_id="read_metrics", response_class=Response)
def metrics(context: Context) -> Response:
    """Prometheus metrics of the monitor; those of ticks are on the daemon's port."""
    registry = CollectorRegistry()
    registry.register(_Figures(context.session))
    encode, media_type = metrics_encoder(context.request.headers.get("accept", ""))
    return Response(encode(registry), media_type=media_type)


@router.get("/docs/problems.md", operation_id="read_problems", response_class=Response)
async def problems() -> Response:
    """Explain every error."""
    return Response(problems_page(), media_type="text/markdown; charset=utf-8")


class _Figures(Collector):
    """What the database says now; it is asked once a scrape."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def collect(self) -> Iterator[GaugeMetricFamily]:
        figures = health_figures(self._session, LIVE)
        yield gauge("ready", "1 while the database answers.", 1.0)
        failing = {name: float(failures > 0) for name, failures in figures.parts.items()}
        yield gauge_family("step_failing", FAILING, ("step",), failing)
        yield from figure_gauges(figures, self._session.now)
