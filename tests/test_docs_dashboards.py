"""The dashboard and the alert rules name only what there is: metrics looked up, SQL run as the role they describe."""

import json
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from sqlalchemy import create_engine, text

from pipeline.config.database import open_configured
from pipeline.daemon.health import Health
from pipeline.schedule.run_context import RunSummary
from storage.monitoring import health
from tests.support.databases import PostgresServer, copy_world, with_url
from tests.support.worlds import BACKFILLED, NOW, SMALL

ROLE = "fraudwatch_grafana"
FOLDER = Path(__file__).parents[1] / "docs" / "dashboards"
DASHBOARD = json.loads((FOLDER / "grafana.json").read_text())
RULES = yaml.safe_load((FOLDER / "alerts.yml").read_text())["groups"][0]["rules"]
METRIC = re.compile(r"\bfraudwatch_\w+")
MACROS = (
    (re.compile(r"\$__timeFilter\(([\w.]+)\)"), r"\1 BETWEEN '2025-01-01' AND '2025-03-01'"),
    (
        re.compile(r"\$__timeGroup\(([\w.]+), '(\d)d'\)"),
        r"floor(extract(epoch from \1) / (\2 * 86400)) * (\2 * 86400)",
    ),
    (re.compile(r"\$policy"), "live"),
)


def targets(kind: str) -> Iterator[tuple[str, dict[str, Any]]]:
    for panel in DASHBOARD["panels"]:
        for target in panel.get("targets", ()):
            if kind in target:
                yield panel["title"], target


def known_metrics(found: health.HealthFigures) -> set[str]:
    """Every series the daemon exposes once it has worked."""
    daemon_health = Health(lambda: NOW)
    daemon_health.tick_started()
    daemon_health.tick_ended("done")
    daemon_health.run_finished(RunSummary(windows=1), 1.0)
    daemon_health.update_snapshot(found, 0)
    names = set()
    for family in daemon_health.registry.collect():
        names |= {family.name, *(sample.name for sample in family.samples)}
        if family.type == "counter":
            names.add(f"{family.name}_total")
    return names


@pytest.fixture(scope="module")
def url(postgres: PostgresServer) -> Iterator[str]:
    """A Postgres database with payments, scores, flags, choices and drift."""
    name = f"dashboards_{os.getpid()}"
    copy_world(postgres, BACKFILLED, name)
    yield postgres.url(name)
    postgres.drop(name)


@pytest.fixture(scope="module")
def grafana(url: str) -> Iterator[Any]:
    """A connection as the role that the page tells to make."""
    page = (FOLDER / "README.md").read_text()
    grants = re.search(r"```sql\n(.*?)```", page, re.DOTALL)
    assert grants is not None
    own_role = f"{ROLE}_{os.getpid()}"  # roles belong to the server, which the workers of a session share
    owner = create_engine(url.replace("postgresql://", "postgresql+psycopg://"))
    with owner.begin() as connection:
        for statement in grants[1].replace(ROLE, own_role).split(";"):
            if statement.strip():
                connection.execute(text(statement))
    owner.dispose()
    role = create_engine(
        url.replace("postgresql://postgres:@", f"postgresql+psycopg://{own_role}:change-me@")
    )
    with role.connect() as connection:
        yield connection
    role.dispose()


def filled(sql: str) -> str:
    for macro, instead in MACROS:
        sql = macro.sub(instead, sql)
    assert "$" not in sql
    return sql


@pytest.mark.parametrize(
    ("title", "target"), list(targets("rawSql")), ids=lambda value: value if isinstance(value, str) else ""
)
def test_every_query_runs_as_the_role_the_page_tells_to_make(
    grafana: Any, title: str, target: dict[str, Any]
) -> None:
    rows = grafana.execute(text(filled(target["rawSql"]).replace(":", "\\:"))).mappings()
    columns = list(rows.keys())
    if target["format"] == "time_series":
        assert columns[0] == "time"
    found = rows.all()
    if title in {"Flags by day and channel", "Open flags, dearest first", "Choices", "How good flags were"}:
        assert found
    if title == "Known fraud caught and missed, by week":
        assert {row["metric"] for row in found} == {"caught", "missed"}


def test_the_role_reads_nothing_else(grafana: Any) -> None:
    from sqlalchemy.exc import ProgrammingError

    for table in ("models", "runs", "rejected_rows", "audit", "transactions"):
        with pytest.raises(ProgrammingError, match="permission denied"):
            grafana.execute(text(f"SELECT * FROM {table} LIMIT 1"))
        grafana.rollback()
    with pytest.raises(ProgrammingError, match="permission denied"):
        grafana.execute(text("DELETE FROM scores"))
    grafana.rollback()


def test_the_policies_to_choose_from_are_there(grafana: Any) -> None:
    variable = DASHBOARD["templating"]["list"][0]
    assert grafana.execute(text(variable["query"])).scalars().first() == "live"


def test_every_metric_of_dashboard_and_rules_exists(url: str) -> None:
    with open_configured(with_url(SMALL, url)) as store:
        known = known_metrics(health.read(store, "live"))
    expressions = [target["expr"] for _, target in targets("expr")] + [rule["expr"] for rule in RULES]
    used = {name for expression in expressions for name in METRIC.findall(expression)}
    assert used - known == set()
    assert len(used) > 15
    deploy = (FOLDER.parent / "deploy" / "README.md").read_text()
    assert set(METRIC.findall(deploy)) - known == set()
    for expression in expressions:
        assert expression.count("(") == expression.count(")"), expression


def test_every_rule_tells_what_it_means_and_what_to_do() -> None:
    assert len({rule["alert"] for rule in RULES}) == len(RULES) > 8
    for rule in RULES:
        assert rule["annotations"]["summary"].endswith(".")
        assert rule["annotations"]["remedy"].endswith(".")
        assert rule["labels"]["severity"] in {"page", "ticket"}


def test_panels_have_a_place_and_a_description_and_do_not_overlap() -> None:
    taken: set[tuple[int, int]] = set()
    ids = [panel["id"] for panel in DASHBOARD["panels"]]
    assert len(set(ids)) == len(ids)
    for panel in DASHBOARD["panels"]:
        place = panel["gridPos"]
        cells = {(place["x"] + i, place["y"] + j) for i in range(place["w"]) for j in range(place["h"])}
        assert not cells & taken, panel["title"]
        assert place["x"] + place["w"] <= 24
        taken |= cells
        assert panel["type"] == "row" or panel["description"]
