"""The files beside a run: loss_log.txt, metrics.csv, validation.csv."""

from __future__ import annotations

import csv
import io
import math
from pathlib import Path

from util.checkpoint.atomic_files import write_whole


class LogFiles:
    """`loss_log.txt`, which only grows, and a CSV table that holds every printed step once."""

    def __init__(self, folder: str | Path, table: str = "metrics.csv"):
        """Write into `folder`, creating it if needed."""
        self.text = Path(folder) / "loss_log.txt"
        self.table = Path(folder) / table
        self.columns: list[str] = []
        self.text.parent.mkdir(parents=True, exist_ok=True)

    def write_line(self, line: str) -> None:
        """Append a line to loss_log.txt."""
        with self.text.open("a", encoding="utf-8") as file:
            file.write(line + "\n")

    def cut(self, total_iters: float, epoch: float = math.inf) -> None:
        """Discard the table's rows beyond `total_iters` images, and those of `epoch` and later; 0 discards all."""
        self.columns, rows = self._read() if total_iters else ([], [])
        end = total_iters, epoch - 0.5
        kept = [row for row in rows if (int(row["total_iters"] or 0), int(row["epoch"] or 0)) <= end]
        if kept:
            self._rewrite(kept)
        else:
            self.columns = []
            self.table.unlink(missing_ok=True)

    def add(self, values: dict[str, object]) -> None:
        """Append a row to the table; a new name gets a new column."""
        if not set(values) <= set(self.columns):
            columns, rows = self._read()
            self.columns = list(dict.fromkeys([*columns, *values]))
            self._rewrite(rows)
        with self.table.open("a", encoding="utf-8", newline="") as file:
            csv.DictWriter(file, self.columns, restval="", lineterminator="\n").writerow(values)

    def _read(self) -> tuple[list[str], list[dict[str, str]]]:
        """Return the table's columns and its complete rows (a killed run may leave part of one)."""
        if not self.table.exists():
            return [], []
        lines = self.table.read_text(encoding="utf-8").split("\n")[:-1]
        reader = csv.DictReader(lines)
        rows = [row for row in reader if None not in row and None not in row.values()]
        rows = [row for row in rows if row.get("total_iters", "?").isdecimal() or row.get("total_iters") == ""]
        return list(reader.fieldnames or []), rows

    def _rewrite(self, rows: list[dict[str, str]]) -> None:
        """Replace the table atomically."""
        text = io.StringIO(newline="")
        writer = csv.DictWriter(text, self.columns, restval="", lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
        write_whole(self.table, text.getvalue(), durable=True)  # or a power cut may leave an empty table
