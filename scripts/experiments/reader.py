"""What folders of experiments and of results tell, whoever wrote them: options, progress, curves, scores, images.

Training may go on meanwhile, files may be damaged, half written or hostile: what can't be read is noted down, and all
else is told. State files stay closed: reading a CycleGAN's takes 0.08 s, and the tables beside it tell as much.
"""

from __future__ import annotations

import csv
import json
import math
import os
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from options.legacy import RENAMED
from util.checkpoint.sources import saved_options
from util.metrics.table import METRICS
from util.pages.data_file import parse

OPTIONS = ("train_opt.txt", "opt.txt")  # of today, and of the reference's first years
MARKS = {"train_opt.json", *OPTIONS, "loss_log.txt", "metrics.csv"}
INSIDE = {"web", "tensorboard", "wandb", "images"}  # of an experiment
DEPTH = 8  # of folders in folders
POINTS = 100  # of a curve
MOST = 64 << 20  # bytes of a table that are read
IMAGE = re.compile(r"(epoch|validation)(\d{1,9})(?:_(\d{9}))?(?:_(\d{1,4}))?_(?!\d)(.+)\.(?:png|jpg)", re.ASCII)
LINE = re.compile(r"\(epoch: (\d+), iters: (\d+), [^)]*\) (.*)", re.ASCII)
ORDER = ("real_A", "fake_B", "real_B", "fake_A")  # in which images are shown


@dataclass
class Results:
    """A folder that test.py wrote."""

    folder: Path
    scores: dict[str, float]  # of evaluation.json


@dataclass
class Experiment:
    """What is known of an experiment, or of results that lie there without one."""

    name: str
    folder: Path | None = None
    options: dict[str, str] = field(default_factory=dict)
    told_defaults: dict[str, str] = field(default_factory=dict)  # those that train_opt.txt names
    begun: float | None = None  # seconds since 1970, as `saved`
    saved: float | None = None
    done: int | None = None  # epochs
    total: int | None = None
    best: dict[str, tuple[float, int]] = field(default_factory=dict)  # metric -> value, epoch
    losses: dict[str, list] = field(default_factory=dict)  # name -> [epochs, value], in order
    measured: dict[str, list] = field(default_factory=dict)  # the same of validation
    images: dict[str, Path] = field(default_factory=dict)  # label -> file
    shown: str = ""  # which images these are
    results: list[Results] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def lower_is_better(metric: str) -> bool:
    """Whether less is better; `psnr_A` is a psnr."""
    base = max((name for name in METRICS if metric == name or metric.startswith(f"{name}_")), key=len, default="")
    return base in METRICS and METRICS[base].lower


# ---- finding ----


def folders(root: Path, taken) -> Iterator[tuple[Path, set[str]]]:
    """Yield the folders below `root` with the names in them; `taken(names)` tells which folders are not entered."""
    known, waiting = set(), [(root, 0)]
    while waiting:
        folder, depth = waiting.pop()
        try:
            entries = list(os.scandir(folder))
            real = os.path.realpath(folder)
        except OSError:
            continue
        if real in known:  # links may lead in circles
            continue
        known.add(real)
        names = {entry.name for entry in entries}
        yield folder, names
        inside = taken(names)
        if depth < DEPTH and inside is not None:
            waiting += [
                (Path(entry.path), depth + 1) for entry in entries if entry.name not in inside and is_folder(entry)
            ]


def is_folder(entry: os.DirEntry) -> bool:
    """Whether a name leads to a folder."""
    try:
        return entry.is_dir()
    except OSError:
        return False


def is_experiment(names: set[str]) -> bool:
    """Whether a folder holds a training, or networks."""
    return bool(MARKS & names) or any("_net_" in name and name.endswith(".pth") for name in names)


def is_results(names: set[str]) -> bool:
    """Whether a folder holds results."""
    return bool({"images", "index.html", "evaluation.json"} & names)


