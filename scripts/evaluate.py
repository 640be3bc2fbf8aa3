"""Measure results: how near they are to the truth, and how much their set looks like the real one.

    python scripts/evaluate.py results/NAME/test_latest              what test.py wrote
    python scripts/evaluate.py FOLDER_OF_RESULTS FOLDER_OF_TRUTHS    any two folders
    python scripts/evaluate.py --name NAME --dataroot DATA           an experiment: all images, translated as by test.py

Prints a table, and writes it beside the results as evaluation.csv and evaluation.json; of pairs, also a line per image,
evaluation_images.csv, the best and worst images by each measure, evaluation.html, and metrics.js, by which the results'
index.html sorts its rows. Of pairs: l1, psnr, ssim, ms_ssim, lpips. Of two sets: fid, kid, fd_lite0, kid_lite0. Beside
them, for pairs, answers that need no training: the input itself, and with --train_B the mean of the training targets. A
translation that does not beat both has learned nothing useful.
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import io
import json
import math
import shutil
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
import numpy as np
import torch

from data.formats import pillow
from options.test_options import TestOptions
from scripts.evaluation.inputs import Task, of_experiment, of_folders, of_results, truth
from scripts.evaluation.page import Extremes, Picture, Place, Row, Section, better, formatted, kept, make_page, span
from scripts.evaluation.targets import MeanImage, targets
from util.checkpoint.atomic_files import replacing, write_whole
from util.errors import UserError, did_you_mean, explained_errors, printable
from util.metrics.evaluation import Evaluation, Score, ready
from util.metrics.table import METRICS
from util.pages.data_file import as_line
from util.pages.document import shown
from util.runtime.device import device_of
from util.runtime.signals import unbreakable_output

OTHER = {"B": "A", "A": "B"}
SAMPLES = 8  # rows of the page where there are no pairs
EVERY = 10  # seconds between two lines of progress


def main(words: list[str]) -> None:
    """Measure what the command line asks for."""
    parser = make_parser()
    args, rest = parser.parse_known_args(words)
    weights = weights_of(parser, args.weights)
    asked = [] if args.direction is None else ["--direction", args.direction]
    if any(word.split("=")[0] in ("--name", "--dataroot") for word in rest):
        opt = TestOptions(rest + asked + (["--gpu_ids", args.gpu_ids] if args.gpu_ids else [])).parse()
        args.direction = opt.direction
        task, device = of_experiment(opt, args), opt.device
    else:
        folders, device = folders_of(parser, rest), device_of(args.gpu_ids)
        task = of_folders(*folders, args) if len(folders) == 2 else of_results(*folders, args)
    names = chosen(args, task.paired, weights)
    out = args.out or task.out
    out.mkdir(parents=True, exist_ok=True)
    report(args, out, task, measured(args, task, names, device, weights, out))


def make_parser() -> argparse.ArgumentParser:
    """Make the parser of what is not test.py's."""
    parser = argparse.ArgumentParser(
        usage="evaluate.py (RESULTS | RESULTS TRUTHS | --name NAME --dataroot DATA [options of test.py]) [options]",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
        epilog="With --name and --dataroot any option of test.py may follow. docs/evaluation.md explains the figures.",
    )
    add = parser.add_argument
    add("--metrics", help=f"separated by commas: {', '.join(METRICS)} [all that need nothing to be fetched]")
    add("--weights", action="append", default=[], metavar="METRIC=FILE", help="a network's file: fid=... or lpips=...")
    add("--no_download", action="store_true", help="fetch no weights; those that are missing are an error")
    add("--output", metavar="LABEL", help="measure only this, as fake_A [every fake_X that has a real_X]")
    pairing = parser.add_mutually_exclusive_group()
    pairing.add_argument("--paired", action="store_true", help="each result has its truth, also where CycleGAN made it")
    pairing.add_argument("--unpaired", action="store_true", help="only metrics of sets")
    add("--train_B", type=Path, help="fake_B's training targets, alone or in A | B pairs: measure their mean")
    add("--direction", choices=("AtoB", "BtoA"), help="of the results: BtoA's targets are left halves of pairs [AtoB]")
    add("--out", type=Path, help="folder for the files [the results']")
    add("--json", type=Path, help="write the figures to this file in place of evaluation.json")
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
        name, separator, path = word.partition("=")
        if not separator or not path or name not in ("fid", "kid", "lpips"):
            parser.error(f"--weights {printable(word)}: fid=FILE (also for kid) or lpips=FILE")
        weights[name] = Path(path)
    return weights


def chosen(args, paired: bool, weights: dict[str, Path]) -> list[str]:
    """Return the metrics to measure."""
    if args.metrics is None:
        return [name for name in ready(weights) if paired or not METRICS[name].paired]
    names = [name.strip() for name in args.metrics.split(",") if name.strip()]
    need_pairs = [name for name in names if name in METRICS and METRICS[name].paired]
    if need_pairs and not paired:
        raise UserError(
            f"--metrics {','.join(need_pairs)}: compared is each result with its truth, and there are no pairs here; "
            f"--paired if there are. Without pairs: {', '.join(n for n, m in METRICS.items() if not m.paired)}"
        )
    if not names:
        raise UserError("--metrics names none")
    return names


