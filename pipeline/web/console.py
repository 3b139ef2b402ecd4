"""The pages as one piece, for the app that serves them."""

from pipeline.api.app import Pages
from pipeline.web import assets
from pipeline.web.pages import (
    bulk,
    decisions,
    entities,
    flags,
    jump,
    lists,
    missed,
    monitoring,
    queue,
    runs,
    session,
    verdicts,
)
from pipeline.web.problem_pages import ProblemPages
from pipeline.web.routes import PAGE_ROUTES

PAGES = (session, jump, queue, verdicts, bulk, flags, decisions, entities, missed, monitoring, runs, lists)
CONSOLE = Pages((assets.router, *(page.router for page in PAGES)), PAGE_ROUTES, ProblemPages)
