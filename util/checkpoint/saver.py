"""Saving while a run trains."""

from __future__ import annotations

from collections.abc import Callable

from util.checkpoint.checkpointer import SaveError
from util.errors import DataError, warn
from util.runtime import processes


class Saver:
    """Save a model while it trains. A save that fails costs a warning, and the next one may succeed.

    `with Saver(model) as save:` ... `save("latest")`. At the end the last save's error is raised, if it failed.
    When an image can't be read, the training up to then is saved.
    """

    def __init__(self, model, before: Callable[[], None] = lambda: None):
        """Save `model`; call `before` first, to write pending logs and pages to the disk."""
        self.model, self.before = model, before
        self.failed: SaveError | None = None  # the last save's error
        self.done: tuple | None = None  # the last save's prefix and progress
        self.start = self._progress()

    def __call__(self, prefix: str | int) -> None:
        """Save networks and training state under a prefix, once for the same progress; every process calls this.

        At the progress with which the run started there is nothing to save.
        """
        this = (prefix, self._progress())
        if this == self.done or this[1] == self.start:
            return
        self.before()
        try:
            self.model.save_networks(prefix)
            self.failed, self.done = None, this
        except SaveError as error:
            self.failed = error
            warn(f"{error}. Training continues, and the next save will try again")

    def _progress(self) -> tuple[int, int]:
        return self.model.progress.epoch, self.model.progress.total_iters

    def __enter__(self):
        return self

    def __exit__(self, kind, *_):
        if kind and issubclass(kind, DataError) and processes.world_size() == 1 and self.model.step_part.last:
            self("latest")
            if self.done and not self.failed:
                warn("training was saved; fix the data, and --continue_train resumes from here")
        if self.failed and kind in (None, SystemExit):
            raise self.failed
