"""Every service: called by a door, typed results without text for people, errors with a code, and no word of a door."""

import ast
import dataclasses
import inspect
import re
import types
import typing
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import date, datetime, timedelta
from decimal import Decimal
from importlib import import_module
from pathlib import Path
from typing import Any

import click
import pytest

from pipeline.cli.main import cli
from pipeline.expected_errors import EXPECTED_ERRORS
from pipeline.services.data.export import ExportRequest
from pipeline.services.data.payments import LabelRequest
from pipeline.services.models.models import PromotionRequest
from pipeline.services.pages import Page, encode_cursor
from pipeline.services.records import Amount
from pipeline.services.review.flags import FlagRequest
from pipeline.services.review.labels import LabelRetraction, NewLabel
from pipeline.services.review.notes import NewNote, NoteRequest
from pipeline.services.review.verdicts import NewVerdict, UndoneVerdict, VerdictRequest
from pipeline.services.runs.backfill import BackfillRequest
from pipeline.services.session import Session
from pipeline.services.users.permissions import Caller
from storage.database.column_types import as_datetime
from storage.database.database import Store
from tests.support.databases import with_url
from tests.support.worlds import FROM, NOW, SMALL, TO

ROOT = Path(__file__).parents[1]
DOORS = ("pipeline/cli", "pipeline/daemon", "pipeline/api", "pipeline/web")
SUPPORT = {
    "__init__",
    "beginning",
    "confirmation",
    "entities",
    "handles",
    "keys",
    "masking",
    "names",
    "passwords",
    "permissions",
    "provider",
    "sealing",
    "secrets",
    "pages",
    "records",
    "rules_and_mutes",
    "statements",
    "scorer",
    "session",
}  # what services and doors are written with
# What names no command and knows no door; report and messages are doors in this respect: people read them.
BENEATH = (
    "pipeline/services", "pipeline/runs", "pipeline/comparison", "pipeline/training", "pipeline/monitoring", "pipeline/schedule",
    "pipeline/scoring", "pipeline/rules", "pipeline/ingest", "pipeline/features", "pipeline/config", "storage", "detectors",
)  # fmt: skip

# Texts that are data: names and ids, and sentences that are stored or come from a library.
TEXT_FIELDS = frozenset({
    # names of things
    "policy", "strategy", "proposed", "in_force", "rule", "verdict", "code", "kind", "metric", "feature", "channel",
    "technique", "techniques", "name", "table", "subject", "monitor", "by", "currency", "feature_names", "against",
    "trained_with", "installed", "versions", "level", "transaction_id", "flagged_by", "reviewer", "label_source", "feed",
    "actor", "os_user", "database_user", "claimed_by", "original_id", "hash",
    "column", "columns", "pseudonym", "role", "action", "requested_by", "decided_by", "transaction_ids", "value", "type", "source", "description", "before", "after",
    "case_id", "entity", "field", "commonest", "receiver",
    # addresses, versions and hashes
    "next_cursor",
    "address", "origin", "places", "config_hash", "sha256", "database", "version", "program_version", "path", "newest_hash",
    # statements for another program
    "upgrade_sql",
    # secrets that are shown once
    "secret", "csrf",
    # what people wrote, and what came with a transaction
    "reason", "note", "verdict_type", "verdict_note", "label_type", "text", "fields",
    # stored sentences, and messages of errors
    "sentence", "next_change", "message", "remedy", "alarms", "notes", "gate_sentence", "suppressed_because",
    "load_error", "training_error", "error", "errors", "trainings", "failures", "key", "body",
    # figures of a finding, which name features
    "numbers",
})  # fmt: skip
INSTANT = re.compile(r"(^|_)(at|since|until|date|start|end|newest|now|as_of|effective_from)$")
MONEY = re.compile(r"(^|_)(amount|cost|money|loss)(_|$)")
PLAIN = (int, float, bool, bytes, datetime, timedelta, date, Path, Amount, Exception, type(None))

SERVICE_FOLDERS = {
    ".".join(path.parent.relative_to(ROOT).parts)
    for path in (ROOT / "pipeline/services").rglob("__init__.py")
}

Function = Callable[..., Any]


def service_modules() -> Iterator[types.ModuleType]:
    for path in sources(["pipeline/services"]):
        if path.stem not in SUPPORT:
            yield import_module(module_name(path))


