"""The console: progress bar, timing and the line of losses."""

from __future__ import annotations

import sys
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from tqdm import tqdm

BAR = "{desc} {percentage:3.0f}%|{bar}| {n_fmt}/{total_fmt} [{elapsed}<{remaining}, {rate_noinv_fmt}{postfix}]"


class Meter:
    """Times the phases of a run (data: waiting for it; train; show; other) and draws a progress bar on a terminal."""

    def __init__(self):
        self.bar = None
        self.phase = "other"
        self.mark = time.perf_counter()
        self.epoch = Counter()  # seconds of each phase since the epoch began
        self.lap = Counter()  # and since the last `timing`
        self.lap_images: int | None = None  # images trained on when the lap began

    def switch(self, phase: str) -> str:
        """End the current phase, begin `phase`, and return the former one."""
        now, former = time.perf_counter(), self.phase
        self.epoch[former] += now - self.mark
        self.lap[former] += now - self.mark
        self.mark, self.phase = now, phase
        return former

    @contextmanager
    def showing(self):
        """Count the body's time as phase `show`."""
        former = self.switch("show")
        try:
            yield
        finally:
            self.switch(former)

    def track(self, batches: Iterable, title: str, progress) -> Iterator:
        """Yield an epoch's batches, with a bar on terminals: waiting for one is phase `data`, using it `train`.

        `len(batches)` counts images; the caller advances `progress` once for each batch.
        """
        self.epoch.clear()
        if self.lap_images is None:
            self.lap_images = progress.total_iters
        if sys.stderr.isatty():
            words = {"desc": title, "total": len(batches), "initial": progress.epoch_iter, "bar_format": BAR}
            self.bar = tqdm(**words, unit=" images", leave=False, miniters=1, mininterval=0.5)
        self.switch("data")
        try:
            for batch in batches:
                self.switch("train")
                yield batch
                self.move_bar(progress.epoch_iter)
                self.switch("data")
        finally:
            self.switch("other")
            self.close_bar()

    def timing(self, images: int) -> tuple[float, float]:
        """Return seconds per image for training and for waiting since the last call; `images` counts all until now."""
        self.switch(self.phase)
        count = max(images - (self.lap_images or 0), 1)
        result = self.lap["train"] / count, self.lap["data"] / count
        self.lap.clear()
        self.lap_images = images
        return result

    def move_bar(self, images: int) -> None:
        """Move the bar to `images` images of the epoch."""
        if self.bar is None:
            return
        whole = sum(self.epoch.values()) or 1.0
        shares = f"data {self.epoch['data'] / whole:.0%}, display {self.epoch['show'] / whole:.0%}"
        self.bar.set_postfix_str(shares, refresh=False)
        self.bar.update(min(images, self.bar.total) - self.bar.n)

    def close_bar(self) -> None:
        """Remove the bar."""
        if self.bar is not None:
            self.bar.close()
            self.bar = None

    def say(self, line: str) -> None:
        """Print a line, above the bar if there is one."""
        if self.bar is None:
            print(line, flush=True)
        else:
            self.bar.write(line)
            sys.stdout.flush()  # it may be a file, or `tee`


class TranslationLines:
    """Report translated images by a bar on a terminal, elsewhere by the reference's line for every fifth image."""

    def __init__(self, count: int):
        self.bar = (
            tqdm(total=count, desc="translating", unit=" images", file=sys.stdout, leave=False)
            if sys.stdout.isatty()
            else None
        )

    def __enter__(self):
        return self

    def __exit__(self, *error):
        if self.bar is not None:
            self.bar.close()

    def show(self, first: int, paths: list[str], several: bool) -> None:
        """Report a batch that begins with image number `first`; `several`: batches may have more than one image."""
        if self.bar is not None:
            self.bar.update(len(paths))
            return
        for i in range(-first % 5, len(paths) if several else 1, 5):
            print(f"processing ({first + i:04d})-th image... {paths[i : i + 1] if several else paths}")


def loss_line(epoch: int, iters: int, losses: dict[str, float], t_comp: float, t_data: float) -> str:
    """Format printed losses as the reference does."""
    line = f"(epoch: {epoch}, iters: {iters}, time: {t_comp:.3f}, data: {t_data:.3f}) "
    return line + "".join(f"{name}: {value:.3f} " for name, value in losses.items())
