"""The example of docs/python.md runs and prints what the page shows; importing the package costs nothing."""

import contextlib
import io
import re
import subprocess
import sys
from itertools import zip_longest
from pathlib import Path

import pytest

import detectors
from detectors.registry import DETECTORS

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "python.md").read_text(encoding="utf-8")
NUMBER = re.compile(r"-?\d[\d,]*(?:\.\d+)?")
HEAVY = ("numpy", "scipy", "pandas", "sklearn", "lightgbm", "pyod", "numba")


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)


def words(text: str) -> list[str]:
    return NUMBER.sub("#", text).split()


def numbers(text: str) -> list[float]:
    return [float(number.replace(",", "")) for number in NUMBER.findall(text)]


def test_the_example_prints_what_the_page_shows() -> None:
    """Words exactly; numbers nearly, because the last digits of a fit may differ between processors."""
    namespace: dict[str, object] = {}
    for code, shown in zip_longest(blocks("python"), blocks("text"), fillvalue=""):
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed):
            exec(compile(code, "docs/python.md", "exec"), namespace)
        assert words(printed.getvalue()) == words(shown)
        assert numbers(printed.getvalue()) == pytest.approx(numbers(shown), rel=0.1, abs=0.05)


def test_the_page_names_every_name_of_the_package() -> None:
    assert [name for name in detectors.__all__ if f"`{name}" not in PAGE and name not in PAGE] == []


def test_every_name_of_the_package_can_be_imported() -> None:
    assert {name for name in detectors.__all__ if getattr(detectors, name).__name__ != name} == set()
    assert set(detectors.__all__) <= set(dir(detectors))
    with pytest.raises(AttributeError, match="no attribute 'Magic'"):
        detectors.Magic  # noqa: B018


def test_every_registered_detector_is_a_name_of_the_package() -> None:
    from detectors.registry import detector_class

    classes = [detector_class(name) for name in DETECTORS]
    assert [getattr(detectors, detector.__name__) for detector in classes] == classes


def test_importing_the_package_loads_nothing_heavy() -> None:
    code = f"import sys, detectors; print([name for name in {HEAVY} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout.strip() == "[]"


def test_only_detectors_itself_gives_names_of_its_modules() -> None:
    """Every other package is a folder with a sentence: a name has one place to be imported from."""
    with_code = [
        path.relative_to(ROOT)
        for package in ("pipeline", "detectors", "storage")
        for path in (ROOT / package).rglob("__init__.py")
        if "import" in re.sub(r'"""(?s:.*?)"""', "", path.read_text(encoding="utf-8"))
    ]
    assert with_code == [Path("detectors/__init__.py")]
