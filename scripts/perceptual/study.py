"""Make the page of scripts/real_or_fake.py: choose pairs of images and write them into one HTML file."""

from __future__ import annotations

import argparse
import base64
import hashlib
import html
import io
import itertools
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

RANGES = {"practice": (0, 10_000), "trials": (1, 10_000), "vigilance": (0, 10_000), "seconds": (0.05, 60)}
RANGES["jpeg"] = (1, 100)


def make(args: argparse.Namespace) -> None:
    """Choose pairs and write the page."""
    for name, (low, high) in RANGES.items():
        value = getattr(args, name)
        if value is not None and not low <= value <= high:
            raise UserError(f"--{name} {value}: it must be {low} to {high}.")
    if args.pool and args.pool < args.trials:
        raise UserError(f"--pool {args.pool} is too small for --trials {args.trials}: no pair is shown twice.")
    consent = args.consent.read_text(encoding="utf-8") if args.consent else ""
    study = make_study(args)
    text = page(study, consent)
    if len(text) > args.max_mb * 1e6:
        raise UserError(
            f"the page would have {len(text) / 1e6:.0f} MB, and --max_mb allows {args.max_mb:g}: phones load all of "
            "it. Use --jpeg 95, fewer --trials, a smaller --pool, or a larger --max_mb."
        )
    write_whole(args.out, text)
    uses = [pair["use"] for pair in study["pairs"]]
    counts = ", ".join(f"{uses.count(use)} {use}" for use in ("practice", "test", "vigilance") if use in uses)
    print(f"{printable(args.out)}: {len(text) / 1e6:.1f} MB, pairs: {counts}, study {study['id']}")
    print("open it in a browser, or send it to people; it needs no network")


def make_study(args: argparse.Namespace) -> dict:
    """Return the page's data: settings and images; `id` is a hash of them."""
    name = args.name or args.results.resolve().parent.name
    settings = {"name": name, "seconds": args.seconds, "in_turn": args.in_turn, "jpeg": args.jpeg}
    rounds = {"practice": args.practice, "test": args.trials, "vigilance": args.vigilance}
    study = {**settings, "rounds": rounds, "type": "image/jpeg" if args.jpeg else "image/png", "pairs": []}
    digest = hashlib.sha256(json.dumps([settings, rounds, args.pairing]).encode())
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
        label = fake.name.rpartition("_fake_")[0]
        digest.update(json.dumps([label, use, images[0].shape]).encode() + b"".join(i.tobytes() for i in images))
        study["pairs"].append({"name": label, "use": use, "images": [encode(image, args.jpeg) for image in images]})
    return {"id": digest.hexdigest()[:16], **study}


def choose_pairs(args: argparse.Namespace) -> list[tuple[str, Path, Path]]:
    """Draw (use, fake, real) from the results by the seed; each image has one use.

    With --pairing same, both are of one input; with random, never: each fake meets the real image of the next input.
    """
    pairs = find_pairs(args.results, args.domain)
    uses = ["practice"] * args.practice + ["test"] * (args.pool or args.trials) + ["vigilance"] * args.vigilance
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


def scramble(image: np.ndarray, rng: random.Random, tiles: int = 8) -> np.ndarray:
    """Return an image of the same shape, composed of patches from random positions of `image`."""
    height, width = image.shape[:2]
    result = np.empty_like(image)
    rows, columns = (np.linspace(0, side, tiles + 1).astype(int).tolist() for side in (height, width))
    for top, bottom in itertools.pairwise(rows):
        for left, right in itertools.pairwise(columns):
            y, x = rng.randint(0, height - bottom + top), rng.randint(0, width - right + left)
            result[top:bottom, left:right] = image[y : y + bottom - top, x : x + right - left]
    return result


def encode(image: np.ndarray, jpeg: int | None) -> str:
    """Return an image's file in base64: PNG is lossless, JPEG is smaller."""
    file = io.BytesIO()
    options = {"format": "JPEG", "quality": jpeg, "subsampling": 0} if jpeg else {"format": "PNG", "compress_level": 9}
    Image.fromarray(image).save(file, **options)
    return base64.b64encode(file.getvalue()).decode()


def page(study: dict, consent: str = "") -> str:
    """Return the page's text. Its Content-Security-Policy allows only its own script, and no requests."""
    folder = Path(__file__).parent
    style, script = ((folder / f"page.{suffix}").read_text(encoding="utf-8") for suffix in ("css", "js"))
    rules = ["default-src 'none'", "img-src data: blob:", "base-uri 'none'", "form-action 'none'"]
    for kind, text in (("style", style), ("script", script)):
        rules.append(f"{kind}-src 'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'")
    rounds = study["rounds"]
    test = count_of(rounds["test"] + rounds["vigilance"], "round")
    practice = f"You begin with {count_of(rounds['practice'], 'practice round')}, which show whether you were right. "
    parts = [part.strip() for part in html.escape(consent).split("\n\n")]
    texts = {
        "duration": count_of(study["seconds"], "second") + (" each, one after the other" if study["in_turn"] else ""),
        "rounds": practice + f"The {test} after that do not." if rounds["practice"] else f"There are {test}.",
        "test_rounds": f"{test} to go.",
        "consent": "".join(f"<p>{part}</p>" for part in parts if part),
        "policy": "; ".join(rules),
    }
    data = json.dumps(study, separators=(",", ":")).replace("<", "\\u003c")  # no name can end the script
    template = string.Template((folder / "page.html").read_text(encoding="utf-8"))
    return template.substitute(texts, style=style, script=script, study=data)


def count_of(number: float, noun: str) -> str:
    return f"{number:g} {noun}{'' if number == 1 else 's'}"
