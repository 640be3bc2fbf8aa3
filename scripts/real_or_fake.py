"""Ask people which images are fake, as section 4.1 of the pix2pix paper does, and sum up what they answer.

    python scripts/real_or_fake.py make results/facades_pix2pix/test_latest --out study.html
    python scripts/real_or_fake.py summarise answers/

`make` writes one file, a page that needs no server and no network: open it, or send it to people. Each round shows a
real and a fake image side by side for one second and then asks which one was the fake: 10 rounds of practice, which
tell whether that was right, and 40 that do not. Sides, order and choice are random for each participant. At the end the
page gives its participant a JSON file of answers, to be sent back.

`summarise` reads those files and prints how often a fake was taken for the real one ("% labelled real"; 50 is as good
as real), with 95 % intervals by bootstrap: over participants, and over participants and their rounds.
"""

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
import sys
from pathlib import Path

import numpy as np
from PIL import Image

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from scripts.perceptual.answers import summarise
from util.checkpoint.atomic_files import write_whole


def main() -> None:
    """Parse the command line and do what it says."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(required=True, metavar="make | summarise")
    making = commands.add_parser("make", help="write the page", formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    making.add_argument("results", type=Path, help="a folder that test.py wrote")
    making.add_argument("--out", type=Path, default=Path("study.html"), help="the page")
    making.add_argument("--name", help="of the study, in the answers; that of the experiment, unless given")
    making.add_argument("--domain", choices="AB", default="B", help="A: CycleGAN's fake_A and real_A")
    making.add_argument("--practice", type=int, default=10, help="rounds of practice, with images of their own")
    making.add_argument("--trials", type=int, default=40, help="rounds of the test")
    making.add_argument("--pool", type=int, default=0, help="pairs to draw each test from; 0: as many as --trials")
    making.add_argument("--vigilance", type=int, default=0, help="further rounds, whose fake is plainly scrambled")
    making.add_argument("--seconds", type=float, default=1, help="how long images are shown")
    making.add_argument(
        "--in_turn", action="store_true", help="show the first image, then the second, not both at once"
    )
    making.add_argument("--jpeg", type=int, metavar="QUALITY", help="1 to 100: smaller, in place of lossless PNG")
    making.add_argument("--max_mb", type=float, default=50, help="the largest page that is written")
    making.add_argument("--consent", type=Path, help="a text file, to be shown on the first screen")
    making.add_argument("--seed", type=int, default=0, help="of the choice of images")
    making.set_defaults(command=make)
    summing = commands.add_parser("summarise", help="sum up", formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    summing.add_argument("answers", type=Path, nargs="+", help="JSON files of answers, or folders of them")
    summing.add_argument("--mixed", action="store_true", help="answers to several pages: a line for each page")
    summing.add_argument("--tolerance", type=float, default=100, help="ms that a round's images may be shown too long")
    summing.add_argument("--json", type=Path, help="also write the figures to this file")
    summing.add_argument("--bootstrap", type=int, default=10_000, help="samples drawn for the intervals")
    summing.add_argument("--seed", type=int, default=0, help="of the bootstrap")
    summing.set_defaults(command=summarise)
    args = parser.parse_args()
    from util.errors import explained_errors
    from util.runtime.signals import unbreakable_output

    unbreakable_output()
    with explained_errors():
        args.command(args)


# ---- the page ----


def make(args: argparse.Namespace) -> None:
    """Choose pairs, and write the page."""
    from util.errors import UserError, printable

    check_settings(args)
    consent = args.consent.read_text(encoding="utf-8") if args.consent else ""
    study = make_study(args)
    text = page(study, consent)
    if len(text) > args.max_mb * 1e6:
        raise UserError(
            f"the page would have {len(text) / 1e6:.0f} MB, and --max_mb allows {args.max_mb:g}: phones load it whole. "
            "Type --jpeg 95, or fewer --trials or --pool, or a larger --max_mb."
        )
    write_whole(args.out, text)
    uses = [pair["use"] for pair in study["pairs"]]
    counts = ", ".join(f"{uses.count(use)} {use}" for use in ("practice", "test", "vigilance") if use in uses)
    print(f"{printable(args.out)}: {len(text) / 1e6:.1f} MB, pairs: {counts}, study {study['id']}")
    print("open it in a browser, or send it to people; it needs no network")


def check_settings(args: argparse.Namespace) -> None:
    """Raise UserError for numbers that make no study."""
    from util.errors import UserError

    for name, low, high in (
        ("practice", 0, 10_000),
        ("trials", 1, 10_000),
        ("vigilance", 0, 10_000),
        ("seconds", 0.05, 60),
        ("jpeg", 1, 100),
    ):
        value = getattr(args, name)
        if value is not None and not low <= value <= high:
            raise UserError(f"--{name} {value}: it is {low} to {high}.")
    if args.pool and args.pool < args.trials:
        raise UserError(f"--pool {args.pool} is too small for --trials {args.trials}: no pair is shown twice.")


def make_study(args: argparse.Namespace) -> dict:
    """Return what the page is about: settings and images; `id` is a hash of them."""
    name = args.name or args.results.resolve().parent.name
    settings = {"name": name, "seconds": args.seconds, "in_turn": args.in_turn, "jpeg": args.jpeg}
    rounds = {"practice": args.practice, "test": args.trials, "vigilance": args.vigilance}
    study = {**settings, "rounds": rounds, "type": "image/jpeg" if args.jpeg else "image/png", "pairs": []}
    digest = hashlib.sha256(json.dumps([settings, rounds]).encode())
    for use, fake, real in choose(args):
        images = [read(fake), read(real)]
        check_sizes(fake, images)
        if use == "vigilance":
            images[0] = scrambled(images[1], random.Random(args.seed))
        label = fake.name.rpartition("_fake_")[0]
        digest.update(json.dumps([label, use, images[0].shape]).encode() + b"".join(i.tobytes() for i in images))
        study["pairs"].append({"name": label, "use": use, "images": [encode(image, args.jpeg) for image in images]})
    return {"id": digest.hexdigest()[:16], **study}


def choose(args: argparse.Namespace) -> list[tuple[str, Path, Path]]:
    """Draw (use, fake, real) from the results: no pair has two uses."""
    from scripts.evaluation.targets import find_pairs
    from util.errors import UserError, printable

    pairs = find_pairs(args.results, args.domain)
    uses = ["practice"] * args.practice + ["test"] * (args.pool or args.trials) + ["vigilance"] * args.vigilance
    if len(uses) > len(pairs):
        practice = min(args.practice, len(pairs) // 5)
        raise UserError(
            f"{printable(args.results)} has {len(pairs)} pairs, and this study shows {len(uses)}, none twice: "
            "translate more images (test.py --num_test inf), or type "
            f"--practice {practice} --trials {len(pairs) - practice}."
        )
    chosen = random.Random(args.seed).sample(pairs, len(uses))
    return [(use, *pair) for use, pair in zip(uses, chosen, strict=True)]


def read(path: Path) -> np.ndarray:
    """Read an image as (H, W, 3), without anything else that its file holds."""
    from data.formats import pillow

    return np.asarray(pillow.load(path))


def check_sizes(fake: Path, images: list[np.ndarray]) -> None:
    """Raise UserError where the shapes tell which image is the fake."""
    from util.errors import UserError, printable

    sizes = [f"{image.shape[1]}x{image.shape[0]}" for image in images]
    if sizes[0] != sizes[1]:
        raise UserError(
            f"{printable(fake)} is {sizes[0]} and its real image {sizes[1]}, which would give the fake away: "
            "test with one size for all (--preprocess resize_and_crop)."
        )


def scrambled(image: np.ndarray, rng: random.Random, tiles: int = 8) -> np.ndarray:
    """Return an image of the same shape that is put together of pieces of another, taken from anywhere."""
    height, width = image.shape[:2]
    result = np.empty_like(image)
    rows, columns = (np.linspace(0, side, tiles + 1).astype(int).tolist() for side in (height, width))
    for top, bottom in itertools.pairwise(rows):
        for left, right in itertools.pairwise(columns):
            y, x = rng.randint(0, height - bottom + top), rng.randint(0, width - right + left)
            result[top:bottom, left:right] = image[y : y + bottom - top, x : x + right - left]
    return result


def encode(image: np.ndarray, jpeg: int | None) -> str:
    """Return an image's file, base64: PNG keeps every pixel that the network made, JPEG of a quality is smaller."""
    file = io.BytesIO()
    if jpeg:
        Image.fromarray(image).save(file, "JPEG", quality=jpeg, subsampling=0)
    else:
        Image.fromarray(image).save(file, "PNG", compress_level=9)
    return base64.b64encode(file.getvalue()).decode()


