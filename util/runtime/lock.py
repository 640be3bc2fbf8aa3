"""One run at a time in an experiment's folder."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import time
from pathlib import Path

from util.errors import UserError, warn
from util.runtime import processes

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None

_held: dict[Path, int] = {}  # folder -> descriptor of its lock file


def claim(folder: Path | str) -> None:
    """Keep other runs from training in `folder`, if it exists, until this process ends, however it ends.

    Every process calls this; the main one holds the lock (`.lock` in the folder). Raises UserError in all of them when
    another run holds it. A file system without locks costs only a warning.
    """
    holder = processes.from_main(take(Path(folder)) if processes.is_main() else None)
    if holder is not None:
        raise UserError(taken(folder, holder))


def taken(folder: Path | str, holder: str) -> str:
    """Return the message that another run holds the lock."""
    return f"another run is training in {folder}{holder}. Type another --name, or stop that run and type this again"


def follow(folder: Path, moved: Path) -> None:
    """Note that a folder was renamed; its lock, if this process holds it, went with it."""
    if (file := _held.pop(folder.resolve(), None)) is not None:
        _held[moved.resolve()] = file


def release(folder: Path) -> None:
    """Give up the lock of a folder."""
    if (file := _held.pop(folder.resolve(), None)) is not None:
        os.close(file)


def take(folder: Path) -> str | None:
    """Take the lock in this process; return None, or a description of the run that holds it."""
    folder = folder.resolve()
    if folder in _held:
        return None
    try:
        file = os.open(folder / ".lock", os.O_RDWR | os.O_CREAT, 0o666)
    except OSError:
        return None  # there is no folder yet; or nothing can be saved there either, which the first save reports
    try:
        if fcntl is None:
            raise OSError("not on this system")
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return _holder(file)
    except OSError as error:
        os.close(file)
        warn(f"{folder} can't be locked ({error.strerror or error}): don't start a second run with this --name")
        return None
    _held[folder] = file
    this = {"pid": os.getpid(), "host": socket.gethostname(), "since": time.strftime("%Y-%m-%d %H:%M:%S")}
    with contextlib.suppress(OSError):  # a full disk does not matter: the lock is held
        os.ftruncate(file, 0)
        os.write(file, json.dumps(this).encode())
    return None


def _holder(file: int) -> str:
    """Describe the run that holds a lock, as far as the lock file says; close the file."""
    with os.fdopen(file) as text, contextlib.suppress(ValueError, KeyError, TypeError):
        run = json.load(text)
        return f": process {run['pid']} on {run['host']}, since {run['since']}"
    return ""


def _forget() -> None:
    """Close the parent's locks in a forked child: a worker must not keep the lock of a killed run."""
    for file in _held.values():
        os.close(file)
    _held.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)
