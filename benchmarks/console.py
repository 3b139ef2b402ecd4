"""
How fast the console answers: the queue in its orders and filters, a flag, a graph, and a bulk answer, on both engines.

`python -m benchmarks.console [--transactions 1000000] [--engine sqlite]` fills a database as `benchmarks.api` does, a tenth of the
transactions flagged and every flag open. It measures whole requests, and in Chromium, where there is one, the time from a key to the
next flag drawn.
"""

import argparse
import json
import re
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from statistics import median
from typing import Any

import httpx2
from sqlalchemy import event

from benchmarks.api import fill, opened
from pipeline.api.server import spare_collector
from pipeline.schedule.run_context import LIVE
from pipeline.services.review.cases import list_cases
from pipeline.services.review.flags import show_flags
from storage.database.database import Store
from storage.frames import DAY
from tests.support.browser import CHROMIUM, chromium
from tests.support.console import ConsoleServer, Visitor, console
from tests.support.sql import change_flags
from tests.support.users import PASSWORD
from tests.support.worlds import FROM

ROUNDS = 40
NOW = FROM + 365 * DAY
BULK, BULK_GOAL_S, WRITE_GOAL_S = 5_000, 3.0, 1.0
PAGE_BYTES = 150_000
OPEN = ("DELETE FROM labels", "UPDATE flags SET status = 'open', reviewer = NULL, reviewed_at = NULL")


class Writes:
    """How long each write of a database lasts, in s."""

    def __init__(self, store: Store) -> None:
        self.longest = 0.0
        self._began: dict[int, float] = {}
        event.listen(store.engine, "begin", self._begin)
        event.listen(store.engine, "commit", self._commit)

    def _begin(self, connection: Any) -> None:
        if connection.get_execution_options().get("fraudwatch_write"):
            self._began[id(connection)] = time.perf_counter()

    def _commit(self, connection: Any) -> None:
        began = self._began.pop(id(connection), None)
        if began is not None:
            self.longest = max(self.longest, time.perf_counter() - began)


def percentiles(seconds: Sequence[float]) -> tuple[float, float]:
    """Median and 95th percentile in ms."""
    ordered = sorted(seconds)
    return 1e3 * median(ordered), 1e3 * ordered[int(0.95 * len(ordered))]


def pages(server: ConsoleServer, visitor: Visitor) -> Iterator[tuple[str, float, Callable[[int], str]]]:
    """What is measured: its name, the most ms at the 95th percentile, and the address of each round."""
    session = server.api.session
    cases = list_cases(session, limit=ROUNDS + 1).items
    middle = sorted(flag.expected_loss.value for case in cases for flag in case.flags if flag.expected_loss)[
        -1
    ]
    handles = server.api.app.state.shared.handles
    yield "queue", 100, lambda _: "/queue"
    for order in ("due", "time"):
        yield f"queue by {order}", 100, lambda _, order=order: f"/queue?order={order}"  # type: ignore[misc]
    for name, query in (
        ("of a channel", "channel=outlier"), ("of the last day", "age=day"), ("older ones", "age=older"),
        ("claimed", "claim=mine"), ("of a large loss", f"min_loss={float(middle) / 2:.0f}"),
        ("of any loss", "min_loss=1"),
    ):  # fmt: skip
        yield f"queue {name}", 100, lambda _, query=query: f"/queue?{query}"  # type: ignore[misc]
    addresses = ["/queue"]
    for _ in range(ROUNDS):
        following = re.search(r'href="([^"]+)" data-next', visitor.get(addresses[-1]).text)
        assert following is not None
        addresses.append(following.group(1).replace("&amp;", "&"))
    yield "queue, its next pages", 100, lambda place: addresses[place]
    yield "flag", 100, lambda place: f"/flags/{cases[place].flags[0].transaction_id}"
    customers = [handles.handle("customer_id", str(case.flags[0].fields["customer_id"])) for case in cases]
    yield "entity", 100, lambda place: f"/entities/{customers[place]}"
    yield "graph of a customer", 200, lambda place: f"/entities/{customers[place]}/graph"
    terminals = [handles.handle("terminal_id", str(case.flags[0].fields["terminal_id"])) for case in cases]
    yield "graph of a terminal", 200, lambda place: f"/entities/{terminals[place]}/graph"


def measure(
    name: str, goal: float, seconds: Sequence[float], size: int = 0, cpu: Sequence[float] = ()
) -> bool:
    """Print a line; whether a goal was missed."""
    middle, high = percentiles(seconds)
    processor = f"{percentiles(cpu)[0]:.1f}" if cpu else ""
    is_late, is_large = high > goal, size > PAGE_BYTES
    said = (f" above {goal:.0f} ms" if is_late else "") + (f" above {PAGE_BYTES:,} bytes" if is_large else "")
    print(f"{name:32}{processor:>10}{middle:8.1f}{high:8.1f}{size or '':>10}{said}", flush=True)
    return is_late or is_large


