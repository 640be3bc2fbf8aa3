"""The runner of a study: data, training, translation and measures."""

from __future__ import annotations

import argparse
import hashlib
import shlex
import shutil
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import torch
from images import domain, files, input_of, other
from PIL import Image
from programs import run, say, slug
from report import Column, Measures, Tables, report
from study import Study, options_of, with_sizes

from scripts.evaluation.outputs import as_batch, read
from scripts.evaluation.page import Picture
from scripts.evaluation.targets import MeanImage, find_pairs
from util.checkpoint.checkpointer import Checkpointer
from util.errors import UserError
from util.metrics.evaluation import Evaluation
from util.metrics.table import METRICS

SHOWN = 4  # test images on the contact sheet


def compare(runner: Runner) -> None:
    """Train each arm, translate the test images in each way, measure them; report after each seed."""
    for seed in runner.args.seeds:
        for arm in runner.args.arms:
            name = runner.train(arm, seed)
            for view, words in runner.study.views.items():
                images = runner.translate(name, view, words)
                row = f"{arm}, {view}" if view else arm
                for title, side in runner.sides().items():
                    runner.add(title, row, seed, runner.measure(find_pairs(images, side)), (images, side))
        report(runner, sheet_cells(runner))


def sheet_cells(runner: Runner) -> list[list[tuple[str, np.ndarray]]]:
    """Return the contact sheet's rows: the input, each arm's result, the ground truth, all with the first seed."""
    rows = []
    for title, columns in runner.columns.items():
        folders = {row: seeds[runner.args.seeds[0]] for row, seeds in columns.items()}
        side = runner.sides()[title]
        for fake, real in runner.samples(find_pairs(*next(iter(folders.values())))):
            cells = {f"{title.replace('→', 'to')}: input": input_of(real, side)}
            cells |= {row: images / fake.name for row, (images, _) in folders.items()}
            cells["ground truth" if runner.paired else "a real image"] = real
            rows.append([(label, read(path)) for label, path in cells.items()])
    return rows


