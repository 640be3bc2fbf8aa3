"""What would end a run from outside: signals, and an output that nobody reads any more.

    with Interrupts() as interrupts:
        for batch in dataset:
            ...  # a whole step, with what it shows and saves
            if interrupts.requested():  # every process asks, at the end of each step
                model.save_networks("latest")
                interrupts.leave()

Before and after that body a signal does what it usually does: it ends the process at once.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import sys
import threading
import time
from typing import NoReturn

from util.runtime import processes

SIGNALS = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGUSR1", "SIGHUP") if hasattr(signal, name)]
TOGETHER = 1.0  # seconds: `timeout`, a scheduler and torchrun may each pass on the same signal
PARENT = os.getppid()  # torchrun, where it started this process


class Interrupts:
    """Have Ctrl-C, SIGTERM, SIGUSR1 and SIGHUP wait for the end of the step; a second one ends the process at once.

    A thread hears the signals, so that the second one works even where the main thread hangs, say in a collective.
    Signals that were ignored when the program began (`nohup`) stay ignored. The death of torchrun, which nothing else
    would tell its processes, counts as SIGTERM.
    """

    def __init__(self):
        self.number = 0  # of the first signal
        self.heard = 0.0  # when that was
        self.agreed = 0  # the number that all processes know
        self.former: dict = {}  # the handlers that this object stands in for
        self.thread: threading.Thread | None = None
        self.active = False

    def __enter__(self):
        # Signals are handled in a program's main thread only, and a notebook has its own way with Ctrl-C.
        if threading.current_thread() is threading.main_thread() and not hasattr(sys, "ps1"):
            former = {number: signal.getsignal(number) for number in SIGNALS}
            self.former = {n: handler for n, handler in former.items() if handler not in (signal.SIG_IGN, None)}
            self.reader, self.writer = socket.socketpair()
            self.writer.setblocking(False)
            self.active = True
            self.former_fd = signal.set_wakeup_fd(self.writer.fileno(), warn_on_full_buffer=False)
            for number in self.former:
                signal.signal(number, lambda *_: None)  # Python writes the number to the socket
            if hasattr(os, "register_at_fork"):
                os.register_at_fork(after_in_child=self._restore)  # signals to a child are not for this process
            self.thread = threading.Thread(target=self._listen, name="signals", daemon=True)
            self.thread.start()
        return self

    def __exit__(self, *_):
        if self.thread:
            self._restore()
            self.writer.send(b"\0")
            self.thread.join()
            self.reader.close()
            self.writer.close()

    def _restore(self) -> None:
        if self.active:
            self.active = False
            signal.set_wakeup_fd(self.former_fd)
            for number, handler in self.former.items():
                signal.signal(number, handler)

    def _listen(self) -> None:
        launcher = PARENT if "TORCHELASTIC_RUN_ID" in os.environ else None
        self.reader.settimeout(0.25 if launcher else None)
        while True:
            try:
                number = self.reader.recv(1)[0]
            except TimeoutError:
                if launcher and os.getppid() != launcher:
                    launcher = None
                    self._hear(signal.SIGTERM, "torchrun is gone")
                continue
            if not number:  # the end of the body
                return
            if number in self.former:
                self._hear(number, signal.Signals(number).name)

    def _hear(self, number: int, what: str) -> None:
        if not self.number:
            self.number, self.heard = number, time.monotonic()
            _tell(f"{what}: finishing the step and saving; again to stop at once")
        elif time.monotonic() - self.heard > (TOGETHER if relayed(number) else 0.1):
            _tell(f"{what}: stopped at once")
            os._exit(128 + number)  # without the usual end, which may be what hangs

    def requested(self) -> bool:
        """Whether a signal to any process asks to stop. Under torchrun every process calls this after the same step."""
        self.agreed = processes.greatest(self.number)
        return self.agreed > 0

    def leave(self) -> NoReturn:
        """Exit with status 128 + the signal's number, once every process is here and the main one has saved."""
        if self.active and processes.world_size() > 1:
            # When the first process has ended, torchrun sends SIGTERM to the others, who are about to end as well.
            self.former.pop(signal.SIGTERM, None)
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
        processes.greatest(0)  # the main process may still be saving
        name = signal.Signals(self.agreed).name
        _tell(f"stopped by {name} after the step; --continue_train goes on from the last save")
        sys.exit(128 + self.agreed)


@contextlib.contextmanager
def held_back():
    """Have signals to this thread wait, and those to processes that it starts in the body, until they say otherwise."""
    if not hasattr(signal, "pthread_sigmask"):  # Windows
        yield
        return
    former = signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, former)


def relayed(number: int) -> bool:
    """Whether one wish to stop may arrive as several signals: all but Ctrl-C in a terminal without torchrun."""
    return number != signal.SIGINT or "TORCHELASTIC_RUN_ID" in os.environ


def _tell(line: str) -> None:
    """Write a line to stderr, past Python's buffers, whose locks a hanging main thread may hold."""
    if processes.is_main():
        with contextlib.suppress(OSError):
            begin = "\n" if os.isatty(2) else ""  # a progress bar or ^C may stand there
            os.write(2, f"{begin}{line}\n".encode())


# ---- closed output ----


def unbreakable_output() -> None:
    """Let nothing end the program because its output can't be written: `| head`, a closed terminal, a full disk."""
    sys.stdout, sys.stderr = _unbreakable(sys.stdout, "stdout"), _unbreakable(sys.stderr, "stderr")


def _unbreakable(stream, name: str):
    try:
        stream.fileno()
    except (AttributeError, OSError, ValueError):  # None, or a notebook's
        return stream
    return stream if isinstance(stream, _Unbreakable) else _Unbreakable(stream, name)


class _Unbreakable:
    """A text stream that leads nowhere from its first error on, which is said once."""

    def __init__(self, stream, name: str):
        self._stream, self._name = stream, name

    def __getattr__(self, name: str):
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        try:
            return self._stream.write(text)
        except OSError as error:
            self._give_up(error)
            return len(text)

    def flush(self) -> None:
        try:
            self._stream.flush()
        except OSError as error:
            self._give_up(error)

    def _give_up(self, error: OSError) -> None:
        """Point the file descriptor to nowhere: what waits in buffers goes there, too, even as Python ends."""
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, self._stream.fileno())
        os.close(nowhere)
        if self._name == "stdout":
            print(f"warning: stdout can't be written ({error.strerror}); going on without it", file=sys.stderr)