def measure_pages(server: ConsoleServer) -> bool:
    """Each page as often as there are rounds; the first answer is not counted."""
    visitor, missed = server.visitor("reviewer"), False
    for name, goal, address in pages(server, visitor):
        seconds, cpu, size = [], [], 0
        for place in range(ROUNDS + 1):
            began, clock = time.perf_counter(), time.process_time()
            answer = visitor.get(address(place))
            cpu.append(time.process_time() - clock)
            seconds.append(time.perf_counter() - began)
            assert answer.status_code == 200, answer.text
            size = max(size, len(re.sub(r"<svg.*?</svg>", "", answer.text, flags=re.DOTALL).encode()))
        missed |= measure(name, goal, seconds[1:], size, cpu[1:])
    return missed


def measure_keys(server: ConsoleServer) -> bool:
    """In Chromium, from a key to the next flag drawn: in the queue, and from one flag's page to the next one's."""
    if not CHROMIUM:
        print("keys: left out, there is no Chromium")
        return False
    with chromium() as browser:
        page = browser.new_page(viewport={"width": 1440, "height": 900})
        page.goto(f"{server.url}/log-in?next=/queue")
        page.fill("[name=name]", "rule_author")
        page.fill("[name=password]", PASSWORD)
        page.keyboard.press("Enter")
        page.wait_for_selector(".case.active")
        in_queue, in_flags = [], []
        for _ in range(ROUNDS - 5):
            page.evaluate(WATCH)
            page.keyboard.press("g")
            in_queue.append(page.evaluate("window.drawn") / 1e3)
            page.wait_for_selector(".sent", state="detached")
        page.goto(f"{server.url}/queue")
        page.wait_for_selector(".case.active")
        page.keyboard.press("Enter")
        page.wait_for_selector("form.verdict")
        for _ in range(ROUNDS - 5):
            page.keyboard.press("g")
            page.wait_for_selector("[data-answered]")
            before, began = page.url, time.perf_counter()
            page.keyboard.press("Enter")
            page.wait_for_function(
                f"location.href !== {json.dumps(before)} && document.querySelector('form.verdict')", polling=5
            )
            in_flags.append(time.perf_counter() - began)
    missed = measure("key to the next case drawn", 100, in_queue)
    return measure("key to the next flag's page", 250, in_flags) or missed


WATCH = """() => {
  const before = document.querySelector(".case.active").id;
  window.drawn = new Promise((done) => document.addEventListener("keydown", () => {
    const began = performance.now();
    const look = () => document.querySelector(".case.active:not(.sent)")?.id !== before
      ? requestAnimationFrame(() => done(performance.now() - began)) : requestAnimationFrame(look);
    look();
  }, { once: true, capture: true }));
}"""


def measure_bulk(server: ConsoleServer) -> bool:
    """One answer for thousands of payments, and its undo."""
    session, visitor = server.api.session, server.visitor("reviewer")
    names = [flag.transaction_id for case in list_cases(session, limit=BULK).items for flag in case.flags][
        :BULK
    ]
    flags = show_flags(session, LIVE, names)
    versions = json.dumps([[name, flags[name].version] for name in names])
    writes, missed, answer = Writes(session.store), False, None
    for name, path, form in (
        (f"{BULK:,} verdicts", "/bulk/verdicts", {"flags": versions, "verdict": "fraud", "note": "one ring"}),
        ("their undo", "/bulk/undo", {}),
    ):
        writes.longest, began, clock = 0.0, time.perf_counter(), time.process_time()
        answer = visitor.post(path, **(form if answer is None else {"flags": written(answer)}))
        seconds, cpu = time.perf_counter() - began, time.process_time() - clock
        assert answer.status_code == 200, answer.text
        is_slow = seconds > BULK_GOAL_S or writes.longest > WRITE_GOAL_S
        missed |= is_slow
        print(
            f"{name:32}{cpu:8.2f} s of the processor, {seconds:.2f} s in all, longest write {writes.longest:.2f} s"
            f"{' too slow' if is_slow else ''}",
            flush=True,
        )
    return missed


def written(answer: httpx2.Response) -> str:
    """The flags that an undo takes back, as the answer to a bulk names them."""
    found = re.search(r'name="flags" value="([^"]+)"', answer.text)
    assert found is not None, answer.text[:500]
    return found.group(1).replace("&#34;", '"')


def main(arguments: Sequence[str] | None = None) -> int:
    """Print a line for each page; 1 if one missed its goal."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--transactions", type=int, default=1_000_000)
    parser.add_argument("--engine", choices=["sqlite", "postgresql"], action="append")
    options, missed = parser.parse_args(arguments), False
    for engine in options.engine or ["sqlite", "postgresql"]:
        with tempfile.TemporaryDirectory() as folder, opened(engine, Path(folder)) as (store, config):
            fill(store, options.transactions)
            began = time.perf_counter()
            change_flags(store, *OPEN)
            print(
                f"{engine}: {options.transactions:,} transactions, {options.transactions // 10:,} open flags"
            )
            print(f"their cases computed anew in {time.perf_counter() - began:.0f} s")
            print(f"{'ms':32}{'processor':>10}{'median':>8}{'p95':>8}{'bytes':>10}")
            with console(store, config, NOW) as server:
                spare_collector()
                missed |= measure_pages(server)
                missed |= measure_keys(server)
                missed |= measure_bulk(server)
    return int(missed)


if __name__ == "__main__":
    raise SystemExit(main())
