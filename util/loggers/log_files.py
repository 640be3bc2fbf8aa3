"""The files beside a run: loss_log.txt, metrics.csv, validation.csv."""

from __future__ import annotations

import csv
import io
import math
from pathlib import Path

from util.checkpoint.atomic_files import write_whole
from util.loggers.base import Pictures, Sink, Step


class LogFiles(Sink):
    """`loss_log.txt`, which only grows, and tables that hold every printed step and every validation once."""

    def __init__(self, folder: str | Path):
        """Write into `folder`, creating it if needed."""
        self.text = Path(folder) / "loss_log.txt"
        self.steps = CsvTable(Path(folder) / "metrics.csv")
        self.validations = CsvTable(Path(folder) / "validation.csv")
        self.text.parent.mkdir(parents=True, exist_ok=True)

    def write_line(self, line: str) -> None:
        """Append a line to loss_log.txt."""
        with self.text.open("a", encoding="utf-8") as file:
            file.write(line + "\n")

    def add_losses(
        self, epoch: int, iters: int, total_iters: int | str, losses: dict[str, float], t_comp: float, t_data: float
    ) -> None:
        """Append a printed step to metrics.csv; `total_iters` is empty where it is unknown."""
        row = {"epoch": epoch, "iters": iters, "total_iters": total_iters}
        row |= {"time": f"{t_comp:.6f}", "data": f"{t_data:.6f}"}
        self.steps.add(row | {name: f"{value:.7g}" for name, value in losses.items()})

    def validation(self, step: Step, values: dict[str, float], pictures: Pictures) -> None:
        row = {"epoch": step.epoch, "total_iters": step.total_iters}
        self.validations.add(row | {name: f"{value:.7g}" for name, value in values.items()})

    def cut(self, total_iters: float, epoch: float = math.inf) -> None:
        self.steps.cut(total_iters)
        self.validations.cut(total_iters, epoch)


class CsvTable:
    """A CSV file that rows are appended to and later removed from."""

    def __init__(self, file: Path):
        self.file = file
        self.columns: list[str] = []

    def cut(self, total_iters: float, epoch: float = math.inf) -> None:
        """Discard rows beyond `total_iters` images, and those of `epoch` and later; 0 discards all."""
        self.columns, rows = self._read() if total_iters else ([], [])
        end = total_iters, epoch - 0.5
        kept = [row for row in rows if (int(row["total_iters"] or 0), int(row["epoch"] or 0)) <= end]
        if kept:
            self._rewrite(kept)
        else:
            self.columns = []
            self.file.unlink(missing_ok=True)

    def add(self, values: dict[str, object]) -> None:
        """Append a row to the table; a new name gets a new column."""
        if not set(values) <= set(self.columns):
            columns, rows = self._read()
            self.columns = list(dict.fromkeys([*columns, *values]))
            self._rewrite(rows)
        with self.file.open("a", encoding="utf-8", newline="") as out:
            csv.DictWriter(out, self.columns, restval="", lineterminator="\n").writerow(values)

    def _read(self) -> tuple[list[str], list[dict[str, str]]]:
        """Return the table's columns and its complete rows (a killed run may leave part of one)."""
        if not self.file.exists():
            return [], []
        lines = self.file.read_text(encoding="utf-8").split("\n")[:-1]
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
        write_whole(self.file, text.getvalue(), durable=True)  # or a power cut may leave an empty table
