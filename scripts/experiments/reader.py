"""Facts about experiments and results, read from the small files in their folders, whoever wrote them.

Training may be running, and files may be damaged or hostile: what cannot be read becomes a note.
"""

from __future__ import annotations

import csv
import json
import math
import os
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from options.legacy import RENAMED
from util.metrics.table import METRICS

INSIDE = {"web", "images", "tensorboard", "wandb"}  # folders of an experiment or of results; they hold no experiments
IMAGE_FILE = re.compile(r"(.+)_((?:real|fake|rec|idt)(?:_\w+)?)\.png")  # a row's name, a label
LARGEST = 1 << 22  # bytes that are read of one file
OPTION = re.compile(r"^ *(\w+): (.*?)[ \t]*(?:\t\[default: (.*)\])?$", re.MULTILINE)
LOSSES = re.compile(r"^\(epoch: (\d{1,9}), iters: \d+, [^)\n]*\) (.*)\n", re.MULTILINE | re.ASCII)


@dataclass
class Experiment:
    """Facts about an experiment, or about results without one."""

    name: str
    folder: Path | None = None
    options: dict[str, str] = field(default_factory=dict)
    changed: dict[str, str] = field(default_factory=dict)  # the options that differ from their defaults
    epoch: int = 0  # the newest one in the log
    epochs: int = 0  # their total number
    losses: dict[str, float] = field(default_factory=dict)  # the last ones printed
    best: dict[str, tuple[float, int]] = field(default_factory=dict)  # validation metric -> value, epoch
    images: dict[str, Path] = field(default_factory=dict)  # label -> file
    results: list[tuple[Path, dict[str, float]]] = field(default_factory=list)  # folder, scores of evaluate.py
    updated: float = 0  # seconds since 1970
    notes: list[str] = field(default_factory=list)

    def read(self, reader: Callable[[Experiment, Path], None], path: Path) -> None:
        """Call a reader if there is such a file; whatever is wrong with it becomes a note."""
        try:
            if path.exists():
                self.updated = max(self.updated, path.stat().st_mtime)
                reader(self, path)
        except OSError as error:
            self.notes.append(f"{path.name}: {error.strerror or error}")
        except (ValueError, LookupError, TypeError, AttributeError, RecursionError, csv.Error):
            self.notes.append(f"{path.name} is damaged")


def find(checkpoints: Path, results: Path) -> list[Experiment]:
    """Read all experiments below one folder and all results below the other; return them by name."""
    found: dict[str, Experiment] = {}
    for folder, names in folders(checkpoints):
        if any(re.search(r"^loss_log\.txt$|_net_.*\.pth$", name) for name in names):
            name = name_of(folder, checkpoints)
            found[name] = Experiment(name, folder)
            found[name].read(read_options, folder / "train_opt.txt")
            found[name].read(read_losses, folder / "loss_log.txt")
            found[name].read(read_validation, folder / "validation.csv")
            found[name].read(read_images, folder / "web" / "images")
    for folder, names in folders(results):
        if {"images", "evaluation.json"} & names:
            name = name_of(folder.parent, results)
            found.setdefault(name, Experiment(name)).read(read_results, folder)
    return sorted(found.values(), key=lambda experiment: experiment.name)


def folders(root: Path) -> Iterator[tuple[Path, set[str]]]:
    """Yield the folders below `root`, and the names in them; links are followed once."""
    known = set()
    for path, subfolders, files in os.walk(root, followlinks=True):
        new = os.path.realpath(path) not in known
        known.add(os.path.realpath(path))
        if new:
            yield Path(path), {*subfolders, *files}
        subfolders[:] = sorted(set(subfolders) - INSIDE) if new else []


def name_of(folder: Path, root: Path) -> str:
    """Return the name that `--name` gives a folder."""
    return Path(os.path.relpath(folder, root / ".." if folder == root else root)).as_posix()


def read_text(path: Path) -> str:
    """Return a text file, or the end of a large one."""
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - LARGEST))
        return file.read(LARGEST).decode("utf-8", "replace")


def read_options(experiment: Experiment, path: Path) -> None:
    """Read the options as text, which has the defaults of those that differ from them."""
    found = [(RENAMED.get(name, name), value, default) for name, value, default in OPTION.findall(read_text(path))]
    experiment.options = {name: value for name, value, _ in found}
    experiment.changed = {name: value for name, value, default in found if default}
    experiment.epochs = sum(int(experiment.options[name][:9]) for name in ("n_epochs", "n_epochs_decay"))


def read_losses(experiment: Experiment, path: Path) -> None:
    """Read the last losses from the log."""
    for epoch, text in LOSSES.findall(read_text(path))[-1:]:
        words = text.replace(":", "").split()
        experiment.losses, experiment.epoch = finite(dict(zip(words[::2], words[1::2], strict=True))), int(epoch)


def finite(values: dict[str, str]) -> dict[str, float]:
    """Return the finite numbers."""
    numbers = {name: float(value or "nan") for name, value in values.items()}
    return {name: number for name, number in numbers.items() if math.isfinite(number)}


def read_validation(experiment: Experiment, path: Path) -> None:
    """Find the best value of every metric; of equal ones the first, as in training."""
    *lines, _ = read_text(path).split("\n")  # the last line may be incomplete
    for row in csv.DictReader(lines):
        epoch, _ = int(row.pop("epoch")), row.pop("total_iters")
        for name, value in finite(row).items():
            lower = any(known.lower and name.startswith(metric) for metric, known in METRICS.items())  # also psnr_A
            best, _ = experiment.best.get(name, (math.inf if lower else -math.inf, 0))
            if (value < best) if lower else (value > best):
                experiment.best[name] = (value, epoch)


def read_images(experiment: Experiment, folder: Path) -> None:
    """Find the newest images of the training page, where those of validation come first, or one row of results."""
    rows: dict[str, dict[str, Path]] = {}
    for path in folder.iterdir():
        if match := IMAGE_FILE.fullmatch(path.name):
            rows.setdefault(re.sub("[0-9]+", lambda digits: digits[0].zfill(9), match[1]), {})[match[2]] = path
    experiment.images = rows[max(rows)] if rows else {}


def read_results(experiment: Experiment, folder: Path) -> None:
    """Read a folder that test.py wrote: the scores of evaluate.py, and an image if the experiment has none."""
    scores: dict[str, float] = {}

    def read_scores(_, path):
        outputs = json.loads(read_text(path))["outputs"]
        for output, values in outputs.items():
            prefix = f"{output} " if len(outputs) > 1 else ""
            scores.update(finite({prefix + name: score["value"] for name, score in values["metrics"].items()}))

    experiment.results.append((folder, scores))
    if not experiment.images:
        experiment.read(read_images, folder / "images")
    file, page = folder / "evaluation.json", folder / "data.js"
    if file.exists() and page.exists() and file.stat().st_mtime < page.stat().st_mtime:
        experiment.notes.append(f"{folder.name}/{file.name} measures an earlier run of test.py")
    else:
        experiment.read(read_scores, file)
