"""Whatever can be typed or configured is documented, and the map of the code is true."""

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from pipeline.cli.main import cli

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
TEXT = "\n".join(page.read_text() for page in PAGES)


def members(group: click.Group) -> list[tuple[str, click.Command]]:
    context = click.Context(group)
    found = [(name, group.get_command(context, name)) for name in group.list_commands(context)]
    return [(name, command) for name, command in found if command is not None]


def commands(group: click.Group, path: str = "fraudwatch") -> Iterator[tuple[str, click.Command]]:
    for name, command in members(group):
        if isinstance(command, click.Group):
            yield from commands(command, f"{path} {name}")
        else:
            yield f"{path} {name}", command


def groups(group: click.Group, path: str = "fraudwatch") -> list[tuple[str, click.Group]]:
    inner = [(f"{path} {name}", c) for name, c in members(group) if isinstance(c, click.Group)]
    return [(path, group), *inner]


@pytest.mark.parametrize("path", [path for path, _ in commands(cli)])
def test_every_command_is_documented(path: str) -> None:
    assert path in TEXT


@pytest.mark.parametrize(("path", "command"), list(commands(cli)))
def test_every_command_has_help_and_an_example(path: str, command: click.Command) -> None:
    assert command.help
    assert path in (command.epilog or ""), f"{path} --help has no example"
    assert all(isinstance(p, click.Argument) or p.help or p.name in SELF_EXPLAINING for p in command.params)


@pytest.mark.parametrize(("path", "command"), groups(cli))
def test_the_examples_of_a_group_keep_their_lines(path: str, command: click.Group) -> None:
    text = command.get_help(click.Context(command, info_name=path))
    for line in (command.epilog or "").strip().splitlines():
        assert f"  {line.strip()}\n" in text + "\n"


SELF_EXPLAINING = {
    "days",
    "seed",
    "status",
    "limit",
    "log_format",
    "output_format",
    "file_format",
    "min_score",
    "per_day",
    "output",
}


def test_the_readme_opens_with_the_two_commands() -> None:
    first = (ROOT / "README.md").read_text().split("```")[1]
    assert first.split()[:1] == ["sh"] or "make demo" in first
    assert "make demo" in first
    assert "make test" in first


def test_every_dependency_has_its_reason() -> None:
    import tomllib

    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    why = (ROOT / "docs" / "why.md").read_text()
    extras = [one for extra in project["optional-dependencies"].values() for one in extra]
    names = {requirement.split(">")[0].split("[")[0] for requirement in project["dependencies"] + extras}
    assert [name for name in sorted(names - {"fraudwatch"}) if name not in why] == []


def test_constraints_pin_plain_versions_and_name_no_host() -> None:
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    assert [line for line in lines if line.count("==") != 1 or "/" in line or "@" in line] == []


def test_the_picture_of_the_architecture_is_what_the_imports_give() -> None:
    command = [sys.executable, str(ROOT / "docs" / "architecture.py"), "--check"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_pages_name_only_files_that_exist(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    links = [link for link in re.findall(r"\]\(([^)#:]+)\)", text) if not (page.parent / link).exists()]
    named = re.findall(r"`((?:pipeline|detectors|storage|tests|benchmarks)/[a-z0-9_/]+\.py)`", text)
    assert links + [path for path in named if not (ROOT / path).is_file()] == []


def test_the_glossary_is_linked_from_the_readme() -> None:
    assert "(docs/glossary.md)" in (ROOT / "README.md").read_text(encoding="utf-8")


def test_the_glossary_explains_every_strategy_channel_and_kind_of_step() -> None:
    glossary = (ROOT / "docs" / "glossary.md").read_text(encoding="utf-8")
    words = (
        "outlier",
        "blend",
        "classification",
        "novelty",
        "audit",
        "rule",
        "prevalence",
        "effective frauds",
        "mature",
    )
    assert [word for word in words if word not in glossary] == []