# ---- measuring ----


def read(picture: Picture) -> np.ndarray:
    """Return a picture as uint8 (H, W, 3)."""
    return np.asarray(pillow.load(picture)) if isinstance(picture, Path) else picture


def as_batch(image: np.ndarray) -> torch.Tensor:
    """Return a picture (H, W, 3) as a batch of one, (1, 3, H, W)."""
    return torch.from_numpy(np.array(image)).permute(2, 0, 1)[None]


class Output:
    """One kind of results, fake_X, and what they come to."""

    def __init__(self, label: str, paired: bool, names: list[str], mean_B: MeanImage | None, **settings):
        self.label, self.real, self.paired, self.mean_B = label, truth(label), paired, mean_B
        self.source = f"real_{OTHER.get(label.removeprefix('fake_'), 'A')}"
        self.evaluation = Evaluation(names, **settings)
        pixels = [name for name in names if METRICS[name].paired] if paired else []
        self.extremes = {name: Extremes(name) for name in pixels}
        self.answers = {"the input itself": Evaluation(pixels, **settings)} if pixels else {}
        if mean_B and pixels and label != "fake_A":
            self.answers["the mean training target"] = Evaluation(pixels, **settings)
        self.seen: set[bytes] = set()  # real images of unpaired rows
        self.samples: list[Place] = []

    def add(self, row: Row) -> dict[str, float]:
        """Take a row; return the values of its pair."""
        if self.paired:
            return self._add_pair(row)
        if self.label in row.pictures and not self._repeated(row, self.source):
            self.evaluation.add_fake(as_batch(read(row.pictures[self.label])))
        if self.real in row.pictures and not self._repeated(row, self.real):
            self.evaluation.add_real(as_batch(read(row.pictures[self.real])))
        return {}

    def _repeated(self, row: Row, label: str) -> bool:
        """Whether a real image was there before: the smaller domain is gone through more than once."""
        if label not in row.pictures or len(row.pictures) == 1:
            return False
        key = hashlib.blake2b(label.encode() + read(row.pictures[label]).tobytes(), digest_size=16).digest()
        if key in self.seen:
            return True
        self.seen.add(key)
        return False

    def _add_pair(self, row: Row) -> dict[str, float]:
        fake, real = (read(row.pictures[label]) for label in (self.label, self.real))
        if fake.shape != real.shape:
            raise UserError(wrong_size(row, self.label, fake, real))
        values = {name: own[0] for name, own in self.evaluation.add(as_batch(fake), as_batch(real)).items()}
        for name, value in values.items():
            self.extremes[name].add(value, row)
        if "the input itself" in self.answers:
            source = read(row.pictures[self.source]) if self.source in row.pictures else None
            if source is None or source.shape != real.shape:
                del self.answers["the input itself"]  # it answers all, or it is no answer
            else:
                self.answers["the input itself"].add(as_batch(source), as_batch(real))
        if "the mean training target" in self.answers:
            mean = self.mean_B.at((real.shape[1], real.shape[0]))
            self.answers["the mean training target"].add(as_batch(mean), as_batch(real))
        return values

    def section(self, title: str) -> Section:
        """Compute what came of it."""
        scores = self.evaluation.compute()
        notes = [f"{name}: not measured; {why}" for name, why in self.evaluation.missing.items()]
        answers = {name: answer.compute() for name, answer in self.answers.items()}
        extremes = {name: own for name, own in self.extremes.items() if name in scores}
        labels = (self.source, self.label, self.real)
        return Section(title, scores, answers, notes + self.evaluation.notes, extremes, self.samples, labels)


def wrong_size(row: Row, label: str, fake: np.ndarray, real: np.ndarray) -> str:
    """Say which image differs in size from its truth."""
    picture = row.pictures[label]
    name = printable(picture if isinstance(picture, Path) else row.name)
    text = f"{name} is {fake.shape[1]} x {fake.shape[0]}, the truth {real.shape[1]} x {real.shape[0]}"
    if real.shape[1] == 2 * fake.shape[1]:
        text += "; are these A | B pairs? The folder of B alone is needed"
    return text


