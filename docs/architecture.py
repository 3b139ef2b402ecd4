"""
Draw docs/images/architecture.svg from the imports of the code: `python docs/architecture.py`.

A box is a folder, its row the layer that the contract in pyproject.toml gives it. An arrow says that something in the
upper folder imports something in the lower one; arrows that follow from others (transitive reduction) are left out.
`--check` exits with 1 when the stored picture is not the one that the imports give now.
"""

import argparse
import ast
import sys
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path

import grimp

ROOT = Path(__file__).parents[1]
PICTURE = ROOT / "docs" / "images" / "architecture.svg"
PACKAGES = ("pipeline", "detectors", "storage")
BOX_WIDTH, BOX_HEIGHT = 132, 34
GAP_X, GAP_Y = 22, 34
MARGIN = 24
STYLE = (
    "text{font:12px system-ui,sans-serif;fill:#1c1e21}.title{font-weight:600;font-size:14px}.count{fill:#60656c;font-size:10px}"
    ".box{fill:#fff;stroke:#5b6470}.panel{fill:#f4f5f7;stroke:#d5d8dd}path{fill:none;stroke:#8a94a0}"
)


@dataclass(frozen=True)
class Panel:
    """One top-level package: its rows of folders, from the top, and where it stands."""

    package: str
    layers: Sequence[Sequence[str]]
    x: float
    y: float
    width: float
    stagger: float = (
        0.0  # how far rows are moved to the left and right in turn, so that long arrows pass beside boxes
    )

    @property
    def height(self) -> float:
        return MARGIN + 20 + len(self.layers) * (BOX_HEIGHT + GAP_Y) - GAP_Y + MARGIN

    def places(self) -> dict[str, tuple[float, float]]:
        """Folder → left upper corner of its box."""
        corners = {}
        for row, layer in enumerate(self.layers):
            used = len(layer) * (BOX_WIDTH + GAP_X) - GAP_X
            left = self.x + (self.width - used) / 2 + self.stagger * (row % 3 - 1)
            top = self.y + MARGIN + 20 + row * (BOX_HEIGHT + GAP_Y)
            corners.update({name: (left + k * (BOX_WIDTH + GAP_X), top) for k, name in enumerate(layer)})
        return corners


def width_of(layers: Sequence[Sequence[str]]) -> float:
    """Room for the widest layer."""
    return max(len(layer) for layer in layers) * (BOX_WIDTH + GAP_X) - GAP_X + 2 * MARGIN


def layers_of(package: str) -> list[list[str]]:
    """The layers that the contract gives a package, without single modules at its bottom."""
    config = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["importlinter"]
    contract = next(c for c in config["contracts"] if c.get("containers") == [package])
    rows = [[name.strip() for name in layer.replace(":", "|").split("|")] for layer in contract["layers"]]
    folders = [[name for name in row if (ROOT / package / name).is_dir()] for row in rows]
    return [row for row in folders if row]


def imports_of(graph: grimp.ImportGraph, package: str, folders: Sequence[str]) -> dict[str, set[str]]:
    """Folder → the folders that it imports."""
    of_module = {
        module: folder
        for folder in folders
        for module in {f"{package}.{folder}"} | graph.find_descendants(f"{package}.{folder}")
    }
    arrows: dict[str, set[str]] = {folder: set() for folder in folders}
    for module, folder in of_module.items():
        targets = (of_module.get(name) for name in graph.find_modules_directly_imported_by(module))
        arrows[folder] |= {target for target in targets if target is not None and target != folder}
    return arrows


def reduced(arrows: Mapping[str, set[str]]) -> Iterator[tuple[str, str]]:
    """The arrows that do not follow from others; the graph has no cycle."""

    def reach(folder: str) -> set[str]:
        return arrows[folder] | {further for target in arrows[folder] for further in reach(target)}

    for folder in sorted(arrows):
        implied = {further for target in arrows[folder] for further in reach(target)}
        yield from ((folder, target) for target in sorted(arrows[folder] - implied))


def purpose(package: str, folder: str) -> str:
    """First paragraph of the docstring of a package."""
    source = (ROOT / package / folder / "__init__.py").read_text(encoding="utf-8")
    return (ast.get_docstring(ast.parse(source)) or "").split("\n\n")[0]


