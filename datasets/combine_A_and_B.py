"""Join pictures of folder A with their partners of folder B, side by side, as the `aligned` data set reads them.

    python datasets/combine_A_and_B.py --fold_A data/A --fold_B data/B --fold_AB data/AB

Each sub-folder of fold_A (train, val, test, ...) is a split with a sub-folder of the same name in fold_B.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field
from pathlib import Path

import pairs


@dataclass(frozen=True)
class Pair:
    """Two pictures and the file that shall show both, A on the left."""

    A: Path
    B: Path
    AB: Path


@dataclass
class Split:
    """What was found for one sub-folder; `name` is "." where fold_A itself holds the pictures."""

    name: str
    pairs: list[Pair] = field(default_factory=list)
    by_stem: list[str] = field(default_factory=list)
    lonely_A: list[str] = field(default_factory=list)
    lonely_B: list[str] = field(default_factory=list)
    unclear: list[str] = field(default_factory=list)


def split_names(fold_A: Path, fold_AB: Path) -> list[str]:
    """Name the splits: the sub-folders of fold_A, or "." if it holds none but pictures."""
    if not fold_A.is_dir():
        pairs.stop(f"--fold_A {fold_A} is no folder")
    out = fold_AB.resolve()  # may lie inside fold_A
    folders = [e for e in fold_A.iterdir() if e.is_dir() and not e.name.startswith(".") and e.resolve() != out]
    return sorted(folder.name for folder in folders) or ["."]


def find_pairs(name: str, args: argparse.Namespace) -> Split:
    """Match the pictures of one split: by name, else by name without extension."""
    split = Split(name)
    tag_A, tag_B = ("_A.", "_B.") if args.use_AB else (".", ".")
    names_A, names_B = (
        sorted(path.name for path in folder.iterdir() if pairs.is_picture(path) and tag in path.name)
        if (folder := fold / name).is_dir()
        else []
        for fold, tag in ((args.fold_A, tag_A), (args.fold_B, tag_B))
    )
    wanted = {a: a.replace(tag_A, tag_B) for a in names_A}
    free = set(names_B) - set(wanted.values())
    for a in names_A[: args.num_imgs]:
        exact = wanted[a] in names_B
        found = [wanted[a]] if exact else sorted(b for b in free if Path(b).stem == Path(wanted[a]).stem)
        if len(found) > 1:
            split.unclear.append(f"{name}/{a}: which is its partner, {' or '.join(found)}?")
        elif not found:
            split.lonely_A.append(a)
        else:
            b = found[0]
            AB = args.fold_AB / name / a.replace(tag_A, ".")
            split.pairs.append(Pair(args.fold_A / name / a, args.fold_B / name / b, AB))
            if not exact:
                split.by_stem.append(f"{a} with {b}")
    stems = {Path(b).stem for b in wanted.values()}
    split.lonely_B = [b for b in names_B if Path(b).stem not in stems]
    return split


def describe(split: Split, args: argparse.Namespace) -> None:
    print(f"split {split.name}: {len(split.pairs)} pairs of {args.fold_A / split.name} and {args.fold_B / split.name}")
    for names, text in (
        (split.by_stem, "paired in spite of another extension"),
        (split.lonely_A, "left out, without a partner in fold_B"),
        (split.lonely_B, "left out, without a partner in fold_A"),
    ):
        if names:
            print(f"  {len(names)} {text}: {pairs.enumerate_names(names)}")


def combine(pair: Pair) -> str:
    """Write one pair; return what went wrong, or nothing."""
    try:
        # Upright, since what is written carries no EXIF note by which a viewer would turn it.
        left, right = pairs.read_rgb(pair.A, upright=True), pairs.read_rgb(pair.B, upright=True)
        suffix = pair.AB.suffix.lower()
        options = {"quality": 95} if suffix in (".jpg", ".jpeg") else {"lossless": True} if suffix == ".webp" else {}
        pairs.write(pairs.side_by_side(left, right), pair.AB, **options)
    except pairs.BROKEN as error:
        return f"{pair.A} and {pair.B}: {error}"
    return ""


def combine_all(todo: list[Pair], no_multiprocessing: bool) -> list[str]:
    """Write all pairs, with all processor cores unless told otherwise; return the failures."""
    if no_multiprocessing:
        return watch(map(combine, todo), len(todo))
    try:
        with ProcessPoolExecutor() as pool:
            return watch(pool.map(combine, todo, chunksize=8), len(todo))
    except BrokenProcessPool:
        pairs.stop("a worker process died (out of memory?); try again with --no_multiprocessing")


def watch(results: Iterable[str], total: int) -> list[str]:
    """Print progress while results come in; return the failures among them."""
    failures = []
    for done, failure in enumerate(results, start=1):
        pairs.progress(done, total, "joined")
        if failure:
            failures.append(failure)
    return failures


def check(splits: list[Split], args: argparse.Namespace) -> list[Pair]:
    """Return the pairs to write; stop if there are none or a picture would be overwritten by its own pair."""
    todo = [pair for split in splits for pair in split.pairs]
    if not todo and not any(split.unclear for split in splits):
        tags = " with _A. and _B. in their names" if args.use_AB else " of the same name"
        where = [f"{args.fold_A / split.name} and {args.fold_B / split.name}" for split in splits]
        pairs.stop(
            f"found no pairs: looked for pictures ({' '.join(pairs.EXTENSIONS)}){tags} in {'; '.join(where)}. "
            f"{pairs.contents(args.fold_A)}; {pairs.contents(args.fold_B)}."
        )
    sources = {path.resolve() for pair in todo for path in (pair.A, pair.B)}
    if clash := [str(pair.AB) for pair in todo if pair.AB.resolve() in sources]:
        pairs.stop(f"--fold_AB would overwrite the pictures themselves: {pairs.enumerate_names(clash, 3)}")
    return todo


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description="Join pictures of A and B side by side. PNG, BMP, PPM, TIFF and WebP are written without loss, "
        "JPEG with quality 95: the result has the name, and so the format, of A's file.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument("--fold_A", type=Path, default="../dataset/50kshoes_edges", help="folder of the splits of A")
    parser.add_argument("--fold_B", type=Path, default="../dataset/50kshoes_jpg", help="folder of the splits of B")
    parser.add_argument("--fold_AB", type=Path, default="../dataset/test_AB", help="folder to write")
    parser.add_argument("--num_imgs", type=int, default=1000000, help="pictures of A to use in each split, at most")
    parser.add_argument("--use_AB", action="store_true", help="pair 1_A.png with 1_B.png, and write 1.png")
    parser.add_argument("--no_multiprocessing", action="store_true", help="use one process")
    args = parser.parse_args()
    if args.num_imgs < 1:
        parser.error(f"--num_imgs {args.num_imgs}: at least 1 is needed")
    return args


def main() -> int:
    args = parse()
    splits = [find_pairs(name, args) for name in split_names(args.fold_A, args.fold_AB)]
    for split in splits:
        describe(split, args)
    todo = check(splits, args)
    failures = [line for split in splits for line in split.unclear] + combine_all(todo, args.no_multiprocessing)
    written = len(todo) + sum(len(split.unclear) for split in splits) - len(failures)
    print(f"{written} pairs written to {args.fold_AB}")
    if failures:
        print(f"error: {len(failures)} pairs failed:", *failures, sep="\n  ", file=sys.stderr)
        return 1
    print(f"next: python train.py --dataroot {args.fold_AB} --name NAME --model pix2pix")
    return 0


if __name__ == "__main__":
    sys.exit(main())