def page(study: dict, consent: str = "") -> str:
    """Return the page's text. Its Content-Security-Policy lets its own script run alone, and nothing be fetched."""
    folder = Path(__file__).with_name("perceptual")
    style, script = ((folder / f"page.{suffix}").read_text(encoding="utf-8") for suffix in ("css", "js"))
    rules = ["default-src 'none'", "img-src data: blob:", "base-uri 'none'", "form-action 'none'"]
    for kind, text in (("style", style), ("script", script)):
        rules.append(f"{kind}-src 'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'")
    test = count(study["rounds"]["test"] + study["rounds"]["vigilance"], "round")
    practice = count(study["rounds"]["practice"], "practice round")
    told = f"You begin with {practice}, where you are told whether you were right. After that come {test} without that."
    parts = [part.strip() for part in html.escape(consent).split("\n\n")]
    texts = {
        "moment": count(study["seconds"], "second") + (" each, one after the other" if study["in_turn"] else ""),
        "rounds": told if study["rounds"]["practice"] else f"There are {test}.",
        "test_rounds": f"{test} to go.",
        "consent": "".join(f"<p>{part}</p>" for part in parts if part),
        "policy": "; ".join(rules),
    }
    data = json.dumps(study, separators=(",", ":")).replace("<", "\\u003c")  # no name can end the script
    template = string.Template((folder / "page.html").read_text(encoding="utf-8"))
    return template.substitute(texts, style=style, script=script, study=data)


def count(number: float, thing: str) -> str:
    """Write a number of things."""
    return f"{number:g} {thing}{'' if number == 1 else 's'}"


if __name__ == "__main__":
    main()
