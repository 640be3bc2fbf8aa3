"""Split images into train, val and test, so that no patient, slide or scene stands in two of them.

    python datasets/split_dataset.py photos data --val 0.1 --test 0.2
    python datasets/split_dataset.py scans data --test 0.2 --group '(patient\\d+)'

A folder of images becomes data/train, data/val and data/test. A folder with the sub-folders A and B becomes
data/trainA, data/trainB, ...; images of one name stay together. Files of equal bytes stay together too.
data/split.json lists each file with its split, group and hash.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import re
import shlex
import shutil
import sys
from collections import Counter
from pathlib import Path
from typing import NamedTuple

import pairs

from util.checkpoint.atomic_files import sha256

SPLITS = ("test", "val", "train")  # in the order in which they are filled


class File(NamedTuple):
    """An image: its path within its side's folder, and the hash of its bytes."""

    side: str  # "A", "B", or "" for a single folder
    name: str
    path: Path
    sha256: str


def find_files(source: Path) -> list[File]:
    """List and hash the images of a folder and its sub-folders, or of its sides A and B."""
    sides = "AB" if (source / "A").is_dir() and (source / "B").is_dir() else ("",)
    files = []
    for side in sides:
        folders = sorted(Path(root) for root, _, _ in os.walk(source / side, followlinks=True))
        images = [path for folder in folders for path in pairs.images_of(folder)]
        names = [path.relative_to(source / side).as_posix() for path in images]
        if not images:
            pairs.stop(f"no image in {source / side}: {pairs.contents(source / side)}")
        for name, path in zip(names, images, strict=True):
            files.append(File(side, name, path, sha256(path)))
    return files


def group_files(files: list[File], pattern: str | None) -> dict[str, list[File]]:
    """Collect the files that must stay together: of one group, else of one name, and those of equal bytes."""
    names = [file.name.rpartition(".")[0] for file in files]
    if pattern:
        matches = [re.search(pattern, file.name) for file in files]
        if strangers := [file.name for file, match in zip(files, matches, strict=True) if not (match and match[1])]:
            pairs.stop(
                f"--group {pattern} matches nothing in {len(strangers)} names: {pairs.enumerate_names(strangers, 5)}"
            )
        names = [match[1] for match in matches]
    merged = {name: name for name in names}  # group -> the group that it was merged into
    first_of: dict[str, str] = {}
    for file, name in zip(files, names, strict=True):
        one, other = _last(merged, first_of.setdefault(file.sha256, name)), _last(merged, name)
        merged[max(one, other)] = min(one, other)
    groups: dict[str, list[File]] = {}
    for file, name in zip(files, names, strict=True):
        groups.setdefault(_last(merged, name), []).append(file)
    return groups


def _last(merged: dict[str, str], name: str) -> str:
    while merged[name] != name:
        name = merged[name]
    return name


def choose_splits(groups: dict[str, list[File]], val: float, test: float, seed: int) -> dict[str, str]:
    """Give each group a split. The order depends on the seed and the groups' names only."""
    count = sum(map(len, groups.values()))
    wanted, held = {"test": test * count, "val": val * count, "train": count}, Counter()
    chosen = {}
    for name in sorted(groups, key=lambda name: hashlib.sha256(f"{seed} {name}".encode()).digest()):
        size = len(groups[name])
        fits = [
            split for split in SPLITS if wanted[split] and (not held[split] or held[split] + size / 2 <= wanted[split])
        ]
        chosen[name] = fits[0]
        held[fits[0]] += size
    if empty := [split for split in SPLITS if wanted[split] and not held[split]]:
        pairs.stop(f"{len(groups)} groups are too few: none is left for {' and '.join(empty)}")
    return chosen


def write(groups: dict[str, list[File]], chosen: dict[str, str], folder: Path, copy: bool) -> list[dict]:
    """Link or copy all files into the folders of their splits; return the manifest's rows."""
    rows = []
    for group, files in sorted(groups.items()):
        for side, name, path, digest in files:
            new = folder / f"{chosen[group]}{side}" / name
            new.parent.mkdir(parents=True, exist_ok=True)
            if copy:
                shutil.copy2(path, new)
            else:
                new.symlink_to(path.resolve())
            rows.append(
                {"split": chosen[group], "group": group, "file": new.relative_to(folder).as_posix(), "sha256": digest}
            )
    return sorted(rows, key=lambda row: row["file"])


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("source", type=Path, metavar="SRC", help="folder of images, or with sub-folders A and B")
    parser.add_argument("target", type=Path, metavar="DST", help="folder to make")
    parser.add_argument(
        "--val", type=float, default=0, metavar="SHARE", help="share of the images, e.g. 0.1; default 0"
    )
    parser.add_argument(
        "--test", type=float, default=0, metavar="SHARE", help="share of the images, e.g. 0.2; default 0"
    )
    parser.add_argument(
        "--group", metavar="REGEX", help="files whose names share the regex's first group stay together"
    )
    parser.add_argument("--seed", type=int, default=0, help="another seed gives another split; default 0")
    parser.add_argument("--copy", action="store_true", help="copy the files; the default is symbolic links")
    args = parser.parse_args()
    shares = (args.val, args.test)
    if not (min(shares) >= 0 and 0 < sum(shares) < 1):
        parser.error(
            f"--val {args.val} --test {args.test}: type shares from 0 to 1 whose sum is below 1, as --test 0.2"
        )
    try:
        if args.group and not re.compile(args.group).groups:
            parser.error(f"--group {args.group}: put the part that names the group in parentheses, as '(patient\\d+)'")
    except re.error as error:
        parser.error(f"--group {args.group} is no regular expression: {error}")
    if args.target.exists():
        parser.error(f"{args.target} exists; name a folder to make")
    if args.target.resolve().is_relative_to(args.source.resolve()):
        parser.error(f"{args.target} is inside {args.source}; name a folder elsewhere")
    return args


def main() -> int:
    args = parse()
    files = find_files(args.source)
    groups = group_files(files, args.group)
    chosen = choose_splits(groups, args.val, args.test, args.seed)
    new = args.target.with_name(f"{args.target.name}.{os.getpid()}.new")  # a split that was interrupted is not used
    try:
        rows = write(groups, chosen, new, args.copy)
        splits = [split for split in reversed(SPLITS) if split in chosen.values()]
        counts = {
            split: {
                "images": sum(row["split"] == split for row in rows),
                "groups": sum(choice == split for choice in chosen.values()),
            }
            for split in splits
        }
        facts = {"source": str(args.source.resolve()), "val": args.val, "test": args.test, "seed": args.seed}
        manifest = {**facts, "group": args.group, "counts": counts, "files": rows}
        (new / "split.json").write_text(json.dumps(manifest, indent=1) + "\n", encoding="utf-8")
        new.rename(args.target)
    except OSError as error:
        pairs.stop(f"cannot write {args.target}: {error}" + ("" if args.copy else " (--copy makes no links)"))
    finally:
        shutil.rmtree(new, ignore_errors=True)
    for split, count in counts.items():
        folders = f"{args.target / split}{'A and B' * bool(files[0].side)}"
        print(f"{split}: {count['images']} images, {count['groups']} groups, in {folders}")
    sides = [{file.name.rpartition(".")[0] for file in files if file.side == side} for side in "AB"]
    model = "cycle_gan" if sides[0] != sides[1] else "pix2pix"
    print(f"next: python train.py --dataroot {shlex.quote(str(args.target))} --name NAME --model {model}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