def find(checkpoints: Path, results: Path) -> list[Experiment]:
    """Read all experiments below one folder and all results below the other, by name."""
    found: dict[str, Experiment] = {}
    for folder, names in folders(checkpoints, lambda names: INSIDE if is_experiment(names) else set()):
        if is_experiment(names):
            name = name_of(folder, checkpoints)
            found[name] = read_experiment(name, folder, names)
    for folder, names in folders(results, lambda names: None if is_results(names) else set()):
        if is_results(names):
            name = name_of(folder.parent, results)
            read_results(found.setdefault(name, Experiment(name)), folder, names)
    for experiment in found.values():
        experiment.results.sort(key=lambda one: one.folder.name)
        if not experiment.images and experiment.results:
            images_of_results(experiment, max(experiment.results, key=lambda one: changed(one.folder) or 0))
    return sorted(found.values(), key=lambda one: one.name)


def name_of(folder: Path, root: Path) -> str:
    """Return the name that `--name` gives a folder."""
    inside = os.path.relpath(folder, root)
    return Path(os.path.abspath(folder)).name if inside == "." else Path(inside).as_posix()  # noqa: PTH100


# ---- an experiment ----


def read_experiment(name: str, folder: Path, names: set[str]) -> Experiment:
    """Read a folder of checkpoints; what can't be read is noted."""
    experiment = Experiment(name, folder)
    for read in (read_options, read_losses, read_validation, read_progress, read_images):
        try:
            read(experiment, names)
        except OSError as error:
            experiment.notes.append(f"{Path(error.filename or folder).name}: {error.strerror or error}")
        except csv.Error as error:
            experiment.notes.append(f"a table is damaged ({error})")
    return experiment


def as_text(value: object) -> str:
    """Write an option's value as train_opt.txt does."""
    return "inf" if value is None else str(value)[:300]


def read_options(experiment: Experiment, names: set[str]) -> None:
    """Read train_opt.json or, of the reference's experiments, its text."""
    folder = experiment.folder
    if "train_opt.json" in names:
        saved = saved_options(folder)
        unset = {"seed", "best_metric"}  # which are null without being infinite
        experiment.options = {k: "None" if v is None and k in unset else as_text(v) for k, v in saved.items()}
        if not saved:
            experiment.notes.append("train_opt.json is damaged")
    for name in OPTIONS:
        if name in names:
            text = read_start(folder / name, 1 << 20).decode("utf-8", "replace")
            found = re.findall(r"^ *(\w+): (.*?)[ \t]*(?:\t\[default: (.*)\])?$", text, re.MULTILINE)
            found = [(RENAMED.get(key, key), value, default) for key, value, default in found]
            experiment.told_defaults = {key: default for key, _, default in found if default}
            experiment.options = experiment.options or {key: value for key, value, _ in found}
            break
    numbers = [whole(experiment.options.get(name)) for name in ("n_epochs", "n_epochs_decay")]
    experiment.total = sum(numbers) if None not in numbers else None


def whole(text: object) -> int | None:
    """Read a number of at most nine digits."""
    return int(text) if re.fullmatch(r"\d{1,9}", str(text), re.ASCII) else None


def number(text: object) -> float:
    """Read a number; what is none is not a number."""
    try:
        return float(text)
    except (TypeError, ValueError):
        return math.nan


def read_start(path: Path, size: int) -> bytes:
    """Return the beginning of a file."""
    with path.open("rb") as file:
        return file.read(size)


def lines_of(path: Path) -> list[str]:
    """Return a file's whole lines."""
    return read_start(path, MOST).decode("utf-8", "replace").split("\n")[:-1]


def table(path: Path, notes: list[str], most: int | None = None) -> list[dict[str, str]]:
    """Return rows of a table, at most so many and evenly spread, among them the last one; half ones are left out."""
    head, *lines = lines_of(path) or [""]
    stride = math.ceil(len(lines) / most) if most and lines else 1
    rows = list(csv.DictReader([head, *lines[(len(lines) - 1) % stride :: stride]]))
    rows = [row for row in rows if None not in row and None not in row.values()]
    if not path.stat().st_size:  # it is about to be written
        return []
    if "epoch" not in head.split(",") or (lines and not rows):
        notes.append(f"{path.name} is damaged")
        return []
    return rows


