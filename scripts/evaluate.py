"""Measure results: how close they are to the ground truth, and how similar their set is to the real one.

    python scripts/evaluate.py results/NAME/test_latest              results of test.py
    python scripts/evaluate.py FOLDER_OF_RESULTS FOLDER_OF_TRUTHS    any two folders
    python scripts/evaluate.py --name NAME --dataroot DATA           an experiment: all images, translated as by test.py

Prints a table, and writes it next to the results as evaluation.csv and evaluation.json. Pairs also get a line each in
evaluation_images.csv. The results page, index.html, shows the scores (metrics.js) and sorts its rows by them. Other
folders get a page of the same kind, evaluation.html, with the best and worst images. Metrics of pairs: l1, psnr, ssim,
ms_ssim, lpips. Metrics of two sets: fid, kid, fd_lite0, kid_lite0. For pairs, two baselines need no training: the input
itself, and with --train_B the mean of the training targets. A model that does not beat both has learned nothing useful.
"""

from __future__ import annotations

import argparse
import csv
import io
import itertools
import json
import math
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
import util.runtime.threads  # noqa: F401 - before torch

import torch
from tqdm import tqdm

from options.test_options import TestOptions
from scripts.evaluation.inputs import Task, from_experiment, from_folders, from_results, names_in
from scripts.evaluation.outputs import Output
from scripts.evaluation.page import Section, baseline_rows, score_rows, show
from scripts.evaluation.targets import MeanImage, targets
from util.checkpoint.atomic_files import replacing, write_whole
from util.errors import UserError, did_you_mean, explained_errors, printable
from util.metrics.evaluation import Score, default_metrics
from util.metrics.table import METRICS
from util.pages.document import valid_utf8
from util.runtime.device import device_of
from util.runtime.signals import unbreakable_output


def main(words: list[str]) -> None:
    """Measure the images that the command line names."""
    parser = make_parser()
    args, rest = parser.parse_known_args(words)
    weights = weights_of(parser, args.weights)
    typed = [] if args.direction is None else ["--direction", args.direction]
    if any(word.split("=")[0] in ("--name", "--dataroot") for word in rest):
        opt = TestOptions(rest + typed + (["--gpu_ids", args.gpu_ids] if args.gpu_ids else [])).parse()
        args.direction = opt.direction
        task, device = from_experiment(opt, args), opt.device
    else:
        folders, device = folders_of(parser, rest), device_of(args.gpu_ids)
        task = from_folders(*folders, args) if len(folders) == 2 else from_results(*folders, args)
    names = choose_metrics(args, task.paired, weights)
    out = args.out or task.out
    out.mkdir(parents=True, exist_ok=True)
    report(args, out, task, measure(args, task, names, device, weights, out))


def make_parser() -> argparse.ArgumentParser:
    """Make the parser of the options that are not test.py's."""
    parser = argparse.ArgumentParser(
        usage="evaluate.py (RESULTS | RESULTS TRUTHS | --name NAME --dataroot DATA [options of test.py]) [options]",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
        epilog="With --name and --dataroot, all options of test.py work. docs/evaluation.md explains the metrics.",
    )
    add = parser.add_argument
    add("--metrics", help=f"separated by commas: {', '.join(METRICS)} [those of pairs, or fd_lite0,kid_lite0]")
    add("--weights", action="append", default=[], metavar="METRIC=FILE", help="a network's file: fid=... or lpips=...")
    add("--no_download", action="store_true", help="missing weights are an error")
    add("--output", metavar="LABEL", help="measure only this, as fake_A [every fake_X that has a real_X]")
    pairing = parser.add_mutually_exclusive_group()
    pairing.add_argument("--paired", action="store_true", help="each result has its ground truth, even CycleGAN's")
    pairing.add_argument("--unpaired", action="store_true", help="only metrics of sets")
    add("--train_B", type=Path, help="fake_B's training targets, alone or in A | B pairs: measure their mean")
    add("--direction", choices=("AtoB", "BtoA"), help="of the results: BtoA's targets are left halves of pairs [AtoB]")
    add("--out", type=Path, help="folder for the files [the results']")
    add("--gpu_ids", help="as for test.py; -1: the CPU [a GPU if there is one]")
    return parser


def folders_of(parser: argparse.ArgumentParser, words: list[str]) -> list[Path]:
    """Read the one or two folders."""
    for word in words:
        if word.startswith("-"):
            options = [option for action in parser._actions for option in action.option_strings]
            parser.error(f"{printable(word)}: no such option.{did_you_mean(word, options)}")
    if not 1 <= len(words) <= 2:
        parser.error("name a results folder, or results and truths, or an experiment: --name NAME --dataroot DATA")
    return [Path(word) for word in words]


def weights_of(parser: argparse.ArgumentParser, words: list[str]) -> dict[str, Path]:
    """Read --weights METRIC=FILE."""
    weights = {}
    for word in words:
        name, _, path = word.partition("=")
        if not path or name not in ("fid", "kid", "lpips"):
            parser.error(f"--weights {printable(word)}: fid=FILE (also for kid) or lpips=FILE")
        weights[name] = Path(path)
    return weights