def module_name(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts)


def services() -> dict[str, Function]:
    """MODULE.FUNCTION → function, of every public function that is defined in a module of services."""
    return {
        f"{module.__name__.rpartition('.')[2]}.{name}": function
        for module in service_modules()
        for name, function in inspect.getmembers(module, inspect.isfunction)
        if not name.startswith("_") and function.__module__ == module.__name__
    }


def result_of(function: Function) -> Any:
    return typing.get_type_hints(function)["return"]


def sources(folders: Iterable[str]) -> Iterator[Path]:
    for folder in folders:
        yield from sorted((ROOT / folder).rglob("*.py"))


# A door uses every service.


def services_used(tree: ast.Module) -> set[str]:
    """MODULE.FUNCTION of every service that a module imports and uses."""
    modules, functions = {}, {}
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module in SERVICE_FOLDERS:
            modules |= {alias.asname or alias.name: alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("pipeline.services."):
            module = (node.module or "").rpartition(".")[2]
            functions |= {alias.asname or alias.name: f"{module}.{alias.name}" for alias in node.names}
    used = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Name) and node.id in functions:
            used.add(functions[node.id])
        elif (
            isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id in modules
        ):
            used.add(f"{modules[node.value.id]}.{node.attr}")
    return used


def test_a_door_uses_every_service() -> None:
    used = set[str]().union(*(services_used(ast.parse(path.read_text("utf-8"))) for path in sources(DOORS)))
    assert set(services()) - used == set()


# Results are typed values, not texts.


def faults(kind: Any, place: str, seen: tuple[Any, ...] = ()) -> Iterator[str]:
    """What is wrong with a type of a result, or of a field of it."""
    field = place.rpartition(".")[2]
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if kind is str:
        if field not in TEXT_FIELDS:
            yield f"{place}: text that is no name and no stored sentence"
    elif kind in PLAIN or origin is typing.Literal or kind in seen:
        return
    elif kind is Decimal:
        yield f"{place}: money without a currency"
    elif dataclasses.is_dataclass(origin or kind):
        yield from faults_of_dataclass(origin or kind, arguments, place, (*seen, kind))
    elif origin in (typing.Union, types.UnionType, tuple, list) or is_iterator(origin):
        yield from (fault for each in arguments if each is not ... for fault in faults(each, place, seen))
    elif origin is not None and issubclass(origin, Mapping):
        yield from faults(arguments[1], place, seen)
    else:
        yield f"{place}: {kind} says nothing about its values"


def is_iterator(origin: Any) -> bool:
    return isinstance(origin, type) and issubclass(origin, Iterator)


def faults_of_dataclass(
    kind: Any, arguments: tuple[Any, ...], place: str, seen: tuple[Any, ...]
) -> Iterator[str]:
    if not kind.__dataclass_params__.frozen:
        yield f"{place}: {kind.__name__} is not frozen"
    if kind is Page:
        yield from faults(arguments[0], f"{place}.items", seen)
        return
    hints = typing.get_type_hints(kind)
    for field in dataclasses.fields(kind):
        inside = f"{place}.{field.name}"
        if INSTANT.search(field.name) and not holds(hints[field.name], datetime):
            yield f"{inside}: an instant is an aware datetime"
        if MONEY.search(field.name) and not holds(hints[field.name], Amount):
            yield f"{inside}: money is an Amount"
        yield from faults(hints[field.name], inside, seen)


def holds(kind: Any, wanted: type) -> bool:
    return kind is wanted or any(holds(each, wanted) for each in typing.get_args(kind))


def test_results_are_typed_values_and_hold_no_text_for_people() -> None:
    wrong = [fault for name, function in services().items() for fault in faults(result_of(function), name)]
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize(
    "kind",
    [str, Iterator[str], list[str], dict[str, Any], Any, object, Decimal, Mapping[str, str], Page[str]],
)
def test_the_check_of_results_sees_what_it_is_for(kind: Any) -> None:
    assert list(faults(kind, "module.function"))


@dataclasses.dataclass
class Loose:
    """What no service may return: not frozen, an instant and money as numbers."""

    finished_at: int
    review_cost: float


def test_the_check_of_results_sees_dataclasses_that_are_loose() -> None:
    assert len(list(faults(Loose, "module.function"))) == 3


# Errors have a code.


