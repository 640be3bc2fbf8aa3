"""Shared by the parts of scripts/benchmark.py: options, synthetic images."""

from __future__ import annotations

import contextlib
import gc
import io
import sys
import time
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from options.train_options import TrainOptions

ROOT = Path(__file__).resolve().parents[2]


def say(line: str) -> None:
    """Print a line with the time."""
    print(f"{time.strftime('%H:%M:%S')}  {line}", flush=True)


def hushed():
    """Discard the standard output of the body; errors still appear."""
    return contextlib.redirect_stdout(io.StringIO())


def models_of(args) -> list[str]:
    """Return the models to measure in all parts but `schedule`."""
    return args.models or (["pix2pix"] if args.quick else ["pix2pix", "cycle_gan"])


def synchronise(device: torch.device) -> None:
    """Wait until the device has finished its work."""
    if device.type != "cpu":
        torch.accelerator.synchronize(device)


def release() -> None:
    """Free the memory of deleted models and of their compiled code."""
    if "torch._dynamo" in sys.modules:
        torch._dynamo.reset()
    gc.collect()
    if torch.cuda.is_initialized():
        torch.cuda.empty_cache()


def train_options(args, model: str, *words: object):
    """Return train.py's options: defaults, seed 1 and these words. No experiment's folder is made."""
    own = ["--dataroot", ".", "--name", "benchmark", "--model", model, "--gpu_ids", args.gpu_ids, "--seed", "1"]
    own += ["--crop_size", args.size, "--load_size", args.size * 286 // 256, "--display_id", "-1"]
    with hushed():
        return TrainOptions([str(word) for word in [*own, *words, *args.further]]).parse(begin=False)


def make_images(folder: Path, suffix: str, side: int, count: int) -> Path:
    """Write pairs side by side to train/ and test/, their halves to trainA/, trainB/ and testA/; return the folder.

    They are smooth colours with noise: JPEG files (quality 90) about as large as those of photographs.
    """
    boxes = {"train": (0, 2), "test": (0, 2), "trainA": (0, 1), "testA": (0, 1), "trainB": (1, 2)}
    for number in range(len(list(folder.glob("train/*"))), count):
        rng = np.random.default_rng(number)
        smooth = Image.fromarray(rng.integers(0, 256, (8, 16, 3), dtype=np.uint8)).resize((2 * side, side), 3)
        noisy = np.asarray(smooth) + rng.normal(0, 8, (side, 2 * side, 1))
        pair = Image.fromarray(noisy.clip(0, 255).astype(np.uint8))
        for name, (left, right) in boxes.items():
            path = folder / name / f"{number:05}.{suffix}"
            path.parent.mkdir(parents=True, exist_ok=True)
            pair.crop((left * side, 0, right * side, side)).save(path, quality=90)
    return folder
