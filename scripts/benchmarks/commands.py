"""Parts of scripts/benchmark.py: loading, translating, the training page, and the real commands."""

from __future__ import annotations

import contextlib
import csv
import gc
import importlib
import itertools
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from data import create_dataset
from models import create_model
from options.saved import record
from options.test_options import TestOptions
from scripts.benchmarks import tables as tables
from scripts.benchmarks.common import ROOT, hushed, loading, made_images, models_of, say, settle, train_options
from util.errors import UserError
from util.pages.document import HTML
from util.pages.results_writer import save_images
from util.runtime.machine import core_count
from util.speed import plan
from util.visualizer import Visualizer

EPOCHS = 200  # of the training page, with 20 prints each
FACADES = 400  # training images of the pix2pix paper's schedule (section 6.2)

# ---- loading ----


def loader(args, work: Path) -> Iterator[dict]:
    """Measure what the loader brings, by format, options, processes and batch size."""
    count = 64 if args.quick else 256
    for model, suffix in itertools.product(models_of(args), ("jpg",) if args.quick else ("jpg", "png")):
        folder, head = made_images(work / suffix, suffix, args.size, 256), {"model": model, "format": suffix}
        found = [{**head, **cell, "items": count, "first": [], "samples": []} for cell in cells(args, suffix)]
        for turn, row in itertools.product(range(args.few), found):
            if row is found[0]:
                say(f"loader: {model}, {suffix}: round {turn + 1} of {args.few}")
            words = ["--dataroot", folder, "--num_threads", row["workers"], "--batch_size", row["batch_size"]]
            words += ["--max_dataset_size", count, *row["options"].replace("default", "").split()]
            first, later = time_epochs(train_options(args, model, *words), count)
            row["first"].append(first)
            row["samples"].append(later)
        yield from found


def cells(args, suffix: str) -> Iterator[dict]:
    """Yield what the loader is measured with; the further from the defaults, the fewer numbers of processes."""
    workers = (0, 2) if args.quick else (0, 1, 2, 4, 8) if core_count() >= 8 else (0, 1, 2, 4)
    for kind in ("default", "--cache", "--fast", "--fast --cache"):
        for batch_size, processes in itertools.product((1,) if args.quick else (1, 16), workers):
            unusual = (batch_size != 1) + (suffix != "jpg")
            if unusual == 0 or (unusual == 1 and processes in (0, 4)):
                yield {"options": kind, "workers": processes, "batch_size": batch_size}


def time_epochs(opt, count: int) -> tuple[float, float]:
    """Return items per second of a loader's first epoch, its processes' start included, and of those that follow."""
    rates = []
    with hushed():
        dataset = create_dataset(opt)
    for enough in (0.0, 0.3):  # seconds
        begin, items = time.perf_counter(), 0
        while not items or time.perf_counter() - begin < enough:
            for _ in dataset:
                pass
            settle(opt.device)
            items += count
        rates.append(items / (time.perf_counter() - begin))
    del dataset
    gc.collect()
    return rates[0], rates[1]


# ---- translating ----


def translation(args, work: Path) -> Iterator[dict]:
    """Measure test.py, from the first image's loading until the last picture is on disk, and a plain loop."""
    translate = importlib.import_module("test").translate  # by name: Python has a package test of its own
    cuda = args.device.type == "cuda"
    ways = [("plain loop", 1), ("test.py", 1), ("test.py", 8), ("test.py --fast", 1), ("test.py --fast", 8)]
    ways = [way for way in ways if way[1] == 1] if args.quick else ways
    for model, side in itertools.product(models_of(args), (args.size,) if args.quick else (args.size, 2 * args.size)):
        count = 16 if args.quick or (side > args.size and not cuda) else 500 if cuda else 50
        images = made_images(work / f"test{side}", "jpg", side, count)
        save_untrained(args, model, work)
        mine = ["--name", model, "--checkpoints_dir", work, "--results_dir", work / "results", "--eval"]
        mine += ["--crop_size", side, "--num_test", count, "--gpu_ids", args.gpu_ids]
        paired = model == "pix2pix"
        mine += ["--model", model if paired else "test", "--dataroot", images if paired else images / "testA"]
        rows = [
            {"model": model, "size": side, "way": way, "batch_size": n, "samples": [], "busy": []} for way, n in ways
        ]
        for turn, row in itertools.product(range(-1 if cuda else 0, args.few), rows):
            if row is rows[0]:
                say(f"translation: {model}, {side} px: round {turn + 1} of {args.few}")
            words = [*mine, "--batch_size", row["batch_size"], *["--fast"] * row["way"].endswith("--fast")]
            with hushed():
                opt = TestOptions([str(word) for word in words]).parse()
                done, seconds, busy = (plain_loop if row["way"] == "plain loop" else translate)(opt)
            shutil.rmtree(work / "results")
            row["speed"] = opt.speed
            if turn >= 0:  # a GPU warms up first
                row["samples"].append(done / seconds)
                row["busy"].append(busy)
        yield from rows


