"""
Whether many processes that want the same at once double or lose anything, on both engines.

`python -m benchmarks.api_race [--rounds 5] [--engine sqlite]` starts 50 processes, which ask two servers over one database at the same
instant: in each round all of them claim the same flag, answer it as they have seen it, and send and score the same payments, and each does
the same with a flag and payments of its own. It ends with 1 if the answers or the database say that something happened twice, or not at all.
"""

import argparse
import sys
import tempfile
from collections.abc import Sequence
from multiprocessing import get_context
from multiprocessing.queues import SimpleQueue
from multiprocessing.synchronize import Barrier
from pathlib import Path
from random import Random
from typing import Any

from benchmarks import api
from benchmarks.api_load import Caller, filled, payment, servers, token
from storage.database.database import Store
from tests.support.sql import query

RACERS = 50
TRANSACTIONS = 10_000  # a tenth of them flagged
FORK = get_context("fork")
Told = dict[str, Any]


def _flag(place: int) -> str:
    """An open flag: every fourth is."""
    return f"t{place * 40:07d}"


def _race(
    number: int, rounds: int, caller: Caller, start: Barrier, outbox: "SimpleQueue[list[Told]]"
) -> None:
    told = list[Told]()
    try:
        for each in range(rounds):
            own = rounds + each * RACERS + number
            for name, flag in (("same", _flag(each)), (f"own {number}", _flag(own))):
                told.append(_asked(caller, f"{name} {each}", flag, Random(each), start))
    finally:
        outbox.put(told)


def _asked(caller: Caller, race: str, flag: str, random: Random, start: Barrier) -> Told:
    """Claim a flag, answer it, send a payment and score another, each when all others do."""
    version = caller.ask("GET", f"/flags/{flag}", None)[1]["version"]
    sent, scored = payment(f"sent {race}", random), payment(f"scored {race}", random)
    start.wait()
    claimed = caller.ask("POST", "/claims", {"transaction_ids": [flag]})[1]["results"][0]
    start.wait()
    path, body = f"/transactions/{flag}/verdict", {"verdict": "fraud", "if_seen": version}
    status, answer = caller.ask("POST", path, body)
    start.wait()
    stored = caller.ask("POST", "/transactions", {"transactions": [sent]})[1]["results"][0]
    start.wait()
    one = caller.ask("POST", "/score", {"transactions": [scored], "store": True})[1]["payments"][0]
    return {
        "race": race, "flag": flag, "claimed": claimed["code"] is None, "answered": status == 200,
        "refused": status == 409 and answer["code"] == "seen_another",
        "sent": stored["status"], "scored": one["status"], "score": one["score"],
    }  # fmt: skip


def _faults(store: Store, told: Sequence[Told]) -> list[str]:
    """What happened twice, or not at all."""
    faults = []
    for race in sorted({each["race"] for each in told}):
        mine = [each for each in told if each["race"] == race]
        counts = {
            "claimed": sum(each["claimed"] for each in mine),
            "answered": sum(each["answered"] for each in mine),
            "sent": sum(each["sent"] == "accepted" for each in mine),
            "scored": sum(each["scored"] == "scored" for each in mine),
            "different scores": len({each["score"] for each in mine}),
            **_stored(store, race, mine[0]["flag"]),
        }
        faults += [f"{race}: {count} {name}" for name, count in counts.items() if count != 1]
        others = [
            each["race"]
            for each in mine
            if not (each["answered"] or each["refused"])
            or each["sent"] not in ("accepted", "duplicate")
            or each["scored"] not in ("scored", "duplicate")
        ]
        faults += [f"{race}: {len(others)} unexpected answers"] if others else []
    waiting = query(store, "SELECT COUNT(*) FROM scoring_queue WHERE transaction_id LIKE 'scored %'")[0][0]
    return faults + ([f"{waiting} payments wait for a score that was given"] if waiting else [])


def _stored(store: Store, race: str, flag: str) -> dict[str, int]:
    """How often the database has what should be there once."""
    of = {
        "stored verdicts": f"verdicts WHERE transaction_id = '{flag}'",
        "stored labels": f"labels WHERE transaction_id = '{flag}'",
        "audited verdicts": f"audit WHERE action = 'verdict' AND subject LIKE '%{flag}%'",
        "audited claims": f"audit WHERE action = 'claim' AND subject LIKE '%{flag}%'",
        "stored payments sent": f"transactions WHERE transaction_id = 'sent {race}'",
        "stored payments scored": f"transactions WHERE transaction_id = 'scored {race}'",
        "stored scores": f"scores WHERE transaction_id = 'scored {race}'",
    }
    return {name: query(store, f"SELECT COUNT(*) FROM {rows}")[0][0] for name, rows in of.items()}


def measure(engine: str, folder: Path, rounds: int) -> bool:
    """Say what went wrong, if anything did."""
    with api.opened(engine, folder) as (store, config):
        filled(store, config, folder, TRANSACTIONS)
        tokens = [token(store, config, f"racer {number}") for number in range(RACERS)]
        store.engine.dispose()  # a connection belongs to one process
        with servers(config, 2) as urls:
            start, outbox = FORK.Barrier(RACERS, timeout=300), FORK.SimpleQueue()
            racers = [
                FORK.Process(
                    target=_race, args=(number, rounds, Caller(urls[number % 2], secret), start, outbox)
                )
                for number, secret in enumerate(tokens)
            ]
            for racer in racers:
                racer.start()
            told = [each for _ in racers for each in outbox.get()]
            for racer in racers:
                racer.join()
            whole = Caller(urls[0], tokens[0]).ask("GET", "/audit/check", None)[1]["whole"]
        faults = _faults(store, told) + ([] if whole else ["the audit trail is not whole"])
        print(
            f"{engine}: {RACERS} processes, {rounds} rounds, {len(told)} claims, verdicts, payments sent and scored"
        )
        print("\n".join(faults) or "nothing doubled, nothing lost", flush=True)
    return not faults


def main(arguments: Sequence[str] | None = None) -> int:
    """Race on each engine; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--engine", choices=["sqlite", "postgresql"], action="append")
    options = parser.parse_args(arguments)
    whole = True
    for engine in api.engines(options.engine):
        with tempfile.TemporaryDirectory() as folder:
            whole &= measure(engine, Path(folder), options.rounds)
    return int(not whole)


if __name__ == "__main__":
    sys.exit(main())
