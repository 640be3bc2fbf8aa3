"""Join images of folder A with their partners of folder B, side by side, as the `aligned` dataset reads them.

    python datasets/combine_A_and_B.py --fold_A data/A --fold_B data/B --fold_AB data/AB

Each sub-folder of fold_A (train, val, test, ...) is a split with a sub-folder of the same name in fold_B.
"""

from __future__ import annotations

import argparse
import shlex
import sys
from collections import Counter, defaultdict
from concurrent.futures import ProcessPoolExecutor
from contextlib import nullcontext
from pathlib import Path
from typing import NamedTuple

import pairs
from tqdm import tqdm

from data.formats import notes
from data.formats.notes import Note
from util.errors import UserError


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


def find_pairs(split: str, args: argparse.Namespace) -> list[Pair]:
    """Match the images of one split by name, else by name without extension where only one image of B has it."""
    tag_A, tag_B = ("_A.", "_B.") if args.use_AB else (".", ".")
    names_A, names_B = (
        [path.name for path in pairs.images_of(fold / split) if tag in path.name]
        for fold, tag in ((args.fold_A, tag_A), (args.fold_B, tag_B))
    )
    wanted = {a: a.replace(tag_A, tag_B) for a in names_A}
    found, lonely, by_stem = [], [], defaultdict(list)
    for b in names_B:
        by_stem[Path(b).stem].append(b)
    for a in names_A[: args.num_imgs]:
        same_stem = by_stem[Path(wanted[a]).stem]
        partners = [wanted[a]] if wanted[a] in same_stem else same_stem
        if len(partners) == 1:
            AB = args.fold_AB / split / a.replace(tag_A, ".")
            AB = AB.with_suffix(".png") if AB.suffix.lower() in pairs.NOT_WRITTEN else AB
            found.append(Pair(args.fold_A / split / a, args.fold_B / split / partners[0], AB))
        else:
            lonely.append(a)
    stems = {Path(b).stem for b in wanted.values()}
    print(f"split {split}: {len(found)} pairs of {args.fold_A / split} and {args.fold_B / split}")
    for letter, names in (("B", lonely), ("A", [b for b in names_B if Path(b).stem not in stems])):
        if names:
            print(f"  {len(names)} left out, without one partner in fold_{letter}: {pairs.enumerate_names(names)}")
    return found


def combine(pair: Pair) -> tuple[str, list[Note]]:
    """Write one pair; return the error, or nothing, and the notes of a worker process."""
    suffix, error = pair.AB.suffix.lower(), ""
    options = {"quality": 95} if suffix in (".jpg", ".jpeg") else {"lossless": True} if suffix == ".webp" else {}
    try:
        pairs.write(pairs.join(pair.A, pair.B), pair.AB, **options)
    except UserError as broken:
        error = str(broken)
    except (OSError, ValueError) as broken:
        error = f"cannot write {pair.AB}: {broken}"
    return error, notes.collected()


def combine_all(found: list[Pair], no_multiprocessing: bool) -> list[str]:
    """Write all pairs, on all processor cores unless told otherwise; return the errors."""
    errors = []
    with nullcontext() if no_multiprocessing else ProcessPoolExecutor(initializer=notes.collect) as pool:
        results = pool.map(combine, found, chunksize=8) if pool else map(combine, found)
        for error, said in tqdm(results, total=len(found), desc="joined", disable=None):
            notes.say(*said)
            errors += [error] * bool(error)
    return errors


def check(found: list[Pair], splits: list[str], args: argparse.Namespace) -> None:
    """Stop if there are no pairs, or if a pair would overwrite one of its images or another pair."""
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
    if doubled := [str(AB) for AB, count in Counter(pair.AB for pair in found).items() if count > 1]:
        pairs.stop(f"two pairs would be written to one file: {pairs.enumerate_names(doubled, 3)}")
    pairs.check_first((pair.A, pair.B) for pair in found)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description="Join images of A and B side by side. PNG, BMP, PPM, TIFF and WebP are written without loss, "
        "JPEG with quality 95: the result has the name and format of A's file; for HEIC and AVIF it is a PNG.",
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


def where(fold_AB: Path, splits: list[str]) -> str:
    """Return the options by which train.py finds the pairs."""
    single = splits == ["."]  # the pairs are in fold_AB itself
    root, phase = (fold_AB.parent, fold_AB.resolve().name) if single else (fold_AB, "train")
    if phase not in splits and not single:
        phase = splits[0]
    return f"--dataroot {shlex.quote(str(root))}" + f" --phase {shlex.quote(phase)}" * (phase != "train")


def main() -> int:
    args = parse()
    splits = split_names(args.fold_A, args.fold_AB)
    found = [pair for split in splits for pair in find_pairs(split, args)]
    check(found, splits, args)
    failures = combine_all(found, args.no_multiprocessing)
    print(f"{len(found) - len(failures)} pairs written to {args.fold_AB}")
    if failures:
        print(f"error: {len(failures)} pairs failed:", *failures, sep="\n  ", file=sys.stderr)
        return 1
    print(f"next: python train.py {where(args.fold_AB, splits)} --name NAME --model pix2pix")
    return 0


if __name__ == "__main__":
    sys.exit(main())