class Runner:
    """Trains, translates and measures the arms of a study."""

    def __init__(self, study: Study, args: argparse.Namespace):
        self.study, self.args, self.out = study, args, args.out
        self.metrics = choose_metrics(args.metrics)
        self.log = self.out / "log.txt"
        self.device = ["--gpu_ids", args.gpu_ids] if args.gpu_ids else []
        self.data = self.choose_data()
        self.tables: Tables = {}
        self.columns: dict[str, dict[str, dict[int, Column]]] = {}  # title -> row -> seed -> folder of the images
        self.images = 0  # measured in each row
        self.halves = study.model == "pix2pix" and (self.data / "test").is_dir()  # pairs side by side, in one file
        names = [[path.stem for path in files(self.data / f"test{side}")] for side in "AB"]
        self.paired = study.model == "pix2pix" or names[0] == names[1]
        self.check_time()

    # ---- data and time ----

    def choose_data(self) -> Path:
        """Return the dataset, with the folders that the study needs; the Earth's is made."""
        data, tile = self.args.dataroot, self.study.tile[self.args.quick]
        if data is None and self.study.data and not self.args.quick:
            data = Path("datasets", self.study.data)
            if not data.is_dir():
                fetch = f"bash datasets/download_pix2pix_dataset.sh {self.study.data}"
                raise UserError(f"{data} is missing; download it by\n  {fetch}\nor name another by --dataroot")
        if data is None:
            data = Path("datasets/earth" if tile == 256 else f"datasets/earth{tile}")
            run(["datasets/make_earth_dataset.py", "--size", str(tile), "--out", str(data)], self.log)
        pairs = self.study.model == "pix2pix" and (data / "test").is_dir()
        if not pairs and not all((data / f"test{side}").is_dir() for side in "AB"):
            wanted = "test" if self.study.model == "pix2pix" else "testA"
            raise UserError(f"--dataroot {data}: this study needs {data / wanted} (docs/datasets.md)")
        return data

    def check_time(self) -> None:
        """Raise UserError for a training that takes days on a CPU, unless --cpu allows it."""
        gpu = torch.cuda.is_available() or torch.backends.mps.is_available()
        if not (self.args.quick or self.args.cpu or (gpu and self.args.gpu_ids != "-1")):
            images = max(len(files(self.data / f"train{side}")) for side in ("", "A", "B"))
            raise UserError(
                f"no GPU is used, and {len(self.args.arms)} arms of {len(self.args.seeds)} seeds train on {images:,} "
                "images for 200 epochs each: days on a CPU. --quick takes minutes; --cpu trains anyway"
            )

    # ---- training and translation ----

    def training(self, arm: str, seed: int) -> list[str]:
        """Return the command that trains an arm; the experiment's name follows from options, data and seed alone."""
        words = [*options_of(self.study, self.args, arm), "--direction", self.args.direction, "--seed", str(seed)]
        digest = hashlib.sha256(shlex.join([str(self.data.resolve()), *words]).encode()).hexdigest()[:6]
        name = slug(f"{self.study.model} {with_sizes(self.study.arms[arm], self.args)} seed{seed} {digest}")
        folders = ["--dataroot", str(self.data), "--name", name, "--checkpoints_dir", str(self.args.checkpoints_dir)]
        return ["train.py", *folders, *words, *self.device, "--display_id", "-1", "--save_epoch_freq", "1000"]

    def train(self, arm: str, seed: int) -> str:
        """Train an arm, or resume its training; return the experiment's name."""
        words = self.training(arm, seed)
        name = words[words.index("--name") + 1]
        folder = self.args.checkpoints_dir / name
        if (folder / ".trained").exists():
            say(f"{arm}, seed {seed}: is trained already ({folder})")
            return name
        started = Checkpointer(folder).state_path("latest").exists()
        run([*words, *["--continue_train"] * started], self.log)
        (folder / ".trained").touch()
        return name

    def translate(self, name: str, view: str = "", words: str = "", data: Path | None = None) -> Path:
        """Translate the test images; return the folder of the results' images."""
        results = self.out / "translated" / slug(view)
        command = ["test.py", "--dataroot", str(data or self.data), "--name", name, "--num_test", "inf"]
        command += ["--checkpoints_dir", str(self.args.checkpoints_dir), "--results_dir", str(results)]
        shutil.rmtree(results / name, ignore_errors=True)
        run([*command, *words.split(), *self.device], self.log)
        return results / name / "test_latest" / "images"

    # ---- measures ----

    def sides(self) -> dict[str, str]:
        """Return the tables' titles, each with the domain that is measured."""
        forward, back = ("A → B", "B → A")[:: 1 if self.args.direction == "AtoB" else -1]
        return {forward: "B", back: "A"} if self.study.model == "cycle_gan" else {forward: "B"}

    def measure(self, found: list[tuple[Picture, Path]], metrics: Iterable[str] | None = None) -> Measures:
        """Measure (result, ground truth) by the study's metrics, or some; as two sets where they are no pairs."""
        names = [name for name in metrics or self.metrics if self.paired or not METRICS[name].paired]
        evaluation = Evaluation(names, self.torch_device())
        for fake, real in found:
            images = as_batch(read(fake)), as_batch(read(real))
            if self.paired:
                evaluation.add(*images)
            else:
                evaluation.add_fake(images[0])
                evaluation.add_real(images[1])
        self.images = len(found)
        return {name: score.value for name, score in evaluation.compute(intervals=False).items()}

    def samples(self, found: list) -> list:
        """Return some of the test images, evenly spread."""
        indices = np.linspace(0, len(found) - 1, min(SHOWN, len(found))).round().astype(int)
        return [found[index] for index in indices]

    def torch_device(self) -> torch.device:
        """Return the device of the feature networks."""
        return torch.device("cuda" if torch.cuda.is_available() and self.args.gpu_ids != "-1" else "cpu")

    def add(self, title: str, row: str, seed: int, measures: Measures, column: Column | None = None) -> None:
        """Add measures to a row of a table; `column`: the folder of its images."""
        table = self.tables.setdefault(title, {})
        if column and not table and self.paired:
            self.add_baselines(title, seed, *column)
        table.setdefault(row, {})[seed] = measures
        if column:
            self.columns.setdefault(title, {}).setdefault(row, {})[seed] = column

    def add_baselines(self, title: str, seed: int, images: Path, side: str) -> None:
        """Measure two baselines that need no training: the input itself, and the mean of the training targets."""
        found = find_pairs(images, side)
        inputs = [(input_of(real, side), real) for _, real in found]
        if all(Image.open(fake).size == Image.open(real).size for fake, real in inputs):
            self.add(title, "the input itself", seed, self.measure(inputs))
        target = side if self.args.direction == "AtoB" else other(side)  # the folder or half that contains it
        mean = MeanImage(lambda _: (image for _, image in domain(self.data, "train", target, self.halves)))
        constant = [(mean.at(Image.open(real).size), real) for _, real in found]
        self.add(title, "the mean target", seed, self.measure(constant, [m for m in self.metrics if METRICS[m].paired]))


def choose_metrics(asked: list[str] | None) -> list[str]:
    """Return the metrics to measure, in the order of METRICS; UserError for one that cannot be measured."""
    return Evaluation(asked or ["l1", "psnr", "ssim", "kid_lite0"]).names
