"""The console and the files beside it: progress bar, timing, loss_log.txt, metrics.csv, validation.csv."""

from __future__ import annotations

import csv
import math
import os
import sys
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from tqdm import tqdm


class Meter:
    """A stopwatch for what a run does (data: waiting for it; train; show; other), and a progress bar on a terminal."""

    def __init__(self):
        self.bar = None
        self.phase = "other"
        self.mark = time.perf_counter()
        self.epoch = Counter()  # seconds of each phase since the epoch began
        self.lap = Counter()  # and since the last `timing`
        self.lap_images: int | None = None  # images trained on when the lap began

    def switch(self, phase: str) -> str:
        """Give the time until now to the phase that ends, begin `phase`, return the former one."""
        now, former = time.perf_counter(), self.phase
        self.epoch[former] += now - self.mark
        self.lap[former] += now - self.mark
        self.mark, self.phase = now, phase
        return former

    @contextmanager
    def showing(self):
        """Count the body's time as showing, whatever it interrupts."""
        former = self.switch("show")
        try:
            yield
        finally:
            self.switch(former)

    def track(self, batches: Iterable) -> Iterator:
        """Yield the batches: what they take to come is data, what is done with them is train."""
        self.switch("data")
        try:
            for batch in batches:
                self.switch("train")
                yield batch
                self.switch("data")
        finally:
            self.switch("other")

    def timing(self, images: int) -> tuple[float, float]:
        """Return seconds an image for training and for waiting since the last call; `images` counts all until now."""
        self.switch(self.phase)
        count = max(images - (self.lap_images or 0), 1)
        result = self.lap["train"] / count, self.lap["data"] / count
        self.lap.clear()
        self.lap_images = images
        return result

    def open_bar(self, title: str, total: int, done: int) -> None:
        """Begin an epoch of `total` images, `done` of them behind us; the bar is drawn on terminals only."""
        self.epoch.clear()
        if sys.stderr.isatty():
            self.bar = make_bar(title, total, done)

    def move_bar(self, images: int) -> None:
        """Show that `images` images of the epoch are done."""
        if self.bar is None:
            return
        whole = sum(self.epoch.values()) or 1.0
        shares = f"data {self.epoch['data'] / whole:.0%}, display {self.epoch['show'] / whole:.0%}"
        self.bar.set_postfix_str(shares, refresh=False)
        self.bar.update(min(images, self.bar.total) - self.bar.n)

    def close_bar(self) -> None:
        """Take the bar away."""
        if self.bar is not None:
            self.bar.close()
            self.bar = None

    def say(self, line: str) -> None:
        """Print a line, above the bar where there is one."""
        if self.bar is None:
            print(line, flush=True)
        else:
            self.bar.write(line)
            sys.stdout.flush()  # it may be a file, or `tee`


def make_bar(title: str, total: int, done: int):
    """Draw tqdm's progress bar, counting images."""
    layout = "{desc} {percentage:3.0f}%|{bar}| {n_fmt}/{total_fmt} [{elapsed}<{remaining}, {rate_noinv_fmt}{postfix}]"
    return tqdm(
        desc=title,
        total=total,
        initial=done,
        unit=" images",
        bar_format=layout,
        leave=False,
        miniters=1,
        mininterval=0.5,
    )


class LossLog:
    """`loss_log.txt`, which is only appended to, and a table that holds every printed step once."""

    def __init__(self, folder: str | Path, table: str = "metrics.csv"):
        """Write into `folder`, which is made."""
        self.text = Path(folder) / "loss_log.txt"
        self.table = Path(folder) / table
        self.columns: list[str] = []
        self.text.parent.mkdir(parents=True, exist_ok=True)

    def write_line(self, line: str) -> None:
        """Append a line to loss_log.txt."""
        with self.text.open("a", encoding="utf-8") as file:
            file.write(line + "\n")

    def cut(self, total_iters: float, epoch: float = math.inf) -> None:
        """Drop the table's rows beyond `total_iters` images, or of `epoch` and later ones: they will come again.

        0 drops all.
        """
        self.columns, rows = self._read() if total_iters else ([], [])
        place = total_iters, epoch - 0.5
        kept = [row for row in rows if (int(row["total_iters"] or 0), int(row["epoch"] or 0)) <= place]
        if kept:
            self._rewrite(kept)
        else:
            self.columns = []
            self.table.unlink(missing_ok=True)

    def add(self, values: dict[str, object]) -> None:
        """Append a row to the table; a name that is new to it gets a column."""
        if not set(values) <= set(self.columns):
            columns, rows = self._read()
            self.columns = list(dict.fromkeys([*columns, *values]))
            self._rewrite(rows)
        with self.table.open("a", encoding="utf-8", newline="") as file:
            csv.DictWriter(file, self.columns, restval="", lineterminator="\n").writerow(values)

    def _read(self) -> tuple[list[str], list[dict[str, str]]]:
        """Return the table's columns and its whole rows (a killed run may leave a part of one)."""
        if not self.table.exists():
            return [], []
        lines = self.table.read_text(encoding="utf-8").split("\n")[:-1]
        reader = csv.DictReader(lines)
        rows = [row for row in reader if None not in row and None not in row.values()]
        rows = [row for row in rows if row.get("total_iters", "?").isdecimal() or row.get("total_iters") == ""]
        return list(reader.fieldnames or []), rows

    def _rewrite(self, rows: list[dict[str, str]]) -> None:
        """Replace the table in one move."""
        beside = self.table.with_name(self.table.name + ".new")
        with beside.open("w", encoding="utf-8", newline="") as file:
            writer = csv.DictWriter(file, self.columns, restval="", lineterminator="\n")
            writer.writeheader()
            writer.writerows(rows)
            file.flush()
            os.fsync(file.fileno())  # or a power cut may leave an empty table
        os.replace(beside, self.table)  # noqa: PTH105
