"""The pages as one piece, for the app that serves them."""

from pipeline.api.app import Pages
from pipeline.web import assets
from pipeline.web.pages import (
    answered,
    approvals,
    bulk,
    comparisons,
    decisions,
    entities,
    flags,
    jump,
    lists,
    missed,
    models,
    monitoring,
    queue,
    runs,
    session,
    users,
    verdicts,
)
from pipeline.web.problem_pages import ProblemPages
from pipeline.web.routes import PAGE_ROUTES

PAGES = (
    session, jump, queue, verdicts, bulk, flags, decisions, entities, answered, missed, monitoring, comparisons, runs, models, lists, approvals, users,
)  # fmt: skip
CONSOLE = Pages((assets.router, *(page.router for page in PAGES)), PAGE_ROUTES, ProblemPages)
