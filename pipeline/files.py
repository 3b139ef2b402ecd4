"""Names of files as text, and files that appear only when they are complete."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pipeline.errors import InputError


def display_name(path: Path) -> str:
    """A path as text that can be printed and stored: bytes of it that are not UTF-8 become escapes such as `\\udcff`."""
    return str(path).encode("utf-8", "backslashreplace").decode()


@contextmanager
def complete_file(path: Path) -> Iterator[Path]:
    """
    A file beside `path` to write to, which takes its name at the end; after an error nothing is left of it.

    Raises
    ------
    InputError
        The folder or file cannot be written to.
    """
    unfinished = path.with_name(f".{path.name}.part")
    try:
        yield unfinished
        unfinished.replace(path)
    except OSError as error:
        raise InputError(
            f"{path} cannot be written: {error.strerror or error}", code="not_writable"
        ) from error
    finally:
        unfinished.unlink(missing_ok=True)
