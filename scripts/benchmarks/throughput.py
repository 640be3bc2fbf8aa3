"""Throughput: the parts of scripts/benchmark.py for loading, translating, and the whole schedule of train.py."""

from __future__ import annotations

import collections
import gc
import importlib
import itertools
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from data import create_dataset
from models import create_model
from options.test_options import TestOptions
from scripts.benchmarks.common import ROOT, hushed, make_images, models_of, say, synchronise, train_options
from util.errors import UserError
from util.pages.document import HTML
from util.pages.results_writer import save_images
from util.runtime.machine import core_count
from util.runtime.run_facts import run_facts

FACADES = 400  # training images of the pix2pix paper's facades (section 6.2)

# ---- loading ----


def loader(args, work: Path) -> Iterator[dict]:
    """Measure the data loader by format, options, workers and batch size."""
    count = 64 if args.quick else 256
    for model, suffix in itertools.product(models_of(args), ("jpg",) if args.quick else ("jpg", "png")):
        say(f"loader: {model}, {suffix}")
        folder = make_images(work / suffix, suffix, args.size, count)
        head = {"model": model, "format": suffix, "items": count}
        rows = [{**head, **setting, "first": [], "samples": []} for setting in loader_settings(args, suffix)]
        for _, row in itertools.product(range(args.few), rows):
            words = ["--dataroot", folder, "--num_threads", row["workers"], "--batch_size", row["batch_size"]]
            words += ["--max_dataset_size", count, *row["options"].replace("default", "").split()]
            first, later = time_epochs(train_options(args, model, *words), count)
            row["first"].append(first)
            row["samples"].append(later)
        yield from rows


def loader_settings(args, suffix: str) -> Iterator[dict]:
    """Yield options, batch size and workers; PNG files and large batches are measured with two numbers of workers."""
    workers = (0, 2) if args.quick else (0, 1, 2, 4, 8) if core_count() >= 8 else (0, 1, 2, 4)
    cases = [(1, workers if suffix == "jpg" else (0, 4))] + [(16, (0, 4))] * (suffix == "jpg" and not args.quick)
    for options, (batch_size, some) in itertools.product(("default", "--cache", "--fast", "--fast --cache"), cases):
        yield from ({"options": options, "workers": count, "batch_size": batch_size} for count in some)


def time_epochs(opt, count: int) -> tuple[float, float]:
    """Return items per second of a loader's first epoch, which starts the workers, and of later epochs."""
    rates = []
    with hushed():
        dataset = create_dataset(opt)
    for least in (0.0, 0.3):  # seconds
        begin, items = time.perf_counter(), 0
        while not items or time.perf_counter() - begin < least:
            for _ in dataset:
                pass
            synchronise(opt.device)
            items += count
        rates.append(items / (time.perf_counter() - begin))
    del dataset
    gc.collect()
    return rates[0], rates[1]


# ---- translating ----


def translation(args, work: Path) -> Iterator[dict]:
    """Measure test.py and a plain loop, from loading the first image to writing the last."""
    translate = importlib.import_module("test").translate  # by name: Python has a package called test
    cuda = args.device.type == "cuda"
    ways = [("plain loop", 1), ("test.py", 1), ("test.py", 8), ("test.py --fast", 1), ("test.py --fast", 8)]
    ways = [way for way in ways if way[1] == 1] if args.quick else ways
    for model, side in itertools.product(models_of(args), (args.size,) if args.quick else (args.size, 2 * args.size)):
        count = 16 if args.quick or (side > args.size and not cuda) else 500 if cuda else 50
        images = make_images(work / f"test{side}", "jpg", side, count)
        save_untrained(args, model, work)
        mine = ["--name", model, "--checkpoints_dir", work, "--results_dir", work / "results", "--eval"]
        mine += ["--crop_size", side, "--num_test", count, "--gpu_ids", args.gpu_ids]
        paired = model == "pix2pix"
        mine += ["--model", model if paired else "test", "--dataroot", images if paired else images / "testA"]
        rows = [
            {"model": model, "size": side, "way": way, "batch_size": n, "samples": [], "busy": []} for way, n in ways
        ]
        say(f"translation: {model}, {side} px")
        for turn, row in itertools.product(range(-1 if cuda else 0, args.few), rows):
            words = [*mine, "--batch_size", row["batch_size"], *["--fast"] * row["way"].endswith("--fast")]
            with hushed():
                opt = TestOptions([str(word) for word in words]).parse()
                done, seconds, busy = (plain_loop if row["way"] == "plain loop" else translate)(opt)
            shutil.rmtree(work / "results")
            row["speed"] = run_facts(opt).speed
            if turn >= 0:  # a GPU warms up first
                row["samples"].append(done / seconds)
                row["busy"].append(busy)
        yield from rows


def save_untrained(args, model: str, work: Path) -> None:
    """Save a model that was not trained."""
    opt = train_options(args, model, "--name", model, "--checkpoints_dir", work)
    with hushed():
        network = create_model(opt)
        network.setup(opt)
        network.save_networks("latest")


def plain_loop(opt) -> tuple[int, float, float]:
    """Load, translate and write images one by one; return their number, the seconds, and the network's share."""
    opt.num_threads, busy = 0, 0.0
    dataset, model = create_dataset(opt), create_model(opt)
    model.setup(opt)
    model.eval()
    page, begin = HTML(Path(opt.results_dir) / opt.name, "plain loop"), time.perf_counter()
    for batch in itertools.islice(dataset, opt.num_test):
        model.set_input(batch)
        synchronise(opt.device)
        started = time.perf_counter()
        model.test()
        synchronise(opt.device)
        busy += time.perf_counter() - started
        save_images(page, model.get_current_visuals(), model.get_image_paths())
    page.save()
    seconds = time.perf_counter() - begin
    return min(opt.num_test, len(dataset)), seconds, busy / seconds


# ---- a whole training ----


def schedule(args, work: Path) -> Iterator[dict]:
    """Run train.py with loading, logging, the page and all checkpoints; time each epoch."""
    count = 8 if args.quick else FACADES
    images, folder = make_images(work / "facades", "jpg", args.size, count), work / "schedule"
    for model, arm in itertools.product(args.models or ["pix2pix"], ["fp32"] + ["fast"] * (not args.quick)):
        say(f"schedule: {model}, {arm}: {args.epochs} epochs of {count} images")
        words = ["train.py", "--dataroot", images, "--name", "run", "--checkpoints_dir", folder, "--model", model]
        words += ["--gpu_ids", args.gpu_ids, "--crop_size", args.size, "--load_size", args.size * 286 // 256]
        words += ["--n_epochs", args.epochs - args.epochs // 2, "--n_epochs_decay", args.epochs // 2, "--seed", 1]
        words += [*["--fast"] * (arm == "fast"), *args.further]
        seconds, last = [], time.perf_counter()
        for line in output_of(words):
            if line.startswith("End of epoch"):
                seconds.append(time.perf_counter() - last)  # the first includes the program's start
                last = time.perf_counter()
        yield {"model": model, "arm": arm, "images": count, "samples": seconds, "end": time.perf_counter() - last}
        shutil.rmtree(folder)


def output_of(words: list) -> Iterator[str]:
    """Run a program of this project and yield its output line by line; raise UserError if it fails."""
    words, last = [sys.executable, "-u", *map(str, words)], collections.deque(maxlen=3)
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True, "errors": "replace"}
    with subprocess.Popen(words, cwd=ROOT, **pipes) as process:
        for line in process.stdout:
            last.append(line.strip())
            yield line
    if process.returncode:
        raise UserError(f"training failed: {' '.join(last)}")
