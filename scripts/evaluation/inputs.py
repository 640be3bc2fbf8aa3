"""The images that scripts/evaluate.py measures: a results folder, two folders, or an experiment's translations."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import numpy as np

from data import create_dataset
from data.formats import pillow
from data.image_folder import find_images
from models import create_model
from options.test_options import loading_processes
from scripts.evaluation.page import Row
from scripts.evaluation.results_folder import read_results
from util.checkpoint.checkpointer import Checkpointer
from util.checkpoint.run_folder import experiment_folder
from util.errors import UserError, list_names, printable, warn
from util.loggers.visuals import stretched, to_pictures
from util.metrics.table import METRICS
from util.pages.document import HTML
from util.pages.results_writer import name_rows
from util.runtime import seeds
from util.runtime.run_facts import run_facts, with_values
from util.speed.batching import batch_size, in_batches


class Task(NamedTuple):
    """The images to measure."""

    title: str
    out: Path
    count: int
    rows: Iterator[Row]  # lazily
    outputs: tuple[str, ...]  # labels, as fake_B
    paired: bool


def from_results(web: Path, args) -> Task:
    """Return the images that the last run of test.py has written."""
    found = read_results(web)
    outputs = with_truth(found.labels(), args.output)
    if not outputs:
        raise UserError(nothing_found(args, found.images, found.labels()))
    paired = compares_pairs(args, found.paired, web)
    wanted = {*outputs} if paired else {*outputs, *map(truth, outputs)}
    rows = [row for row in found.rows if row.pictures.keys() & wanted]
    if len(rows) < len(found.rows):
        print(f"{len(found.rows) - len(rows):,} images without {' or '.join(outputs)} are left out")
    if paired:
        needed = [(row, truth(label)) for row in rows for label in outputs if label in row.pictures]
        check_missing([f"{row.name}_{real}.png" for row, real in needed if real not in row.pictures], len(rows))
    return Task(str(web), web, len(rows), iter(rows), tuple(outputs), paired)


def compares_pairs(args, known: bool | None, source: object) -> bool:
    """Whether each result is compared with its ground truth: as typed, or as the dataset says (`known`).

    Where that is unknown, results are compared as pairs only if a metric of pairs is named.
    """
    if args.paired or args.unpaired:
        return args.paired
    if known is None:
        if any(METRICS[name].paired for name in names_in(args.metrics) if name in METRICS):
            return True
        print(f"{printable(source)} does not say whether results and real images are pairs; --paired if they are")
    elif not known:
        print("the dataset has no pairs: real_B is not the ground truth of fake_B (--paired if yours are pairs)")
    return bool(known)


def names_in(metrics: str | None) -> list[str]:
    """Return the metrics that --metrics names."""
    return [name.strip() for name in (metrics or "").split(",") if name.strip()]


def with_truth(labels: list[str], wanted: str | None) -> list[str]:
    """Return the labels fake_X that have a real_X; not `fake` of --model test, whose `real` is its input."""
    fakes = [label for label in labels if label.startswith("fake_") and wanted in (None, label)]
    return [label for label in fakes if truth(label) in labels]


def truth(label: str) -> str:
    """Return the label of the real images that correspond to a label."""
    return label.replace("fake", "real", 1)


def nothing_found(args, folder: Path, labels: list[str]) -> str:
    """Explain why there is nothing to measure."""
    wanted = args.output or "fake_B"
    if not any(label.startswith("fake") for label in labels):
        return f"no *_{wanted}.png in {printable(folder)}: name a folder that test.py wrote, results/NAME/test_latest"
    return (
        f"{printable(folder)} has {', '.join(labels)}, but no {wanted} with its {truth(wanted)}: also name the folder "
        "of the real images: scripts/evaluate.py FOLDER_OF_RESULTS FOLDER_OF_TRUTHS"
    )


def check_missing(missing: list[str], count: int) -> None:
    """Raise UserError if ground truths are missing."""
    if missing:
        raise UserError(
            f"missing for {count:,} results: {list_names(missing, 5)}. Pairs need the ground truth of each result; "
            "--unpaired compares two sets"
        )


def from_folders(results: Path, truths: Path, args) -> Task:
    """Return two folders' images as pairs, by the names of their files, or as two sets."""
    fakes, label = images_of(results, args.output, "fake")
    reals, _ = images_of(truths, label and truth(label), "real")
    common = fakes.keys() & reals.keys()
    paired = args.paired or (bool(common) and not args.unpaired)
    title = f"{results} against {truths}"
    if paired:
        check_missing([name for name in fakes if name not in common], len(fakes))
        if len(reals) > len(fakes):
            warn(f"{len(reals) - len(fakes):,} images of {printable(truths)} have no result: left out")
        rows = (Row(name, {"fake_B": fakes[name], "real_B": reals[name]}) for name in sorted(common))
        return Task(title, results, len(fakes), rows, ("fake_B",), True)
    if not args.unpaired:
        print("the two folders have no file names in common: they are compared as two sets")
    sets = (("fake_B", fakes), ("real_B", reals))
    rows = (Row(name, {kind: paths[name]}) for kind, paths in sets for name in sorted(paths))
    return Task(title, results, len(fakes) + len(reals), rows, ("fake_B",), False)