def read_losses(experiment: Experiment, names: set[str]) -> None:
    """Read the curves of the losses, over epochs: of metrics.csv or, where there is none, of the log."""
    points: list[tuple] = []
    if "metrics.csv" in names:
        for row in table(experiment.folder / "metrics.csv", experiment.notes, POINTS):
            place = [number(row.pop(name, "")) for name in ("epoch", "iters", "total_iters")]
            points.append((*place, {k: v for k, v in row.items() if k not in ("time", "data")}))
    elif "loss_log.txt" in names:
        lines = [line for line in lines_of(experiment.folder / "loss_log.txt") if line.startswith("(epoch: ")]
        stride = math.ceil(len(lines) / POINTS) if lines else 1
        for found in map(LINE.match, lines[(len(lines) - 1) % stride :: stride]):
            if found:
                words = found[3].split()
                losses = {key[:-1]: value for key, value in zip(words[::2], words[1::2], strict=False)}
                points.append((number(found[1]), number(found[2]), math.nan, losses))
    experiment.losses = curves(over_epochs(points))


def over_epochs(points: list[tuple]) -> list[tuple[float, dict]]:
    """Return the losses with the epochs done, in order: a start that went back replaces what came after."""
    sizes = [(total - iters) / (epoch - 1) for epoch, iters, total, _ in points if epoch > 1 and total > iters]
    size = sizes[-1] if sizes else max((iters for _, iters, _, _ in points if iters > 0), default=1)
    kept: list[tuple[float, dict]] = []
    for epoch, iters, _, losses in points:
        x = epoch - 1 + min(iters / size, 1)
        if math.isfinite(x):
            while kept and kept[-1][0] >= x:
                kept.pop()
            kept.append((x, losses))
    return kept


def curves(points: list[tuple[float, dict]]) -> dict[str, list]:
    """Turn points to curves of at most four digits; what is no number is left out."""
    lists: dict[str, list] = {}
    for x, values in points:
        for name, text in values.items():
            if math.isfinite(value := number(text)):
                lists.setdefault(name, []).append([round(x, 3), float(f"{value:.4g}")])
    return lists


def read_validation(experiment: Experiment, names: set[str]) -> None:
    """Read what was measured while training, and the best of it."""
    if "validation.csv" not in names:
        return
    rows = table(experiment.folder / "validation.csv", experiment.notes)
    rows = [(whole(row.pop("epoch")), row) for row in rows]
    rows = [(epoch, {k: v for k, v in row.items() if k != "total_iters"}) for epoch, row in rows if epoch is not None]
    stride = math.ceil(len(rows) / POINTS) if rows else 1
    experiment.measured = curves(rows[(len(rows) - 1) % stride :: stride])
    for name in dict.fromkeys(name for _, row in rows for name in row):
        values = [(number(row.get(name)), epoch) for epoch, row in rows]
        values = [(value, epoch) for value, epoch in values if math.isfinite(value)]
        if values:  # of equal ones the first, as in training
            sign = 1 if lower_is_better(name) else -1
            experiment.best[name] = min(values, key=lambda one: (sign * one[0], one[1]))
    if rows:
        experiment.done = rows[-1][0]


def read_progress(experiment: Experiment, names: set[str]) -> None:
    """Find out how many epochs are done, when training began and when it last saved."""
    folder = experiment.folder
    networks = [name for name in names if name.endswith(".pth") and "_net_" in name]
    numbered = {whole(name.partition("_net_")[0]) for name in networks} - {None}
    last = max((points[-1][0] for points in experiment.losses.values()), default=0)
    done = [*numbered, experiment.done or 0, math.floor(last)]
    if experiment.losses or experiment.done or numbered:
        experiment.done = max(done)
    newest = [name for name in networks if name.startswith("latest_") or whole(name.partition("_net_")[0]) in numbered]
    times = [seconds for name in newest or networks if (seconds := changed(folder / name))]
    experiment.saved = max(times, default=None)
    start = first_start(folder / "web" / "data.js") if "web" in names else None
    marks = ["first_batch.png"] if "first_batch.png" in names else sorted(MARKS & names)
    times = [seconds for name in marks if (seconds := changed(folder / name))]
    experiment.begun = start or min(times, default=None)


