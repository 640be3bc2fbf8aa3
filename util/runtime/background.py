"""Work that a loop hands to a thread, such as encoding pictures."""

from __future__ import annotations

import atexit
import threading
from collections import deque
from collections.abc import Callable

ROOM = 64 * 2**20  # bytes


class Background:
    """Do one job after the other in a thread. Nothing is dropped: who brings more than there is room for waits.

    A job's error is raised by the next call, which does its own work all the same. The end of the program waits for
    what is left.
    """

    def __init__(self, name: str, room: int = ROOM):
        """Name the thread; `room`: bytes that may wait, as their callers count them."""
        self.name, self.room = name, room
        self.jobs: deque[tuple[int, Callable, tuple]] = deque()  # the first one is being done
        self.waiting = 0  # bytes
        self.changed = threading.Condition()
        self.error: Exception | None = None
        self.thread: threading.Thread | None = None

    def __call__(self, size: int, action: Callable, *args: object) -> None:
        """Have `action(*args)` done soon, which holds `size` bytes until then."""
        with self.changed:
            if self.thread is None:
                self.thread = threading.Thread(target=self._work, name=self.name, daemon=True)
                self.thread.start()
                atexit.register(self._drain)
            self._wait(lambda: self.waiting < self.room)
            self.jobs.append((size, action, args))
            self.waiting += size
            self.changed.notify_all()
        self._complain()

    def finish(self) -> None:
        """Wait until all is done."""
        self._drain()
        self._complain()

    def _drain(self) -> None:
        with self.changed:
            self._wait(lambda: not self.jobs)

    def _wait(self, ready: Callable[[], bool]) -> None:
        while not ready() and self.thread is not None and self.thread.is_alive():  # a forked child has no such thread
            self.changed.wait(1)

    def _complain(self) -> None:
        error, self.error = self.error, None
        if error is not None:
            raise error

    def _work(self) -> None:
        while True:
            with self.changed:
                while not self.jobs:
                    self.changed.wait()
                size, action, args = self.jobs[0]
            try:
                action(*args)
            except Exception as error:
                self.error = error
            with self.changed:
                self.jobs.popleft()
                self.waiting -= size
                self.changed.notify_all()
            del action, args  # or they would be kept until the next job
