"""Whatever can be typed or configured is documented."""

from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from pipeline.cli.main import cli, join_commands

join_commands()
ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
TEXT = "\n".join(page.read_text() for page in PAGES)


def commands(group: click.Group, path: str = "fraudwatch") -> Iterator[tuple[str, click.Command]]:
    for name, command in sorted(group.commands.items()):
        if isinstance(command, click.Group):
            yield from commands(command, f"{path} {name}")
        else:
            yield f"{path} {name}", command


@pytest.mark.parametrize("path", [path for path, _ in commands(cli)])
def test_every_command_is_documented(path: str) -> None:
    assert path in TEXT


@pytest.mark.parametrize(("path", "command"), list(commands(cli)))
def test_every_command_has_help_and_an_example(path: str, command: click.Command) -> None:
    assert command.help
    assert path in (command.epilog or ""), f"{path} --help has no example"
    assert all(isinstance(p, click.Argument) or p.help or p.name in SELF_EXPLAINING for p in command.params)


SELF_EXPLAINING = {"days", "seed", "status", "limit", "form", "min_score", "per_day", "output"}


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