def raised_names(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Raise) and node.exc is not None:
            call = node.exc.func if isinstance(node.exc, ast.Call) else node.exc
            yield ast.unparse(call)


def test_services_raise_only_errors_with_a_code() -> None:
    for path in sources(["pipeline/services"]):
        module = import_module(module_name(path))
        for name in raised_names(ast.parse(path.read_text("utf-8"))):
            if path.stem in SUPPORT and name in ("ValueError", "GrantEnded"):
                continue  # for services, which catch it
            raised = getattr(module, name)
            kind = typing.get_type_hints(raised)["return"] if inspect.isfunction(raised) else raised
            assert isinstance(getattr(kind, "code", None), str), f"{path.name}: {name}"


def required_arguments(function: Function) -> dict[str, Any]:
    """A value for each argument without a default, the session aside; requests are built of their own required fields."""
    hints = typing.get_type_hints(function)
    given = {}
    for name, parameter in list(inspect.signature(function).parameters.items())[1:]:
        if name == "policy":
            given[name] = "live"
        elif dataclasses.is_dataclass(hints[name]) and parameter.default is parameter.empty:
            given[name] = required_arguments_of_request(hints[name])
    return given


# What a list may require: a value that the world has.
REQUIRED = {"policy": "live", "column": "customer_id", "value": "c1", "transaction_id": "t000001"}


def required_arguments_of_request(kind: Any) -> Any:
    missing = {
        field.name
        for field in dataclasses.fields(kind)
        if field.default is field.default_factory is dataclasses.MISSING
    }
    assert missing <= REQUIRED.keys(), f"{kind.__name__}: a list can be asked for without {missing}"
    return kind(**{name: REQUIRED[name] for name in missing})


def lists() -> dict[str, Function]:
    return {
        name: function
        for name, function in services().items()
        if typing.get_origin(result_of(function)) is Page
    }


@pytest.fixture
def session(first_week: Store) -> Session:
    """A week of scored payments, on each engine."""
    return Session(first_week, with_url(SMALL, "sqlite:///elsewhere"), "test", clock=lambda: NOW)


def code_of(call: Callable[[], Any]) -> str | None:
    """The code of the error that a call ends with; an error without one goes through."""
    try:
        call()
    except EXPECTED_ERRORS as error:
        return str(error.code)
    return None


BROKEN = ("?", "bm90IGpzb24", "e30", encode_cursor(()))
# Values that a list hardly ever sorts by; of one that can be a position, the list goes on from there.
VALUES = (None, True, "x", "\0", "\ud800", -1, 1.5, 10**18, 10**30, float("nan"), {"a": 1})
FORGED = tuple(encode_cursor((value,) * keys) for keys in range(1, 8) for value in VALUES)


def test_a_forged_cursor_is_refused_by_every_list(session: Session) -> None:
    for name, function in lists().items():
        arguments = required_arguments(function)
        for cursor in (*BROKEN, *FORGED):
            code = code_of(lambda: function(session, **arguments, cursor=cursor, limit=2))  # noqa: B023
            assert code == "bad_cursor" or (code is None and cursor in FORGED), f"{name} with {cursor}"


def test_the_pages_of_every_list_are_the_list(session: Session) -> None:
    for name, function in lists().items():
        arguments = required_arguments(function)
        whole = function(session, **arguments, limit=25)
        cursor, items = None, []
        while len(items) < len(whole.items):
            page = function(session, **arguments, cursor=cursor, limit=2)
            items += page.items
            cursor = page.next_cursor
            if cursor is None:
                break
        assert tuple(items[:25]) == whole.items, name