def measured(args, task: Task, names: list[str], device, weights: dict[str, Path], out: Path) -> list[Section]:
    """Go through all images, writing a line for each pair to evaluation_images.csv; return what each output came to."""
    settings = {"device": device, "weights": weights, "download": not args.no_download}
    side = "A" if args.direction == "BtoA" else "B"  # of the files
    mean_B = MeanImage(lambda size: targets(args.train_B, side, size)) if args.train_B else None
    outputs = [Output(label, task.paired, names, mean_B, **settings) for label in task.outputs]
    pixels = [name for name in names if METRICS[name].paired] if task.paired else []
    shown_ones = {k * task.count // SAMPLES for k in range(SAMPLES)}
    said = time.monotonic()
    with replacing(out / "evaluation_images.csv") as new, new.open("w", encoding="utf-8", newline="") as file:
        lines = csv.writer(file)
        lines.writerow(["image", "output", *pixels])
        for number, row in enumerate(task.rows, 1):
            for output in outputs:
                values = output.add(row)
                if not task.paired and number - 1 in shown_ones and output.label in row.pictures:
                    output.samples.append(Place(0, number, math.nan, kept(row)))
                if values:
                    cells = ["" if math.isnan(values[name]) else repr(values[name]) for name in pixels]
                    lines.writerow([shown(row.name), output.label, *cells])
            if time.monotonic() - said > EVERY:
                said = time.monotonic()
                print(f"{number:,} of {task.count:,} images", flush=True)
    if not pixels:
        (out / "evaluation_images.csv").unlink()  # and what an earlier call wrote, of other figures
    return [output.section(f"{output.label} against {output.real}") for output in outputs]


# ---- telling ----


def report(args, out: Path, task: Task, sections: list[Section]) -> None:
    """Print the tables and write the files."""
    for section in sections:
        print_section(section, task)
    shutil.rmtree(out / "evaluation_images", ignore_errors=True)
    figures = as_json(args, task, sections)
    json_path, page = args.json or out / "evaluation.json", out / "evaluation.html"
    write_whole(json_path, json.dumps(figures, indent=1) + "\n")
    write_whole(out / "evaluation.csv", as_csv(task, sections))
    write_whole(page, make_page(out, f"Evaluation of {task.title}", sections))
    for path in (json_path, out / "evaluation.csv", out / "evaluation_images.csv", page):
        if path.exists():  # without pairs there is nothing to say of single images
            print(printable(path))
    if (out / "data.js").exists():
        tell_page(out, len(sections) > 1)


def tell_page(web: Path, several: bool) -> None:
    """Write evaluation_images.csv as metrics.js, by which the results page beside it shows and sorts its rows."""
    values: dict[str, dict[str, float]] = {}
    lower: dict[str, bool] = {}
    if (web / "evaluation_images.csv").exists():
        with (web / "evaluation_images.csv").open(encoding="utf-8", newline="") as file:
            for line in csv.DictReader(file):
                image, output = line.pop("image"), line.pop("output")
                for name, cell in line.items():
                    label = f"{name} {output}" if several else name
                    lower[label] = METRICS[name].lower
                    values.setdefault(image, {})[label] = float(cell or "nan")
    write_whole(web / "metrics.js", as_line("metrics", {"order": list(lower), "lower": lower, "values": values}))


def print_section(section: Section, task: Task) -> None:
    """Print one output's scores, and what is to be compared with them."""
    print(f"\n{printable(task.title)}: {section.title}, {'pairs' if task.paired else 'two sets'}")
    print(f"{'metric':10} {'value':>12}   {'95 % interval':24} {'':17} images")
    for name, score in section.scores.items():
        value, interval = formatted(score.value, METRICS[name].unit), span(score)
        print(f"{name:10} {value:>12}   {interval:24} {better(name):17} {score.images:,}")
    if section.answers:
        names = list(next(iter(section.answers.values())))
        print(f"\n{'':25}" + "".join(f"{name:>10}" for name in names))
        for answer, scores in {"the result": section.scores, **section.answers}.items():
            print(f"{answer:25}" + "".join(f"{formatted(scores[name].value):>10}" for name in names))
    for note in section.notes:
        print(f"note: {note}")


def as_json(args, task: Task, sections: list[Section]) -> dict:
    """Return all figures; what JSON has no number for is null."""
    import torchmetrics

    outputs = {}
    for label, section in zip(task.outputs, sections, strict=True):
        outputs[label] = {
            "metrics": {name: plain(name, score) for name, score in section.scores.items()},
            "answers": {
                answer: {name: plain(name, score) for name, score in scores.items()}
                for answer, scores in section.answers.items()
            },
            "notes": section.notes,
        }
    versions = {"torchmetrics": torchmetrics.__version__, "torch": str(torch.__version__)}
    return {"of": shown(task.title), "paired": task.paired, "outputs": outputs, **versions}


def as_csv(task: Task, sections: list[Section]) -> str:
    """Return the table: a line for each output, or answer, and metric."""
    text = io.StringIO()
    lines = csv.writer(text, lineterminator="\n")
    lines.writerow(["output", "of", "metric", "value", "low", "high", "images", "unit", "lower_is_better"])
    for label, section in zip(task.outputs, sections, strict=True):
        for of, scores in {"the result": section.scores, **section.answers}.items():
            for name, score in scores.items():
                lines.writerow([label, of, name, *score, METRICS[name].unit, METRICS[name].lower])
    return text.getvalue()


def plain(name: str, score: Score) -> dict:
    """Return a score as JSON."""
    numbers = {key: value if math.isfinite(value) else None for key, value in score._asdict().items()}
    return {**numbers, "unit": METRICS[name].unit, "lower_is_better": METRICS[name].lower}


if __name__ == "__main__":
    unbreakable_output()
    with explained_errors():
        main(sys.argv[1:])
