"""The processes that load images: how they start, how they handle signals, and what happens when one dies."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import threading

from data.formats import notes
from util.errors import DataError
from util.runtime.signals import SIGNALS, signals_blocked


def batches(dataloader):
    """Yield the loader's batches, and print the workers' notes.

    A dead worker raises DataError when its batch is missing, not during a step.
    """
    sigchld = getattr(signal, "SIGCHLD", None)
    former = signal.getsignal(sigchld) if sigchld else None
    try:
        with signals_blocked():  # a signal from torchrun also reaches a worker that has just started
            iterator = iter(dataloader)
        if former is not None and threading.current_thread() is threading.main_thread():
            signal.signal(sigchld, former)  # replaces the loader's handler, which raises wherever the program is
        for said, batch in iterator:
            notes.say(*said)
            yield batch
    except RuntimeError as error:
        if not str(error).startswith("DataLoader worker (pid"):
            raise
    else:
        return
    raise DataError(
        "a process that loads images was killed or crashed: the memory is probably short. Fewer --num_threads need "
        "less of it; in a container, give more shared memory (docker run --shm-size 8g)"
    )


def prepare(worker: int) -> None:
    """Ignore the signals that end a run in a new worker, so that the main process alone decides.

    Ctrl-C, torchrun and schedulers send signals to all processes. A worker ends with its main process.
    """
    sys.excepthook = excepthook
    notes.collect()
    for number in SIGNALS:
        if number != signal.SIGTERM:
            signal.signal(number, signal.SIG_IGN)
    linux = hasattr(signal, "sigtimedwait")
    if hasattr(signal, "pthread_sigmask"):  # releases the signals held back while the worker started
        signal.pthread_sigmask(signal.SIG_SETMASK, {signal.SIGTERM} if linux else ())
    if linux:
        threading.Thread(target=_end_with, args=(multiprocessing.parent_process(),), daemon=True).start()


def excepthook(kind: type, error: BaseException, trace) -> None:
    """Show an error of a worker's threads, unless it only says that the main process is gone."""
    if not issubclass(kind, (EOFError, ConnectionError)):
        sys.__excepthook__(kind, error, trace)


def _end_with(main) -> None:
    """End this worker at the SIGTERM of its main process, or soon after the main process has ended.

    The loader itself notices that only after 5 s. Until then a worker holds the connections of torchrun's processes.
    """
    parent = os.getppid()  # the main process, or Python's fork server
    while os.getppid() == parent and main.is_alive():
        got = signal.sigtimedwait({signal.SIGTERM}, 0.5)
        if got and got.si_pid == main.pid:
            break
    os._exit(0)
