"""Events that end a run from outside: signals, and an output that is closed.

    with Interrupts() as interrupts:
        for batch in dataset:
            ...  # a whole step, its display and its save
            interrupts.leave_if_requested(model.save_networks)  # every process calls this, at the end of each step

Before and after that body a signal has its usual effect: it ends the process at once.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable
from typing import NoReturn

from util.runtime import processes

SIGNALS = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGUSR1", "SIGHUP") if hasattr(signal, name)]
REPEATS = 1.0  # seconds in which `timeout`, a scheduler and torchrun may each pass on the same signal
PARENT = os.getppid()  # torchrun, if it started this process


class Interrupts:
    """Delay Ctrl-C, SIGTERM, SIGUSR1 and SIGHUP until the end of the step; a second signal ends the process at once.

    A thread receives the signals, so the second one works even when the main thread hangs, for example in a collective.
    Signals that were ignored at the start (`nohup`) stay ignored. The death of torchrun counts as SIGTERM; its
    processes would not notice it otherwise.
    """

    def __init__(self):
        self.number = 0  # of the first signal
        self.received = 0.0  # its time
        self.agreed = 0  # the number that all processes know
        self.former: dict = {}  # the handlers that this object replaces
        self.thread: threading.Thread | None = None
        self.active = False

    def __enter__(self):
        # Python handles signals in the main thread only, and a notebook handles Ctrl-C itself.
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
                os.register_at_fork(after_in_child=self._restore)  # a child handles its own signals
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
                    self._receive(signal.SIGTERM, "torchrun is gone")
                continue
            if not number:  # the end of the body
                return
            if number in self.former:
                self._receive(number, signal.Signals(number).name)

    def _receive(self, number: int, event: str) -> None:
        # All but Ctrl-C in a terminal without torchrun may arrive several times for one request.
        repeats = number != signal.SIGINT or "TORCHELASTIC_RUN_ID" in os.environ
        if not self.number:
            self.number, self.received = number, time.monotonic()
            _write_to_stderr(f"{event}: finishing the step and saving; again to stop at once")
        elif time.monotonic() - self.received > (REPEATS if repeats else 0.1):
            _write_to_stderr(f"{event}: stopped at once")
            os._exit(128 + number)  # without Python's usual exit, which may be the part that hangs

    def requested(self) -> bool:
        """Whether any process has received a signal. Under torchrun every process calls this after the same step."""
        self.agreed = processes.greatest(self.number)
        return self.agreed > 0

    def leave_if_requested(self, save: Callable[[str], None]) -> None:
        """Save the latest model and leave, if a signal asks to stop (every process calls this)."""
        if self.requested():
            save("latest")
            self.leave()

    def leave(self) -> NoReturn:
        """Exit with status 128 + the signal's number, once every process is here and the main one has saved."""
        if self.active and processes.world_size() > 1:
            # When the first process has ended, torchrun sends SIGTERM to the others, which are about to end.
            self.former.pop(signal.SIGTERM, None)
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
        processes.greatest(0)  # the main process may still be saving
        name = signal.Signals(self.agreed).name
        _write_to_stderr(f"stopped by {name} after the step; --continue_train resumes from the last save")
        sys.exit(128 + self.agreed)


@contextlib.contextmanager
def signals_blocked():
    """Block signals to this thread while the body runs; a process started in the body blocks them until it unblocks."""
    if not hasattr(signal, "pthread_sigmask"):  # Windows
        yield
        return
    former = signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, former)


def _write_to_stderr(line: str) -> None:
    """Write a line to stderr without Python's buffers, whose locks a hanging main thread may hold."""
    if processes.is_main():
        with contextlib.suppress(OSError):
            start = "\n" if os.isatty(2) else ""  # the line may hold a progress bar or ^C
            os.write(2, f"{start}{line}\n".encode())


# ---- closed output ----


def unbreakable_output() -> None:
    """Continue when the output can't be written any more: `| head`, a closed terminal, a full disk."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        with contextlib.suppress(AttributeError, OSError, ValueError):  # None, or a notebook's
            stream.fileno()
            if not isinstance(stream, _UnbreakableStream):
                setattr(sys, name, _UnbreakableStream(stream, name))


class _UnbreakableStream:
    """A text stream that discards everything after its first error, with one warning."""

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
        """Point the file descriptor to os.devnull; buffered text goes there too, even as Python exits."""
        devnull = os.open(os.devnull, os.O_WRONLY)
        os.dup2(devnull, self._stream.fileno())
        os.close(devnull)
        if self._name == "stdout":
            print(f"warning: stdout can't be written ({error.strerror}); continuing without it", file=sys.stderr)
