"""Which process holds a lease, and whether it has died: believed only where this process can see it."""

import os
import secrets
import socket
from dataclasses import astuple, dataclass
from functools import cache
from pathlib import Path

PROC = Path("/proc")
ENDED = ("Z", "X")  # states of a process that has ended and whose parent has not asked for it yet


@dataclass(frozen=True)
class Process:
    """
    A process: where it runs, and a random part that no other one has.

    Attributes
    ----------
    boot, namespace
        Of the machine since it was started, and of its process numbers; "" where the system does not tell.
    started
        In ticks since the boot; a number that is used again belongs to a process that started later.
    """

    host: str
    boot: str
    namespace: str
    pid: str
    started: str
    random: str

    def __str__(self) -> str:
        return "/".join(astuple(self))

    @property
    def display(self) -> str:
        """Machine and number, for people."""
        return f"{self.host}, process {self.pid}"


def this_process() -> Process:
    """The process that asks."""
    return _process(os.getpid())


@cache
def _process(pid: int) -> Process:  # by pid: a fork is another process
    return Process(
        socket.gethostname().replace("/", "_"),
        _boot(),
        _namespace(),
        str(pid),
        _started(pid)[1],
        secrets.token_hex(8),
    )


def parse(stored: str) -> Process | None:
    """The process of a lease; None for one that another program has written."""
    parts = stored.split("/")
    return Process(*parts) if len(parts) == len(Process.__dataclass_fields__) else None


def display(stored: str) -> str:
    """A stored process, for people."""
    process = parse(stored)
    return stored if process is None else process.display


def died(stored: str) -> bool:
    """
    Whether the process ran on this machine, since the same boot and under the same numbering, and has ended.

    Of a process of another machine or container nothing is known here: its number may be that of somebody else.
    """
    process, here = parse(stored), this_process()
    if process is None or not (here.boot and here.namespace):
        return False
    if (process.host, process.boot, process.namespace) != (here.host, here.boot, here.namespace):
        return False
    state, started = _started(int(process.pid))
    return state in ("", *ENDED) or started != process.started


def _boot() -> str:
    try:
        return (PROC / "sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except OSError:
        return ""


def _namespace() -> str:
    try:
        return str((PROC / "self/ns/pid").readlink()).strip("pid:[]")
    except OSError:
        return ""


def _started(pid: int) -> tuple[str, str]:
    """The state of a process and when it started; "" if there is none of that number."""
    try:
        stat = (PROC / str(pid) / "stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return "", ""
    fields = stat.rpartition(")")[2].split()  # the name before it may contain anything
    return fields[0], fields[19]
