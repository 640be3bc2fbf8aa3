"""Join images of folder A with their partners of folder B, side by side, as the `aligned` dataset reads them.

    python datasets/combine_A_and_B.py --fold_A data/A --fold_B data/B --fold_AB data/AB

Each sub-folder of fold_A (train, val, test, ...) is a split with a sub-folder of the same name in fold_B.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import nullcontext
from pathlib import Path
from typing import NamedTuple

import pairs


class Pair(NamedTuple):
    """Two images and the file that will show both, A on the left."""

    A: Path
    B: Path
    AB: Path


def split_names(fold_A: Path, fold_AB: Path) -> list[str]:
    """Return the splits: the sub-folders of fold_A, or "." if it holds images only."""
    if not fold_A.is_dir():
        pairs.stop(f"--fold_A {fold_A} is no folder")
    out = fold_AB.resolve()  # may be inside fold_A
    folders = [e for e in fold_A.iterdir() if e.is_dir() and not e.name.startswith(".") and e.resolve() != out]
    return sorted(folder.name for folder in folders) or ["."]


def find_pairs(split: str, args: argparse.Namespace) -> tuple[list[Pair], list[str]]:
    """Match the images of one split by name, else by name without extension; return pairs and ambiguous names."""
    tag_A, tag_B = ("_A.", "_B.") if args.use_AB else (".", ".")
    names_A, names_B = (
        [path.name for path in pairs.images_of(fold / split) if tag in path.name]
        for fold, tag in ((args.fold_A, tag_A), (args.fold_B, tag_B))
    )
    wanted = {a: a.replace(tag_A, tag_B) for a in names_A}
    free = set(names_B) - set(wanted.values())
    found, by_stem, lonely_A, unclear = [], [], [], []
    for a in names_A[: args.num_imgs]:
        stem = Path(wanted[a]).stem
        partners = [wanted[a]] if wanted[a] in names_B else sorted(b for b in free if Path(b).stem == stem)
        if len(partners) > 1:
            unclear.append(f"{split}/{a}: which is its partner, {' or '.join(partners)}?")
        elif not partners:
            lonely_A.append(a)
        else:
            AB = args.fold_AB / split / a.replace(tag_A, ".")
            found.append(Pair(args.fold_A / split / a, args.fold_B / split / partners[0], AB))
            by_stem += [f"{a} with {partners[0]}"] * (partners[0] != wanted[a])
    stems = {Path(b).stem for b in wanted.values()}
    print(f"split {split}: {len(found)} pairs of {args.fold_A / split} and {args.fold_B / split}")
    for names, text in (
        (by_stem, "paired in spite of another extension"),
        (lonely_A, "left out, without a partner in fold_B"),
        ([b for b in names_B if Path(b).stem not in stems], "left out, without a partner in fold_A"),
    ):
        if names:
            print(f"  {len(names)} {text}: {pairs.enumerate_names(names)}")
    return found, unclear


def combine(pair: Pair) -> str:
    """Write one pair; return the error, or nothing."""
    try:
        # Upright, since the new file has no EXIF note by which a viewer would turn it.
        left, right = pairs.read_rgb(pair.A, upright=True), pairs.read_rgb(pair.B, upright=True)
        suffix = pair.AB.suffix.lower()
        options = {"quality": 95} if suffix in (".jpg", ".jpeg") else {"lossless": True} if suffix == ".webp" else {}
        pairs.write(pairs.side_by_side(left, right), pair.AB, **options)
    except pairs.BROKEN as error:
        return f"{pair.A} and {pair.B}: {error}"
    return ""


def combine_all(found: list[Pair], no_multiprocessing: bool) -> Iterator[str]:
    """Write all pairs, on all processor cores unless told otherwise; yield the errors."""
    with nullcontext() if no_multiprocessing else ProcessPoolExecutor() as pool:
        results = pool.map(combine, found, chunksize=8) if pool else map(combine, found)
        try:
            for done, error in enumerate(results, start=1):
                pairs.progress(done, len(found), "joined")
                yield from [error] * bool(error)
        except BrokenProcessPool:
            pairs.stop("a worker died (out of memory?); try again with --no_multiprocessing")


def check(found: list[Pair], splits: list[str], args: argparse.Namespace) -> None:
    """Stop if there are no pairs, or if a pair would overwrite one of its images."""
    if not found:
        tags = " with _A. and _B. in their names" if args.use_AB else " of the same name"
        where = "; ".join(f"{args.fold_A / split} and {args.fold_B / split}" for split in splits)
        pairs.stop(
            f"found no pairs: looked for images ({' '.join(pairs.EXTENSIONS)}){tags} in {where}. "
            f"{pairs.contents(args.fold_A)}; {pairs.contents(args.fold_B)}."
        )
    sources = {path.resolve() for pair in found for path in pair[:2]}
    if clash := [str(pair.AB) for pair in found if pair.AB.resolve() in sources]:
        pairs.stop(f"--fold_AB would overwrite the images themselves: {pairs.enumerate_names(clash, 3)}")


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description="Join images of A and B side by side. PNG, BMP, PPM, TIFF and WebP are written without loss, "
        "JPEG with quality 95: the result has the name and format of A's file.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument("--fold_A", type=Path, default="../dataset/50kshoes_edges", help="folder of the splits of A")
    parser.add_argument("--fold_B", type=Path, default="../dataset/50kshoes_jpg", help="folder of the splits of B")
    parser.add_argument("--fold_AB", type=Path, default="../dataset/test_AB", help="folder to write")
    parser.add_argument("--num_imgs", type=int, default=1000000, help="most images of A to use in each split")
    parser.add_argument("--use_AB", action="store_true", help="pair 1_A.png with 1_B.png, and write 1.png")
    parser.add_argument("--no_multiprocessing", action="store_true", help="use one process")
    args = parser.parse_args()
    if args.num_imgs < 1:
        parser.error(f"--num_imgs {args.num_imgs}: at least 1 is needed")
    return args


def main() -> int:
    args = parse()
    splits = split_names(args.fold_A, args.fold_AB)
    by_split = [find_pairs(split, args) for split in splits]
    found = [pair for pairs_of_split, _ in by_split for pair in pairs_of_split]
    failures = [line for _, unclear in by_split for line in unclear]
    if not failures or found:
        check(found, splits, args)
    unclear = len(failures)
    failures += combine_all(found, args.no_multiprocessing)
    print(f"{len(found) - len(failures) + unclear} pairs written to {args.fold_AB}")
    if failures:
        print(f"error: {len(failures)} pairs failed:", *failures, sep="\n  ", file=sys.stderr)
        return 1
    print(f"next: python train.py --dataroot {args.fold_AB} --name NAME --model pix2pix")
    return 0


if __name__ == "__main__":
    sys.exit(main())