def images_of(folder: Path, label: str | None, kind: str) -> tuple[dict[str, Path], str | None]:
    """List one folder's images by name; of a results folder those of one label, which is also returned."""
    found = read_results(folder)
    labels = [name for name in found.labels() if name.startswith(kind)]
    if label in labels or (label is None and len(labels) == 1):
        label = label or labels[0]
        return {row.name: row.pictures[label] for row in found.rows if label in row.pictures}, label
    if labels and kind == "fake":
        raise UserError(f"{printable(found.images)} has {', '.join(labels)}: choose by --output")
    files, paths = find_images(folder), {}
    pillow.check_first(files)
    for path in map(Path, files):
        name = path.relative_to(folder).with_suffix("").as_posix()
        if name in paths:
            raise UserError(f"{printable(paths[name])} and {printable(path)} have the same name: remove one")
        paths[name] = path
    return paths, None


def from_experiment(opt, args) -> Task:
    """Prepare to translate a dataset as test.py does, without writing the results."""
    if "num_test" not in run_facts(opt).typed:
        opt.num_test = math.inf
    if not experiment_folder(opt).is_dir():
        raise UserError(f"--name {printable(opt.name)}: {Checkpointer(experiment_folder(opt)).describe_contents()}")
    if opt.dataset_mode == "single":
        raise UserError(f"--model {opt.model} has no ground truth: type the training's --model")
    one_by_one = with_values(opt, batch_size=1, num_threads=loading_processes(opt))
    dataset, model = create_dataset(one_by_one), create_model(opt)
    model.setup(opt)
    if opt.eval:
        model.eval()
    labels = model.visual_names
    outputs = with_truth(labels, args.output)
    if not outputs:
        raise UserError(f"model {opt.model} shows {', '.join(labels)}: no {args.output or 'fake_X'} with its real_X")
    folder = f"{opt.phase}_{opt.epoch}" + (f"_iter{opt.load_iter}" if opt.load_iter > 0 else "")
    out = Path(opt.results_dir) / opt.name / folder
    paired = compares_pairs(args, run_facts(opt).paired, f"--dataset_mode {opt.dataset_mode}")
    count = int(min(opt.num_test, len(dataset)))
    return Task(f"{opt.name}, {folder}", out, count, translated(opt, dataset, model, count), tuple(outputs), paired)


def translated(opt, dataset, model, count: int) -> Iterator[Row]:
    """Yield the images that test.py would write."""
    with tempfile.TemporaryDirectory() as folder:
        names = HTML(folder, "")
        for first, batch in in_batches(islice(dataset, count), batch_size(model, opt.batch_size)):
            seeds.seed_all(opt.seed, "test", first)
            model.set_input(batch)
            model.test()
            pictures = {label: to_pictures(visual) for label, visual in model.get_current_visuals().items()}
            for row in name_rows(names, pictures, model.get_image_paths()):
                images = row.pictures.items()
                yield Row(row.name, {label: np.asarray(stretched(image, opt.aspect_ratio)) for label, image in images})
