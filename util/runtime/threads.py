"""Threads of PyTorch on the CPU: how many, and how they wait. Importing this sets both; torch and NumPy come after it.

OpenMP's threads spin for milliseconds while they wait for each other, which slows a run tenfold when another program is
busy on the same cores. Here they soon sleep. Their number follows the cores that the process may use, never the load.
It decides the order of sums, hence the last bits of every result: a resumed run keeps the number that it began with.
"""

from __future__ import annotations

import math
import os

from util.errors import printable
from util.runtime import machine
from util.runtime.run_facts import save_fact, saved_facts

# GNU's library spins for about 0.1 ms: less slows an idle machine, more a busy one. Other libraries sleep at once.
WAITING = {"OMP_WAIT_POLICY": "PASSIVE", "GOMP_SPINCOUNT": "4000"}
COUNT = "OMP_NUM_THREADS"
MOST = 1024  # threads that a file may ask for
CHOSEN = "OMP_NUM_THREADS_CHOSEN"  # the number that this module put into the environment; other programs inherit both


def choose() -> None:
    """Set OpenMP's variables, unless the user has. PyTorch's own number stays where nothing limits the process."""
    if not WAITING.keys() & os.environ.keys():
        os.environ.update(WAITING)
    if set_by_user():
        return
    for name in (COUNT, CHOSEN):
        os.environ.pop(name, None)
    cores = machine.physical_cores()
    count = max(1, math.ceil(min(cores, machine.cpu_quota())) // int(os.environ.get("LOCAL_WORLD_SIZE", 1)))
    if count < cores:
        os.environ[COUNT] = os.environ[CHOSEN] = str(count)


def set_by_user() -> bool:
    """Whether the user has set the number of threads: not torchrun, nor the program that started this one."""
    count = os.environ.get(COUNT)
    chosen = count in ("", None, os.environ.get(CHOSEN)) or _set_by_torchrun()
    return "MKL_NUM_THREADS" in os.environ or not chosen


def _set_by_torchrun() -> bool:
    """Whether torchrun, the parent process, has set the number to 1, as it does where the user has not set it."""
    if os.environ.get("TORCHELASTIC_RUN_ID") is None or os.environ.get(COUNT) != "1":
        return False
    try:
        started_with = (machine.PROC / f"{os.getppid()}/environ").read_bytes()
    except OSError:
        return False
    return f"\0{COUNT}=".encode() not in b"\0" + started_with


def keep(opt, saved: dict[str, object]) -> list[str]:
    """Save with a run what decides its last bits on a CPU, besides its options; return lines to print.

    A resumed run, which has `saved` options, gets the number of threads that it began with, unless the user sets one.
    """
    lines = _restore(saved_facts(saved)) if saved else []
    for name, value in _environment().items():
        save_fact(opt, name, value)
    return lines


def _environment() -> dict[str, object]:
    """Return the number of threads and of processes, the version of PyTorch, and the CPU's features."""
    import torch  # not above: this module comes before it

    cpu, processes = torch.backends.cpu.get_cpu_capability(), int(os.environ.get("WORLD_SIZE", 1))
    return {"threads": torch.get_num_threads(), "processes": processes, "torch": torch.__version__, "CPU": cpu}


def _restore(earlier: dict[str, object]) -> list[str]:
    """Set the earlier number of threads; return lines about what has changed. An old run had PyTorch's own number."""
    import torch

    now = _environment()
    if CHOSEN in os.environ:  # else PyTorch's own number is unchanged
        former = 1 if int(os.environ.get("LOCAL_WORLD_SIZE", 1)) > 1 else machine.physical_cores()  # torchrun sets 1
        earlier = {"threads": former, **earlier}
    earlier = {**now, **earlier}
    threads, lines = earlier["threads"], []
    may = type(threads) is int and 0 < threads <= MOST and earlier["processes"] == now["processes"]
    if may and threads != now["threads"] and not set_by_user():
        here = now["threads"]
        lines = [f"threads: {threads}, as before (a new run would have {here} here: OMP_NUM_THREADS={here})"]
        torch.set_num_threads(threads)
        now["threads"] = threads
    changes = [f"{name} {printable(earlier[name]):.40} -> {now[name]}" for name in now if earlier[name] != now[name]]
    if changes:
        lines.append(f"changed since the last start: {', '.join(changes)}; results differ in their last digits")
    return lines


choose()