ADMINISTRATOR = Caller("ann", "administrator", 1)
UNKNOWN: dict[str, tuple[dict[str, Any], str]] = {
    "backfill.backfill": (
        {"request": BackfillRequest(as_datetime(FROM), as_datetime(TO), rescore_as="try", model_id=99)},
        "unknown_model",
    ),
    "comparisons.show_comparison": ({"comparison_id": 99}, "unknown_comparison"),
    "flag_context.events_of": ({"transaction_id": "nobody"}, "unknown_transaction"),
    "flags.show_flag": ({"policy": "live", "transaction_id": "nobody"}, "unknown_flag"),
    "models.model_card": ({"policy": "live", "model_id": 99}, "unknown_model"),
    "models.promote": ({"request": PromotionRequest("live", 99, "?")}, "unknown_model"),
    "approvals.approve": ({"caller": ADMINISTRATOR, "approval_id": 99}, "unknown_approval"),
    "approvals.reject": ({"caller": ADMINISTRATOR, "approval_id": 99}, "unknown_approval"),
    "holds.end_hold": ({"hold_id": 99}, "unknown_hold"),
    "mutes.end_mute": ({"mute_id": 99}, "unknown_mute"),
    "rules.end_rule": ({"rule_id": 99}, "unknown_rule"),
    "notifications.show_message": ({"message_id": 99}, "unknown_message"),
    "notes.add_note": ({"note": NewNote("nobody", "?")}, "unknown_transaction"),
    "notes.list_notes": ({"request": NoteRequest("nobody")}, "unknown_transaction"),
    "payments.list_labels": ({"request": LabelRequest("nobody")}, "unknown_transaction"),
    "payments.show_payment": ({"policy": "live", "transaction_id": "nobody"}, "unknown_transaction"),
    "strategy.show_choice": ({"policy": "live", "choice_id": 99}, "unknown_choice"),
    "tokens.revoke_token": ({"token_id": 99}, "unknown_token"),
    "verdicts.list_verdicts": ({"request": VerdictRequest("nobody")}, "unknown_transaction"),
}
REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "export.export_table": ({"request": ExportRequest("nothing", Path("x.csv"))}, "unknown_table"),
    "flags.list_flags": ({"request": FlagRequest("live", channel="nothing")}, "unknown_channel"),
    "flags.count_flags": (
        {"request": FlagRequest("live", since=as_datetime(TO), until=as_datetime(TO))},
        "empty_span",
    ),
    "labels.add_labels": ({"label": NewLabel(("nobody",), "fraud")}, "unknown_transaction"),
    "labels.retract_labels": ({"retraction": LabelRetraction(("nobody",), "?")}, "unknown_transaction"),
    "verdicts.record": ({"verdict": NewVerdict(("nobody",), "fraud")}, "unknown_transaction"),
    "verdicts.undo": ({"undone": UndoneVerdict(("nobody",), "?")}, "unknown_transaction"),
    "readiness.newest_readiness": ({"policy": "nobody"}, "unknown_choice"),
    "strategy.show_choice": ({"policy": "nobody"}, "unknown_choice"),
    "comparisons.show_comparison": ({}, "unknown_comparison"),
    "quality.refresh_quality": ({"policy": "nobody"}, "unknown_policy"),
}


def takes_an_id(function: Function) -> bool:
    hints = {name: kind for name, kind in typing.get_type_hints(function).items() if name != "return"}
    requests = [
        kind for kind in hints.values()
        if dataclasses.is_dataclass(kind) and kind not in (Session, Caller) and not kind.__name__.endswith("Record")  # which was found
    ]  # fmt: skip
    names = {*hints, *(field.name for kind in requests for field in dataclasses.fields(kind))}
    return any(
        name.endswith("_id") and name != "user_id" for name in names
    )  # a user is named; the id is the caller's


def test_every_service_that_takes_an_id_is_tried_with_an_unknown_one() -> None:
    assert {name for name, function in services().items() if takes_an_id(function)} == set(UNKNOWN)


def test_what_is_unknown_is_refused_with_a_stable_code(session: Session) -> None:
    for name, (arguments, code) in [*UNKNOWN.items(), *REFUSED.items()]:
        function = services()[name]
        assert code_of(lambda: function(session, **arguments)) == code, name  # noqa: B023


# Nothing beneath the doors knows them.


def commands(group: click.Group) -> set[str]:
    """The first word of every command."""
    return set(group.list_commands(click.Context(group)))


def test_nothing_beneath_the_doors_names_a_command_or_imports_click() -> None:
    named = re.compile(rf"fraudwatch ({'|'.join(sorted(commands(cli)))})\b")
    wrong = []
    for path in sources(BENEATH):
        place, text = str(path.relative_to(ROOT)), path.read_text("utf-8")
        wrong += [f"{place}: {found[0]}" for found in named.finditer(text)]
        wrong += [f"{place}: click" for _ in re.finditer(r"^\s*(import|from) click\b", text, re.MULTILINE)]
    assert not wrong, "\n".join(wrong)