def changed(path: Path) -> float | None:
    """Return when a file was written."""
    try:
        return path.stat().st_mtime
    except OSError:
        return None


def first_start(data: Path) -> float | None:
    """Return when the run began that a training page shows."""
    try:
        lines = list(parse(read_start(data, 1 << 16)))
    except OSError:
        return None
    for call, values in lines:
        found = values[0].get("time") if call == "start" and values and isinstance(values[0], dict) else None
        if call == "begin" and values and whole(str(values[0])[:9]) and len(str(values[0])) == 19:
            found = int(str(values[0])) / 1e9
        if isinstance(found, (int, float)) and 0 < found < 1e11:
            return found
    return None


# ---- images, results ----


def read_images(experiment: Experiment, names: set[str]) -> None:
    """Find the last images of the training page: those of validation, if there are any, as they stay the same."""
    folder = experiment.folder / "web" / "images"
    rows: dict[tuple, dict] = {}
    for match in filter(None, map(IMAGE.fullmatch, listed(folder))):
        place = (match[1] == "validation", int(match[2]), int(match[3] or 0), int(match[4] or 0))
        rows.setdefault(place, {})[match[5]] = match[0]
    if rows:
        last = max(rows)
        first = {
            label: name for label, name in rows[last].items() if not re.search(r"_\d{1,3}$", label)
        }  # of the items
        experiment.images = {label: folder / first[label] for label in ordered(first)}
        experiment.shown = f"{'validation, ' if last[0] else ''}epoch {last[1]}"


def listed(folder: Path) -> list[str]:
    """Return the names in a folder, none if there is no such folder."""
    try:
        return os.listdir(folder)  # noqa: PTH208 - names are all that is needed of thousands of files
    except OSError:
        return []


def ordered(labels: Iterable[str]) -> list[str]:
    """Put input, output and target first."""
    return sorted(labels, key=lambda label: ((*ORDER, label).index(label), label))


def read_results(experiment: Experiment, folder: Path, names: set[str]) -> None:
    """Read a results folder."""
    scores = {}
    if "evaluation.json" in names:
        try:
            scores = scores_of(json.loads(read_start(folder / "evaluation.json", 1 << 20)))
        except (OSError, ValueError, RecursionError, LookupError, TypeError, AttributeError):
            experiment.notes.append(f"{folder.name}/evaluation.json is damaged")
    experiment.results.append(Results(folder, scores))


def scores_of(figures: dict) -> dict[str, float]:
    """Return the scores that evaluate.py wrote, means where there are several outputs."""
    values: dict[str, list[float]] = {}
    for output in figures["outputs"].values():
        for name, score in output["metrics"].items():
            values.setdefault(name, []).append(number(score["value"]))
    means = {name: math.fsum(each) / len(each) for name, each in values.items()}
    return {name: mean for name, mean in means.items() if math.isfinite(mean)}


def images_of_results(experiment: Experiment, results: Results) -> None:
    """Take the first images of a results page."""
    folder = results.folder / "images"
    names = listed(folder)
    outputs = [name for name in names if re.search(r"_fake(_[AB])?\.png$", name)]
    if outputs:
        stem = re.sub(r"_fake(_[AB])?\.png$", "", min(outputs))
        labels = {
            name[len(stem) + 1 : -4]: name for name in names if name.startswith(f"{stem}_") and name.endswith(".png")
        }
        labels = {label: name for label, name in labels.items() if re.match("real|fake|rec|idt", label)}
        experiment.images = {label: folder / labels[label] for label in ordered(labels)}
        experiment.shown = f"{results.folder.name}, {stem}"
