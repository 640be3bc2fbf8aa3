"""Facts about the machine: cores, memory, free disk space. Importing this does not import torch."""

from __future__ import annotations

import contextlib
import itertools
import math
import os
import re
import shutil
from collections.abc import Collection, Iterator
from pathlib import Path, PurePosixPath

from util.errors import UserError

PROC, SYS = Path("/proc"), Path("/sys")


def core_count() -> int:
    """Return how many cores this process may use, by its affinity and its CPU quota (rounded up)."""
    return math.ceil(min(len(affinity()), cpu_quota()))


def physical_cores() -> int:
    """Return the cores of this process's affinity, where hyperthreads count once: PyTorch's own number of threads."""
    siblings = "devices/system/cpu/cpu{}/topology/thread_siblings_list"
    return len({_text(SYS / siblings.format(core)) or core for core in affinity()})


def affinity() -> Collection[int]:
    """Return the numbers of the cores on which this process may run."""
    return os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else range(os.cpu_count() or 1)


def cpu_quota() -> float:
    """Return the least CPU quota of this process's control groups, in cores; infinity without one."""
    quota = math.inf
    for group in control_groups("cpu"):
        for names in (("cpu.max",), ("cpu.cfs_quota_us", "cpu.cfs_period_us")):  # versions 2 and 1
            with contextlib.suppress(ValueError):  # no such file, or "max"
                microseconds, period = map(int, " ".join(_text(group / name) for name in names).split())
                quota = min(quota, microseconds / period if microseconds > 0 else math.inf)
    return quota


def control_groups(controller: str) -> Iterator[Path]:
    """Yield the folders of this process's control groups, versions 1 and 2, with those that contain them."""
    for line in _text(PROC / "self/cgroup").splitlines():
        _, controllers, path = line.split(":", 2)
        if not controllers or controller in controllers.split(","):
            tree, group = SYS / "fs/cgroup" / (controller if controllers else ""), PurePosixPath(path.lstrip("/"))
            yield from (tree / folder for folder in (group, *group.parents))


def _text(path: Path) -> str:
    """Return the text of a file; empty if it can't be read."""
    with contextlib.suppress(OSError):
        return path.read_text(encoding="ascii", errors="replace")
    return ""


def free_space(folder: Path | str) -> int:
    """Return the free bytes for a folder that need not exist yet; UserError if it can't be made or written."""
    folder = Path(folder).absolute()
    parent = next(f for f in (folder, *folder.parents) if f.exists())
    if not (parent.is_dir() and os.access(parent, os.W_OK | os.X_OK)):
        raise UserError(f"{folder} can't be written: {parent} is {'read-only' if parent.is_dir() else 'no folder'}")
    return shutil.disk_usage(parent).free


def main_memory() -> tuple[int, int]:
    """Return the total and available memory of the machine, or of the container if less; 0, 0 if unknown."""
    amounts = dict(re.findall(r"(\w+): +(\d+) kB", _text(PROC / "meminfo")))
    try:
        total, free = (1024 * int(amounts[name]) for name in ("MemTotal", "MemAvailable"))
    except KeyError:  # macOS, Windows
        try:
            total = free = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
        except (AttributeError, ValueError, OSError):
            return 0, 0
    for group, name in itertools.product(control_groups("memory"), ("memory.max", "memory.limit_in_bytes")):
        with contextlib.suppress(ValueError):  # no such file, or "max"
            limit = int(_text(group / name))
            total, free = min(total, limit), min(free, limit)
    return total, free