def save_untrained(args, model: str, work: Path) -> None:
    """Save a model as training would."""
    opt = train_options(args, model, "--name", model, "--checkpoints_dir", work)
    with hushed():
        network = create_model(opt)
        network.setup(opt)
        network.save_networks("latest")
        record(opt)


def plain_loop(opt) -> tuple[int, float, float]:
    """Load, translate and write images one by one; return their number, seconds, and the network's share of these."""
    opt.num_threads, busy = 0, 0.0
    dataset, model = create_dataset(opt), create_model(opt)
    model.setup(opt)
    model.eval()
    page, count, begin = HTML(Path(opt.results_dir) / opt.name, "plain loop"), 0, time.perf_counter()
    for batch in itertools.islice(dataset, opt.num_test):
        model.set_input(batch)
        settle(opt.device)
        started = time.perf_counter()
        model.test()
        settle(opt.device)
        busy += time.perf_counter() - started
        save_images(page, model.get_current_visuals(), model.get_image_paths())
        count += 1
    page.save()
    seconds = time.perf_counter() - begin
    return count, seconds, busy / seconds


# ---- the training page ----


def page(args, work: Path) -> Iterator[dict]:
    """Measure for how long training waits while its images go to the training page, in its first and last epochs."""
    for model, shown in (("pix2pix", 3), ("cycle_gan", 8)):
        folder, count = made_images(work / "jpg", "jpg", args.size, 1), 4 * args.rounds
        words = ["--name", f"page_{model}", "--checkpoints_dir", work, "--dataroot", folder, "--num_threads", 0]
        opt = train_options(args, model, *words)
        with loading(opt) as batches:
            image = next(batches)["A"].to(opt.device)
        seconds = []
        with hushed(), contextlib.closing(Visualizer(opt)) as visualizer:
            for epoch in range(1, EPOCHS + 1):
                timed = min(epoch - 1, EPOCHS - epoch) < count
                visuals = {f"image_{i}": image if timed else image[..., :1, :1] for i in range(shown)}
                settle(opt.device)
                begin = time.perf_counter()
                visualizer.display_current_results(visuals, epoch, 400 * epoch, True)
                seconds += [time.perf_counter() - begin] * timed
                for step in range(400 * epoch, 400 * epoch + 400, 20):
                    visualizer.plot_current_losses(step, dict.fromkeys("ABCDEFGH", 1 / step))
                visualizer.flush()  # as the thread does while the next images are trained on
        yield {"model": model, "images": shown, "epochs": f"1 to {count}", "samples": seconds[:count]}
        yield {"model": model, "images": shown, "epochs": f"up to {EPOCHS}", "samples": seconds[-count:]}


# ---- the real commands ----


def lines_of(words: list, log: Path, chosen: str = "") -> Iterator[str]:
    """Run a program of this project, and yield what it prints, line by line; UserError if it fails.

    `chosen`: words that make train.py fast, in place of those that its options choose.
    """
    if chosen:
        code = "import runpy, sys; sys.path.insert(0, '.'); from util.speed import plan; plan.choose = lambda *_: "
        words = ["-c", f"{code}({chosen!r}, []); runpy.run_path('train.py', run_name='__main__')", *words[1:]]
    words = [sys.executable, *map(str, words)]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True, "errors": "replace"}
    environment = {**os.environ, "PYTHONUNBUFFERED": "1"}
    with (
        log.open("w", encoding="utf-8") as file,
        subprocess.Popen(words, cwd=ROOT, env=environment, **pipes) as process,
    ):
        for line in process.stdout:
            file.write(line)
            yield line
    if process.returncode:
        raise UserError(f"{log.stem} failed: {' '.join(log.read_text(encoding='utf-8').splitlines()[-3:])}")


def arms_of(args, default: list[str]) -> dict[str, tuple[list[str], str]]:
    """Return the arms to train: name -> train.py's options, and words in place of those that follow from options."""
    options = {"fast": ["--fast"], **{name: ["--precision", name] for name in plan.DTYPES}}
    return {name: (options.get(name, []), "" if name in options else name) for name in args.arms or default}