def svg(graph: grimp.ImportGraph) -> str:
    """The picture as SVG text."""
    layers = {package: layers_of(package) for package in PACKAGES}
    widths = {package: width_of(layers[package]) for package in PACKAGES}
    whole = widths["detectors"] + 2 * MARGIN + widths["storage"]
    pipeline = Panel("pipeline", layers["pipeline"], MARGIN, MARGIN, whole, 1.1 * BOX_WIDTH)
    below = pipeline.y + pipeline.height + 2 * GAP_Y
    detectors = Panel("detectors", layers["detectors"], MARGIN, below, widths["detectors"])
    storage = Panel(
        "storage", layers["storage"], detectors.x + detectors.width + 2 * MARGIN, below, widths["storage"]
    )
    panels = (pipeline, detectors, storage)
    width = max(panel.x + panel.width for panel in panels) + MARGIN
    height = max(panel.y + panel.height for panel in panels) + MARGIN
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:.0f} {height:.0f}" width="{width:.0f}" role="img">',
        "<title>The folders of fraudwatch and what imports what</title>",
        f"<style>{STYLE}</style>",
        '<defs><marker id="tip" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" orient="auto">'
        '<path d="M0 0 8 4 0 8z" style="fill:#8a94a0;stroke:none"/></marker></defs>',
        f'<rect width="{width:.0f}" height="{height:.0f}" fill="#fff"/>',
    ]
    for panel in panels:
        lines += panel_lines(graph, panel)
    foot = pipeline.y + pipeline.height
    for panel in (detectors, storage):
        x = panel.x + panel.width / 2
        lines.append(
            f'<path d="M{x:.0f} {foot:.0f} V{panel.y - 2:.0f}" marker-end="url(#tip)" style="stroke-width:2"/>'
        )
    return "\n".join([*lines, "</svg>"]) + "\n"


def panel_lines(graph: grimp.ImportGraph, panel: Panel) -> Iterator[str]:
    """The panel, its arrows and its boxes."""
    yield f'<rect class="panel" x="{panel.x:.0f}" y="{panel.y:.0f}" width="{panel.width:.0f}" height="{panel.height:.0f}" rx="8"/>'
    yield f'<text class="title" x="{panel.x + 12:.0f}" y="{panel.y + 22:.0f}">{panel.package}/</text>'
    places = panel.places()
    for upper, lower in reduced(imports_of(graph, panel.package, list(places))):
        yield arrow(places[upper], places[lower])
    for folder, (x, y) in places.items():
        modules = sum(path.name != "__init__.py" for path in (ROOT / panel.package / folder).rglob("*.py"))
        yield (
            f"<g><title>{escape(purpose(panel.package, folder))}</title>"
            f'<rect class="box" x="{x:.0f}" y="{y:.0f}" width="{BOX_WIDTH}" height="{BOX_HEIGHT}" rx="5"/>'
            f'<text x="{x + BOX_WIDTH / 2:.0f}" y="{y + 16:.0f}" text-anchor="middle">{folder}</text>'
            f'<text class="count" x="{x + BOX_WIDTH / 2:.0f}" y="{y + 28:.0f}" text-anchor="middle">{modules} modules</text></g>'
        )


def arrow(upper: tuple[float, float], lower: tuple[float, float]) -> str:
    """A curve from the foot of one box to the head of another."""
    x1, y1 = upper[0] + BOX_WIDTH / 2, upper[1] + BOX_HEIGHT
    x2, y2 = lower[0] + BOX_WIDTH / 2, lower[1] - 2
    bend = (y2 - y1) / 2
    return (
        f'<path d="M{x1:.0f} {y1:.0f} C{x1:.0f} {y1 + bend:.0f} {x2:.0f} {y2 - bend:.0f} {x2:.0f} {y2:.0f}" '
        'marker-end="url(#tip)"/>'
    )


def main() -> int:
    """Write the picture, or compare it with the stored one."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--check", action="store_true", help="only compare with the stored picture")
    options = parser.parse_args()
    sys.path.insert(0, str(ROOT))
    picture = svg(grimp.build_graph(*PACKAGES, cache_dir=None))
    if not options.check:
        PICTURE.write_text(picture, encoding="utf-8")
        return 0
    current = PICTURE.is_file() and PICTURE.read_text(encoding="utf-8") == picture
    if not current:
        print(
            f"{PICTURE.relative_to(ROOT)} is not what the imports give now: run python docs/architecture.py"
        )
    return int(not current)


if __name__ == "__main__":
    sys.exit(main())
