"""Jobs that a loop hands to a thread, such as encoding images."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor

ROOM = 64 * 2**20  # bytes


class Background:
    """Run jobs one after the other in a thread. Nothing is dropped: a call waits while there is no room.

    A job's error is raised by the next call, which still adds its own job. Python waits for the jobs before it exits.
    """

    def __init__(self, name: str, room: int = ROOM):
        """Name the thread; `room`: bytes that may wait, as the callers count them."""
        self.pool, self.room = ThreadPoolExecutor(1, name), room
        self.jobs: deque[tuple[int, Future]] = deque()  # the first one is running
        self.error: BaseException | None = None

    def __call__(self, size: int, action: Callable, *args: object) -> None:
        """Run `action(*args)` soon; it holds `size` bytes until then."""
        self._collect(self.room)
        self.jobs.append((size, self.pool.submit(action, *args)))
        self._raise()

    def finish(self) -> None:
        """Wait until all jobs are done."""
        self._collect(0)
        self._raise()

    def _collect(self, room: int) -> None:
        """Remove finished jobs; wait until the others hold fewer than `room` bytes."""
        while self.jobs and (self.jobs[0][1].done() or sum(size for size, _ in self.jobs) >= room):
            self.error = self.jobs[0][1].exception() or self.error
            self.jobs.popleft()

    def _raise(self) -> None:
        error, self.error = self.error, None
        if error is not None:
            raise error
