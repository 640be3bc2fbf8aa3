"""Write one page over all experiments and results: a table to sort and filter, with thumbnails and links.

    python scripts/pages.py                                   ./checkpoints and ./results: checkpoints/index.html
    python scripts/pages.py --checkpoints_dir /data/runs --results_dir /data/results --out /data/index.html

The page is a snapshot: run the command again to update it. docs/pages.md explains more.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from scripts.experiments.page import MARK, document
from scripts.experiments.reader import find
from util.checkpoint.atomic_files import write_whole
from util.errors import UserError, explained_errors, printable
from util.runtime.signals import unbreakable_output


def main(words: list[str]) -> None:
    """Read all folders, write the page, print its path. Raise UserError rather than replace another file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--checkpoints_dir", type=Path, help="experiments [./checkpoints]")
    parser.add_argument("--results_dir", type=Path, help="results of test.py [./results]")
    parser.add_argument("--out", type=Path, help="the page [index.html in the folder of experiments]")
    args = parser.parse_args(words)
    for option in ("checkpoints_dir", "results_dir"):
        folder = getattr(args, option)
        if folder and not folder.is_dir():
            raise UserError(f"--{option} {printable(folder)}: there is no such folder")
    checkpoints, results = args.checkpoints_dir or Path("checkpoints"), args.results_dir or Path("results")
    if not (experiments := find(checkpoints, results)):
        raise UserError(f"no experiments in {printable(checkpoints)}, no results in {printable(results)}: see --help")
    out = args.out or (checkpoints if checkpoints.is_dir() else results)
    out = out / "index.html" if out.is_dir() else out
    if out.exists() and MARK not in out.read_text("utf-8", "replace")[:2000]:
        raise UserError(f"{printable(out)} was not written by this program: name another file, --out FILE")
    write_whole(out, document(experiments, out.parent))
    trained, tested = sum(one.folder is not None for one in experiments), sum(len(one.results) for one in experiments)
    print(f"{printable(out)}: {trained} trained, {tested} tested")
    for experiment in filter(lambda one: one.notes, experiments):
        print(f"  {printable(experiment.name)}: {'; '.join(map(printable, experiment.notes))}")


if __name__ == "__main__":
    unbreakable_output()
    with explained_errors():
        main(sys.argv[1:])
