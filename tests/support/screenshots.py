"""
Pictures of every page of the console on the demo's data, in both colour schemes and at two widths: `make screenshots`.

The pages are those of a copy of the demo's database, at the end of its data; nothing is written to the demo. Those that the documentation
has go to docs/images, and all of them to the folder that is named.
"""

import io
import os
import sqlite3
import sys
import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from PIL import Image

from pipeline.config.config import Config
from pipeline.config.database import open_configured
from pipeline.services.session import read_config
from storage.frames import HOUR
from storage.runs import ledger
from tests.support.browser import chromium
from tests.support.console import ConsoleServer, console
from tests.support.databases import with_url
from tests.support.users import PASSWORD

IMAGES = Path(__file__).parents[2] / "docs/images"
SCHEMES, WIDTHS = ("light", "dark"), (1_440, 390)
HEIGHT_MIN, HEIGHT_MAX = 600, 1_100  # px of a picture: its first screens
COLOURS = 128
BYTES_MAX = 100_000
IN_FOUR = ("queue", "flag")  # that the documentation shows in both schemes and at both widths
PAGES = {  # with what says that a page is whole; addresses of a flag and of an entity are taken from the queue
    "queue": ("/queue", ".case.active"), "flag": ("", "#answer"), "entity": ("", "svg.graph"), "missed": ("/missed", "tbody tr"),
    "overview": ("/overview", "#outcome"), "strategy": ("/strategy", "#comparison-title"), "drift": ("/drift", "#newest-drift"),
    "runs": ("/runs", ".matrix"), "models": ("/models", "tbody tr"), "model": ("", ".pairs"), "rules": ("/rules", "h1"),
    "mutes": ("/mutes", "h1"), "approvals": ("/approvals", "h1"), "users": ("/users", "tbody tr"), "audit": ("/audit", "tbody tr"),
}  # fmt: skip


def main() -> None:
    """Take the pictures."""
    config = read_config(Path(os.environ.get("FRAUDWATCH_CONFIG", "config.toml")))
    target = Path(sys.argv[1]) if len(sys.argv) > 1 else None
    with copy_of(config) as moved, open_configured(moved) as store:
        now = (ledger.newest_done(store, "live", "score") or 0) + 2 * HOUR
        with console(store, moved, now) as server, chromium() as browser:
            for scheme in SCHEMES:
                for width in WIDTHS:
                    for name, picture in pictures(server, browser, scheme, width):
                        save(name, scheme, width, picture, target)


@contextmanager
def copy_of(config: Config) -> Iterator[Config]:
    """The configuration for a copy of its SQLite file, which is gone afterwards."""
    source = config.storage_url.removeprefix("sqlite:///")
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / "copy.db"
        with closing(sqlite3.connect(source)) as stored, closing(sqlite3.connect(copy)) as copied:
            stored.backup(copied)
        moved = with_url(config, f"sqlite:///{copy}")
        moved._secrets.clear()  # the demo's models carry no seal
        yield moved


def pictures(server: ConsoleServer, browser: Any, scheme: str, width: int) -> Iterator[tuple[str, bytes]]:
    """Each page in one scheme at one width."""
    context = browser.new_context(viewport={"width": width, "height": HEIGHT_MIN}, color_scheme=scheme)
    page = context.new_page()
    page.set_default_timeout(120_000)
    page.goto(f"{server.url}/log-in")
    yield "log-in", page.screenshot()
    page.locator("#name").fill("administrator")
    page.locator("#password").fill(PASSWORD)
    page.keyboard.press("Enter")
    page.locator(".case.active").wait_for()
    addresses = {
        "flag": page.locator(".case.active").get_attribute("data-open"),
        "entity": page.locator(".case.active a.entity").first.get_attribute("href"),
    }
    for name, (path, awaited) in PAGES.items():
        page.set_viewport_size({"width": width, "height": HEIGHT_MIN})
        page.goto(f"{server.url}{path or addresses[name]}")
        page.locator(awaited).first.wait_for()
        page.wait_for_load_state("networkidle")
        if name == "models":
            addresses["model"] = page.locator("tbody a").first.get_attribute("href")
        whole = int(page.evaluate("document.documentElement.scrollHeight"))
        page.set_viewport_size({"width": width, "height": min(max(whole, HEIGHT_MIN), HEIGHT_MAX)})
        page.evaluate("scrollTo(0, 0)")  # the keys have scrolled to what they are about
        yield name, page.screenshot()
    context.close()


def save(name: str, scheme: str, width: int, picture: bytes, target: Path | None) -> None:
    """Write a picture where it belongs, as small as few colours make it."""
    small = io.BytesIO()
    image = Image.open(io.BytesIO(picture)).convert("RGB")
    for colours in (COLOURS, COLOURS // 2, COLOURS // 4):
        small = io.BytesIO()
        image.quantize(colours, Image.Quantize.MAXCOVERAGE, kmeans=1).save(small, "PNG", optimize=True)
        if small.tell() <= BYTES_MAX:
            break
    ending = ("" if width == WIDTHS[0] else f"_{width}") + ("" if scheme == SCHEMES[0] else f"_{scheme}")
    file = f"console_{name.replace('-', '_')}{ending}.png"
    if not ending or name in IN_FOUR:
        (IMAGES / file).write_bytes(small.getvalue())
    if target is not None:
        target.mkdir(parents=True, exist_ok=True)
        (target / file).write_bytes(small.getvalue())
    print(file, small.tell())


if __name__ == "__main__":
    main()