def choose_metrics(args, paired: bool, weights: dict[str, Path]) -> list[str]:
    """Return the metrics to measure."""
    if args.metrics is None:
        return default_metrics(paired, weights)
    names = names_in(args.metrics)
    of_pairs = [name for name in names if name in METRICS and METRICS[name].paired]
    if of_pairs and not paired:
        others = ", ".join(name for name, metric in METRICS.items() if not metric.paired)
        raise UserError(
            f"--metrics {','.join(of_pairs)}: these compare each result with its ground truth, and there are no pairs "
            f"here; --paired if there are. Without pairs: {others}"
        )
    if not names:
        raise UserError("--metrics names no metric")
    return names


# ---- measuring ----


def measure(args, task: Task, names: list[str], device, weights: dict[str, Path], out: Path) -> list[Section]:
    """Measure all images, and write a line per pair to evaluation_images.csv; return a section per output."""
    settings = {"device": device, "weights": weights, "download": not args.no_download}
    side = "A" if args.direction == "BtoA" else "B"  # of the files
    mean_B = MeanImage(lambda size: targets(args.train_B, side, size)) if args.train_B else None
    outputs = [Output(label, task.paired, names, mean_B, **settings) for label in task.outputs]
    of_pairs = [name for name in names if METRICS[name].paired] if task.paired else []
    with replacing(out / "evaluation_images.csv") as new, new.open("w", encoding="utf-8", newline="") as file:
        lines = csv.writer(file)
        lines.writerow(["image", "output", *of_pairs])
        for row, output in itertools.product(tqdm(task.rows, total=task.count, disable=None), outputs):
            if values := output.add(row):
                cells = ["" if math.isnan(values[name]) else repr(values[name]) for name in of_pairs]
                lines.writerow([valid_utf8(row.name), output.label, *cells])
    if not of_pairs:
        (out / "evaluation_images.csv").unlink()  # also that of an earlier call
    return [output.section() for output in outputs]


# ---- reporting ----


def report(args, out: Path, task: Task, sections: list[Section]) -> None:
    """Print the tables and write the files."""
    for section in sections:
        print_section(section, task)
    write_whole(out / "evaluation.json", json.dumps(as_json(task, sections), indent=1) + "\n")
    write_whole(out / "evaluation.csv", as_csv(task, sections))
    page = show(out, f"Evaluation of {task.title}", sections)
    for file in (out / "evaluation.json", out / "evaluation.csv", out / "evaluation_images.csv", page):
        if file.exists():  # evaluation_images.csv needs pairs
            print(printable(file))


def print_section(section: Section, task: Task) -> None:
    """Print one output's scores, baselines and notes."""
    print(f"\n{printable(task.title)}: {section.title}, {'pairs' if task.paired else 'two sets'}")
    print(f"{'metric':10} {'value':>12}   {'95 % interval':24} {'':17} images")
    for name, value, interval, direction, images in score_rows(section):
        print(f"{name:10} {value:>12}   {interval:24} {direction:17} {images}")
    for number, (label, *cells) in enumerate(baseline_rows(section)):
        print("\n" * (number == 0) + f"{label:25}" + "".join(f"{cell:>10}" for cell in cells))
    for note in section.notes:
        print(f"note: {note}")


def as_json(task: Task, sections: list[Section]) -> dict:
    """Return all scores; infinite ones are null."""
    import torchmetrics

    outputs = {}
    for label, section in zip(task.outputs, sections, strict=True):
        answers = {baseline: plain(scores) for baseline, scores in section.baselines.items()}
        outputs[label] = {"metrics": plain(section.scores), "answers": answers, "notes": section.notes}
    versions = {"torchmetrics": torchmetrics.__version__, "torch": str(torch.__version__)}
    return {"of": valid_utf8(task.title), "paired": task.paired, "outputs": outputs, **versions}


def as_csv(task: Task, sections: list[Section]) -> str:
    """Return the table: a line per output, or baseline, and metric."""
    text = io.StringIO()
    lines = csv.writer(text, lineterminator="\n")
    lines.writerow(["output", "of", "metric", "value", "low", "high", "images", "unit", "lower_is_better"])
    for label, section in zip(task.outputs, sections, strict=True):
        for of, scores in {"the result": section.scores, **section.baselines}.items():
            for name, score in scores.items():
                lines.writerow([label, of, name, *score, METRICS[name].unit, METRICS[name].lower])
    return text.getvalue()


def plain(scores: dict[str, Score]) -> dict:
    """Return scores as JSON."""
    found = {}
    for name, score in scores.items():
        numbers = {key: value if math.isfinite(value) else None for key, value in score._asdict().items()}
        found[name] = {**numbers, "unit": METRICS[name].unit, "lower_is_better": METRICS[name].lower}
    return found


if __name__ == "__main__":
    unbreakable_output()
    with explained_errors():
        main(sys.argv[1:])