def schedule(args, work: Path) -> Iterator[dict]:
    """Train by train.py with all that it loads, logs, shows and saves; time each epoch."""
    count = 8 if args.quick else FACADES
    images, folder = made_images(work / "facades", "jpg", args.size, count), work / "schedule"
    arms = arms_of(args, ["fp32", "fast"])
    for model, name in itertools.product(args.models or ["pix2pix"], arms):
        say(f"schedule: {model}, {name}: {args.epochs} epochs of {count} images")
        words = ["train.py", "--dataroot", images, "--name", "run", "--checkpoints_dir", folder, "--model", model]
        words += ["--gpu_ids", args.gpu_ids, "--crop_size", args.size, "--load_size", args.size * 286 // 256]
        words += ["--seed", 1, *arms[name][0], *args.further]
        words += ["--n_epochs", args.epochs - args.epochs // 2, "--n_epochs_decay", args.epochs // 2]
        seconds, last = [], time.perf_counter()
        for line in lines_of(words, work / "train.log", arms[name][1]):
            if line.startswith("End of epoch"):
                seconds.append(time.perf_counter() - last)  # the first with the program's start
                last = time.perf_counter()
                if len(seconds) % tables.CYCLE == 0:
                    say(line.strip())
        yield {"model": model, "arm": name, "images": count, "samples": seconds, "end": time.perf_counter() - last}
        shutil.rmtree(folder)


def quality(args, work: Path) -> Iterator[dict]:
    """Train arms with the same seeds by train.py; translate in float32 by test.py; measure by scripts/evaluate.py."""
    alone = ["fp16", "fp32 channels_last", "fp32 compile", "fp32 capture"] if args.device.type == "cuda" else []
    arms = arms_of(args, ["fp32", "bf16", *alone, "fast"])
    for model, seed, name in itertools.product(args.models or ["pix2pix"], args.seeds, arms):
        say(f"quality: {model}, seed {seed}, {name}")
        results, scores = work / "results", work / "scores.json"
        mine = ["--dataroot", args.data.resolve(), "--name", "run", "--checkpoints_dir", work, "--model", model]
        mine += ["--gpu_ids", args.gpu_ids]
        words = ["train.py", *mine, "--seed", seed, *small_training(args.data), *arms[name][0], *args.further]
        begin = time.perf_counter()
        list(lines_of(words, work / "train.log", arms[name][1]))
        seconds = time.perf_counter() - begin
        translating = ["test.py", *mine, "--results_dir", results, "--dataset_mode", "aligned", "--num_test", 200]
        list(lines_of(translating, work / "test.log"))
        measuring = ["scripts/evaluate.py", results / "run" / "test_latest", "--paired", "--metrics", "psnr,ssim"]
        list(lines_of([*measuring, "--gpu_ids", -1, "--json", scores], work / "evaluate.log"))
        row = {"model": model, "arm": name, "seed": seed, "seconds": seconds, "command": " ".join(map(str, words))}
        metrics = json.loads(scores.read_text(encoding="utf-8"))["outputs"]["fake_B"]["metrics"]
        row |= {name: score["value"] for name, score in metrics.items()}
        yield {**row, "curve": read_curve(work / "run" / "metrics.csv")}
        shutil.rmtree(work / "run")
        shutil.rmtree(results)


def small_training(data: Path) -> list:
    """Return options for minutes of training on the tiles of `data`; 1,600 images, of which each is seen four times."""
    side = json.loads((data / "earth.json").read_text(encoding="utf-8"))["size"]
    words = ["--netG", f"unet_{side}" if side in (32, 128, 256) else "resnet_6blocks", "--ngf", 32, "--ndf", 32]
    words += ["--crop_size", side, "--load_size", side * 286 // 256, "--max_dataset_size", 400, "--no_html"]
    return [*words, "--n_epochs", 2, "--n_epochs_decay", 2, "--print_freq", 20, "--display_id", -1]


def read_curve(file: Path) -> list[dict]:
    """Read the losses that a training has logged; `total_iters` counts images."""
    with file.open(encoding="utf-8", newline="") as lines:
        rows = [{key: float(value) for key, value in row.items() if value} for row in csv.DictReader(lines)]
    return [{key: value for key, value in row.items() if key not in ("epoch", "iters", "time", "data")} for row in rows]
