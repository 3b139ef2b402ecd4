"""What every benchmark needs to know of its data and its machine."""

import resource
import sys
from pathlib import Path


def require(path: Path | None, what: str) -> Path:
    """The path of the data, or a clear end: benchmarks never bring data of their own from elsewhere."""
    if path is None or not path.is_file():
        sys.exit(
            f"this benchmark needs {what}; {path or 'no path'} is not a file: give its path as the argument"
        )
    return path


def peak_mib(usage: resource.struct_rusage) -> float:
    """Peak resident memory of a process in MiB; Linux counts KiB, macOS bytes."""
    return usage.ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10)


def resident_mib() -> float:
    """Resident memory of this process in MiB."""
    try:
        status = Path("/proc/self/status").read_text(encoding="ascii")
    except FileNotFoundError:
        sys.exit("this benchmark reads /proc/self/status, which Linux has")
    return next(int(line.split()[1]) / 1024 for line in status.splitlines() if line.startswith("VmRSS"))
