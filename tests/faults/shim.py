"""Count what a process does to the files of a folder, stop it at each operation, or spoil one: Python's side of shim.c.

Only in a process that runs under the shim (`run_under`) do `fork` and `operations` work.
"""

from __future__ import annotations

import contextlib
import ctypes
import io
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

LIMIT = 120  # seconds, after which a child is ended by SIGALRM: it hangs
KINDS = "open read write sync rename link unlink truncate mkdir".split()
GO, KILL_BEFORE, KILL_WITHIN, FAIL, FAIL_DONE, HALF, LOSE, STOP = range(8)


class Control(ctypes.Structure):
    """The page of orders that shim.c reads; forks share it."""

    _fields_ = [
        *((name, ctypes.c_int) for name in "pid mode at error kinds forever count kind returned".split()),
        *((name, ctypes.c_char * 512) for name in ("folder", "path", "target")),
    ]


control: Control | None = None


def new_page() -> None:
    """Take a new page of orders, for this process and its forks."""
    global control
    shim = ctypes.CDLL(None)
    shim.fault_control.restype = ctypes.POINTER(Control)
    control = shim.fault_control().contents


def missing() -> str:
    """Say what this machine lacks for the campaign, nothing if it has all."""
    if not sys.platform.startswith("linux"):
        return "the shim that spoils file operations is for Linux"
    return "" if shutil.which("gcc") else "there is no gcc to compile the shim that spoils file operations"


def run_under(program: str, words: list[str]) -> str:
    """Run a Python program under the shim and return its output."""
    with tempfile.TemporaryDirectory(prefix="shim") as folder:
        shim = Path(folder) / "shim.so"
        compiler = ["gcc", "-O1", "-shared", "-fPIC", "-o", str(shim), str(Path(__file__).with_name("shim.c")), "-ldl"]
        subprocess.run(compiler, check=True)
        command = [sys.executable, program, *words]
        env = {**os.environ, "LD_PRELOAD": str(shim), "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
        env["PYTHONPATH"] = os.pathsep.join(path for path in sys.path if path)
        return subprocess.run(command, env=env, check=True, stdout=subprocess.PIPE, text=True).stdout


class Operation(NamedTuple):
    """The next operation of a process on a file of the folder."""

    kind: str
    path: Path
    target: Path
    returned: int  # `control.returned` by then


def fork(action: Callable[[], None], folder: Path, **orders: int) -> int:
    """Run `action` in a child whose operations in `folder` are counted and spoiled; return its process id."""
    settings = {"mode": GO, "at": 0, "error": 0, "kinds": -1, "forever": 0, "count": 0, "returned": 0, "pid": 0}
    for name, value in {**settings, **orders}.items():
        setattr(control, name, value)
    control.folder = os.fsencode(folder)
    pid = os.fork()
    if pid == 0:
        status = 70
        try:
            with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
                signal.alarm(LIMIT if control.mode != STOP else 0)
                control.pid = os.getpid()
                action()
            status = 0
        except BaseException:
            control.pid = 0
            traceback.print_exc()
        finally:
            os._exit(status)
    return pid


def wait(pid: int) -> bool:
    """Wait for a child; whether it came to its end (and was not killed)."""
    _, status = os.waitpid(pid, 0)
    control.pid = 0
    if os.WIFSIGNALED(status):
        assert os.WTERMSIG(status) == signal.SIGKILL, "a child hung"
        return False
    if os.WEXITSTATUS(status):
        raise RuntimeError("a child failed, with the traceback above")
    return True


def operations(action: Callable[[], None], folder: Path) -> Iterator[Operation]:
    """Stop a child before each operation and yield it; the child continues when the next one is requested."""
    pid = fork(action, folder, mode=STOP)
    ended = False
    try:
        while True:
            _, status = os.waitpid(pid, os.WUNTRACED)
            ended = not os.WIFSTOPPED(status)
            if ended:
                assert status == 0, "a child that was only watched failed, with the traceback above"
                return
            paths = (Path(os.fsdecode(path)) for path in (control.path, control.target))
            yield Operation(KINDS[control.kind], *paths, control.returned)
            os.kill(pid, signal.SIGCONT)
    finally:
        control.pid = 0
        if not ended:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)


def bits(kinds: str) -> int:
    """Return the mask of some kinds of operations."""
    return sum(1 << KINDS.index(kind) for kind in kinds.split())
