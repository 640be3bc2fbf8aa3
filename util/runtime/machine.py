"""Facts about the machine: cores, memory, free disk space."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from util.errors import UserError


def core_count() -> int:
    """Return how many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def free_space(folder: Path | str) -> int:
    """Return the free bytes for a folder that need not exist yet; UserError if it can't be made or written."""
    folder = Path(folder).absolute()
    parent = next(f for f in (folder, *folder.parents) if f.exists())
    if not (parent.is_dir() and os.access(parent, os.W_OK | os.X_OK)):
        raise UserError(f"{folder} can't be written: {parent} is {'read-only' if parent.is_dir() else 'no folder'}")
    return shutil.disk_usage(parent).free


def main_memory() -> tuple[int, int]:
    """Return the total and available memory of the machine, or of the container if less; 0, 0 if unknown."""
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
        amounts = {line.partition(":")[0]: int(line.split()[1]) * 1024 for line in lines}
        total, free = amounts["MemTotal"], amounts["MemAvailable"]
    except (OSError, KeyError):  # macOS, Windows
        try:
            total = free = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
        except (AttributeError, ValueError, OSError):
            return 0, 0
    for file in ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"):
        try:
            limit = int(Path(file).read_text(encoding="ascii"))
        except (OSError, ValueError):  # no such file, or "max"
            continue
        total, free = min(total, limit), min(free, limit)
    return total, free
