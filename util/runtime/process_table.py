"""Processes of this machine by their numbers, which the system uses again. Needs the standard library alone."""

from __future__ import annotations

import os
import socket
import subprocess
import time
from pathlib import Path


def start_of(pid: int) -> str:
    """Return when a process started, in a form that stays the same while it lives; empty if that is unknown."""
    try:
        return Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()[19]
    except (OSError, IndexError):  # gone, or no Linux
        pass
    try:
        return subprocess.run(["ps", "-o", "lstart=", "-p", str(pid)], capture_output=True, text=True).stdout.strip()
    except OSError:
        return ""


def is_gone(pid: int, used: float) -> bool:
    """Whether the process that had a number at the time `used`, in seconds since 1970, has ended."""
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return True
    except OSError:  # it belongs to someone else
        pass
    ticks = start_of(pid)
    if not ticks.isdigit() or not hasattr(time, "CLOCK_BOOTTIME"):
        return False
    age = time.clock_gettime(time.CLOCK_BOOTTIME) - int(ticks) / os.sysconf("SC_CLK_TCK")
    return time.time() - used > age + 2  # a later process has the number now


def launch() -> str:
    """Name the torchrun launch that started this process, the same after each restart; empty without torchrun."""
    name = os.environ.get("TORCHELASTIC_RUN_ID", "")
    if name != "none":
        return name
    return f"{socket.gethostname()} {os.getppid()} {start_of(os.getppid())}"
