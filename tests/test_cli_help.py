"""Help: by section, whole sentences in 80 columns, at once."""

import re
import resource
import subprocess
import sys
from pathlib import Path

import click
import pytest

from pipeline.cli.main import SECTIONS, cli
from pipeline.cli.remedies import COMMANDS

ROOT = Path(__file__).parents[1]


def help_of(command: click.Command, path: str) -> list[str]:
    with click.Context(command, info_name=path, terminal_width=80, max_content_width=80) as context:
        return command.get_help(context).splitlines()


def test_commands_are_listed_by_section_in_the_order_of_the_table() -> None:
    lines = help_of(cli, "fraudwatch")
    titles = [line.removesuffix(":") for line in lines if line.removesuffix(":") in SECTIONS]
    assert titles == list(SECTIONS)
    listed = [
        line.split()[0] for line in lines[lines.index("Data:") :] if line.startswith("  ") and line[2] != " "
    ]
    assert listed[: -len((cli.epilog or "").strip().splitlines())] == [
        name for section in SECTIONS.values() for name in section
    ]


def subcommands() -> list[tuple[str, click.Group]]:
    context = click.Context(cli)
    found = [(name, cli.get_command(context, name)) for name in cli.list_commands(context)]
    return [("", cli), *((name, group) for name, group in found if isinstance(group, click.Group))]


@pytest.mark.parametrize(("path", "group"), subcommands())
def test_a_command_is_listed_with_one_whole_sentence_on_one_line(path: str, group: click.Group) -> None:
    lines = help_of(group, path)
    context = click.Context(group)
    for name in group.list_commands(context):
        (line,) = [line for line in lines if line.startswith(f"  {name} ")]
        assert line.endswith("."), line
        assert not line.endswith("..."), line
        assert len(line) <= 80


def processor_seconds(*command: str) -> float:
    """Of a process; the least of three runs."""
    took = []
    for _ in range(3):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run([sys.executable, *command], stdout=subprocess.DEVNULL, check=True)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        took.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    return min(took)


def test_help_takes_little_longer_than_the_library_that_prints_it() -> None:
    assert processor_seconds("-m", "pipeline", "--help") < 4 * processor_seconds("-c", "import click")


def test_help_imports_no_heavy_library() -> None:
    code = (
        "import sys; from click.testing import CliRunner; from pipeline.cli.main import cli; "
        "assert CliRunner().invoke(cli, ['--help']).exit_code == 0; "
        "print([name for name in ('numpy', 'sqlalchemy', 'pandas', 'pyarrow', 'rich', 'pydantic') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("help_", sorted(COMMANDS.values()))
def test_the_command_that_an_error_recommends_exists(help_: str) -> None:
    command: click.Command | None = cli
    for word in re.findall(r"fraudwatch ([a-z]+(?: [a-z]+)?)", help_):
        command = cli
        for name in word.split():
            if isinstance(command, click.Group):
                command = command.get_command(click.Context(command), name)
        assert command is not None, help_
        assert not isinstance(command, click.Group) or command.invoke_without_command, help_


def test_scores_do_not_depend_on_the_cores_of_the_machine() -> None:
    script = (
        "import os, sys; [os.environ.pop(name, None) for name in list(os.environ) if name.endswith('_NUM_THREADS')]; "
        "from pipeline.cli import main; assert 'numpy' not in sys.modules; sys.argv[1:] = ['--version']; "
        "\ntry: main.main()\nexcept SystemExit: pass"
        "\nimport numpy, scipy.linalg, threadpoolctl"
        "\nprint({pool['num_threads'] for pool in threadpoolctl.threadpool_info()})"
    )
    ran = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert ran.stdout.splitlines()[-1] == "{1}"


COMPOSED = {"{kind.noun}": ("rule", "mute"), "{row.status}": ("loading", "withdrawn")}


def test_every_code_with_a_command_is_one_of_an_error() -> None:
    given = set()
    sources = (
        path for package in ("pipeline", "detectors", "storage") for path in (ROOT / package).rglob("*.py")
    )
    for path in sources:
        for text in re.findall(r'\bcode ?= ?f?"([a-z_{}.]+)"', path.read_text("utf-8")):
            part = next((part for part in COMPOSED if part in text), None)
            given |= {text} if part is None else {text.replace(part, word) for word in COMPOSED[part]}
    assert [code for code in COMMANDS if code not in given] == []
