"""CPU time and memory of this process and of those below it, from Linux's /proc."""

import os
from pathlib import Path

_PROC = Path("/proc")
_TICKS = os.sysconf("SC_CLK_TCK")


def family() -> list[int]:
    """Process ids: this process and all below it."""
    parents = {}
    for folder in _PROC.glob("[0-9]*"):
        try:
            parents[int(folder.name)] = int(_stat(int(folder.name))[1])
        except OSError:
            continue  # it has ended
    found = [os.getpid()]
    for ancestor in found:
        found += [process for process, parent in parents.items() if parent == ancestor]
    return found


def cpu_seconds() -> float:
    """CPU time of the living members of the family, user and system."""
    fields = map(_stat, family())
    return sum(int(user) + int(system) for *_, user, system in (f[:13] for f in fields)) / _TICKS


def peak_megabytes(process: int) -> float:
    """The most resident memory that a process has had, shared pages included."""
    for line in (_PROC / str(process) / "status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) / 1024
    return 0.0


def proportional_megabytes(process: int) -> float:
    """Resident memory of a process now; of a page that several share, its part. 0 if it ended."""
    try:
        lines = (_PROC / str(process) / "smaps_rollup").read_text().splitlines()
    except OSError:
        return 0.0
    return sum(int(line.split()[1]) for line in lines if line.startswith("Pss:")) / 1024


def title(process: int) -> str:
    """A process's command line."""
    return (_PROC / str(process) / "cmdline").read_text()


def _stat(process: int) -> list[str]:
    """The fields of `stat` that follow the name: state, parent, ..., utime, stime, ..."""
    return (_PROC / str(process) / "stat").read_text().rpartition(")")[2].split()
