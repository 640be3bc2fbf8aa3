"""Make the page of scripts/real_or_fake.py: choose pairs of images and write them into one HTML file."""

from __future__ import annotations

import argparse
import base64
import hashlib
import io
import json
import random
import string
from pathlib import Path

import numpy as np
from PIL import Image

from data.formats import pillow
from scripts.evaluation.targets import find_pairs
from util.checkpoint.atomic_files import write_whole
from util.errors import UserError, printable

LIMITS = {"practice": (0, 10**4), "trials": (1, 10**4), "vigilance": (0, 10**4), "seconds": (0.05, 60)}


def make(args: argparse.Namespace) -> None:
    """Choose pairs and write the page."""
    for name, (low, high) in LIMITS.items():
        value = getattr(args, name)
        if not low <= value <= high:
            raise UserError(f"--{name} {value}: it must be {low} to {high}.")
    study = make_study(args)
    text = page(study)
    write_whole(args.out, text)
    uses = [pair["use"] for pair in study["pairs"]]
    counts = ", ".join(f"{uses.count(use)} {use}" for use in ("practice", "test", "vigilance") if use in uses)
    print(f"{printable(args.out)}: {len(text) / 1e6:.1f} MB, pairs: {counts}, study {study['id']}")


def make_study(args: argparse.Namespace) -> dict:
    """Return the page's data: settings and images; `id` is a hash of them."""
    study = {"name": args.name or args.results.resolve().parent.name, "seconds": args.seconds, "pairing": args.pairing}
    study["rounds"] = {"practice": args.practice, "test": args.trials, "vigilance": args.vigilance}
    study |= {"type": "image/jpeg" if args.jpeg else "image/png", "pairs": []}
    for use, fake, real in choose_pairs(args):
        images = [np.asarray(pillow.load(path)) for path in (fake, real)]  # (H, W, 3), without metadata
        sizes = [f"{image.shape[1]}x{image.shape[0]}" for image in images]
        if sizes[0] != sizes[1]:
            raise UserError(
                f"{printable(fake)} is {sizes[0]} and {printable(real.name)} is {sizes[1]}, which would reveal the "
                "fake: test with one size for all (--preprocess resize_and_crop)."
            )
        if use == "vigilance":
            images[0] = scramble(images[0], random.Random(args.seed))
        name = fake.name.rpartition("_fake_")[0]
        study["pairs"].append({"name": name, "use": use, "images": [encode(image, args.jpeg) for image in images]})
    return {"id": hashlib.sha256(json.dumps(study).encode()).hexdigest()[:16], **study}


def choose_pairs(args: argparse.Namespace) -> list[tuple[str, Path, Path]]:
    """Draw (use, fake, real) from the results by the seed; each image has one use.

    With --pairing same, both are of one input; with random, never: each fake meets the real image of the next input.
    """
    pairs = find_pairs(args.results, args.domain)
    uses = ["practice"] * args.practice + ["test"] * args.trials + ["vigilance"] * args.vigilance
    count = max(len(uses), 2) if args.pairing == "random" else len(uses)
    if count > len(pairs):
        practice = min(args.practice, len(pairs) // 5)
        raise UserError(
            f"{printable(args.results)} has {len(pairs)} pairs, and this study shows {count}, none twice: "
            "translate more images (test.py --num_test inf), or type "
            f"--practice {practice} --trials {len(pairs) - practice}."
        )
    fakes, reals = zip(*random.Random(args.seed).sample(pairs, count), strict=True)
    if args.pairing == "random":
        reals = (*reals[1:], reals[0])
    return list(zip(uses, fakes, reals, strict=False))


def scramble(image: np.ndarray, rng: random.Random) -> np.ndarray:
    """Return an image (H, W, C) whose eight rows and eight columns of patches are in a random order."""
    for axis in (0, 1):
        parts = np.array_split(image, 8, axis)
        rng.shuffle(parts)
        image = np.concatenate(parts, axis)
    return image


def encode(image: np.ndarray, jpeg: int | None) -> str:
    """Return an image's file in base64: PNG is lossless, JPEG is smaller."""
    file = io.BytesIO()
    options = {"format": "JPEG", "quality": jpeg, "subsampling": 0} if jpeg else {"format": "PNG", "compress_level": 9}
    Image.fromarray(image).save(file, **options)
    return base64.b64encode(file.getvalue()).decode()


def page(study: dict) -> str:
    """Return the page's text. Its Content-Security-Policy allows only its own script, and no requests."""
    folder = Path(__file__).parent
    style, script = ((folder / f"page.{suffix}").read_text(encoding="utf-8") for suffix in ("css", "js"))
    rules = ["default-src 'none'", "img-src data: blob:", "base-uri 'none'", "form-action 'none'"]
    for kind, text in (("style", style), ("script", script)):
        rules.append(f"{kind}-src 'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'")
    rounds = study["rounds"]
    texts = {
        "seconds": f"{study['seconds']:g} s",
        "practice": rounds["practice"],
        "test": rounds["test"] + rounds["vigilance"],
        "policy": "; ".join(rules),
    }
    data = json.dumps(study, separators=(",", ":")).replace("<", "\\u003c")  # no name can end the script
    template = string.Template((folder / "page.html").read_text(encoding="utf-8"))
    return template.substitute(texts, style=style, script=script, study=data)
