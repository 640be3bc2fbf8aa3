"""What the measuring parts of scripts/benchmark.py share: options, made images, loading."""

from __future__ import annotations

import contextlib
import gc
import io
import itertools
import shutil
import sys
import time
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from data import create_dataset
from options.train_options import TrainOptions

ROOT = Path(__file__).resolve().parents[2]
DIFFERENT = 32  # made pictures; further ones are these under other names


def say(line: str) -> None:
    """Show that the program lives."""
    print(f"{time.strftime('%H:%M:%S')}  {line}", flush=True)


def hushed():
    """Keep back what the body prints; errors are still seen."""
    return contextlib.redirect_stdout(io.StringIO())


def models_of(args) -> list[str]:
    """Return the models that are measured, but in the long parts."""
    return args.models or (["pix2pix"] if args.quick else ["pix2pix", "cycle_gan"])


def settle(device: torch.device) -> None:
    """Wait until the device has done what it was asked for."""
    if device.type != "cpu":
        torch.accelerator.synchronize(device)


def release() -> None:
    """Give back the memory of models that are gone, and what was compiled for them."""
    if "torch._dynamo" in sys.modules:
        torch._dynamo.reset()
    gc.collect()
    if torch.cuda.is_initialized():
        torch.cuda.empty_cache()


def train_options(args, model: str, *words: object):
    """Return train.py's options: defaults, seed 1 and these words. No experiment is begun."""
    own = ["--dataroot", ".", "--name", "benchmark", "--model", model, "--gpu_ids", args.gpu_ids, "--seed", "1"]
    own += ["--crop_size", args.size, "--load_size", args.size * 286 // 256, "--display_id", "-1"]
    with hushed():
        return TrainOptions([str(word) for word in [*own, *words, *args.further]]).parse(begin=False)


def made_images(folder: Path, suffix: str, side: int, count: int) -> Path:
    """Write pairs side by side to train/ and test/, their halves to trainA/, trainB/ and testA/; return the folder.

    Smooth colours under noise: JPEG files (quality 90) about as large as photographs'.
    """
    boxes = {"train": (0, 2), "test": (0, 2), "trainA": (0, 1), "testA": (0, 1), "trainB": (1, 2)}
    for name, number in itertools.product(boxes, range(count)):
        path, first = (folder / name / f"{i:05}.{suffix}" for i in (number, number % DIFFERENT))
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.exists():
            continue
        if path != first:
            same_file(first, path)
            continue
        rng = np.random.default_rng(number)
        smooth = Image.fromarray(rng.integers(0, 256, (8, 16, 3), dtype=np.uint8)).resize((2 * side, side), 3)
        noisy = np.asarray(smooth) + rng.normal(0, 8, (side, 2 * side, 1))
        left, right = (side * half for half in boxes[name])
        picture = Image.fromarray(noisy.clip(0, 255).astype(np.uint8)).crop((left, 0, right, side))
        picture.save(path, **({"quality": 90} if suffix == "jpg" else {}))
    return folder


def same_file(first: Path, path: Path) -> None:
    """Give a file a second name, or copy it where the disk knows no such thing."""
    try:
        path.hardlink_to(first)
    except OSError:
        shutil.copyfile(first, path)


@contextlib.contextmanager
def loading(opt):
    """Load batches for the body, epoch after epoch; the processes that load them end with it."""
    with hushed():
        dataset = create_dataset(opt)
    batches = itertools.chain.from_iterable(itertools.repeat(dataset))
    try:
        yield batches
    finally:
        del batches, dataset
        gc.collect()
