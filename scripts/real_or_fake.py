"""Ask people which images are fake, as in section 4.1 of the pix2pix paper, and summarise their answers.

    python scripts/real_or_fake.py make results/facades_pix2pix/test_latest --out study.html
    python scripts/real_or_fake.py summarise answers/

`make` writes a page in one file that needs no server and no network: open it, or send it to people. Each round shows a
real and a fake image side by side for one second, then asks which one was the fake. 10 practice rounds show whether the
answer was right; 40 test rounds do not. Sides and order are random for each participant. At the end the page
offers a JSON file of answers, to be sent back.

`summarise` reads those files and prints how often a fake was taken for the real image ("% labelled real"; at 50 the
fakes cannot be distinguished). The 95 % interval is 1.96 standard errors over participants.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))


def parse(words: list[str]) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True, metavar="make | summarise")
    form = argparse.ArgumentDefaultsHelpFormatter
    add = commands.add_parser("make", help="write the page", formatter_class=form).add_argument
    add("results", type=Path, help="a folder that test.py wrote")
    add("--out", type=Path, default=Path("study.html"), help="the page")
    add("--name", help="of the study, in the answers; the experiment's name if not given")
    add("--domain", choices="AB", default="B", help="A: CycleGAN's fake_A and real_A")
    pairing = (
        "random: the real image is not of the fake's input, as in the pix2pix paper's map-aerial study; same: it is, "
        "as in the paper's colorization study"
    )
    add("--pairing", choices=("same", "random"), default="random", help=pairing)
    add("--practice", type=int, default=10, help="practice rounds, with separate images")
    add("--trials", type=int, default=40, help="test rounds")
    add("--vigilance", type=int, default=0, help="further test rounds, whose fake is obviously scrambled")
    add("--seconds", type=float, default=1, help="how long images are shown")
    add("--jpeg", type=int, choices=range(1, 101), metavar="QUALITY", help="1 to 100: smaller files than lossless PNG")
    add("--seed", type=int, default=0, help="of the choice of images")
    add = commands.add_parser("summarise", help="summarise answers", formatter_class=form).add_argument
    add("answers", type=Path, nargs="+", help="files of answers, or folders of answers_*.json")
    add("--json", type=Path, help="also write the summary to this file")
    return parser.parse_args(words)


def main(words: list[str]) -> None:
    """Run one of the two commands."""
    args = parse(words)
    from scripts.perceptual import answers, study  # after --help: they import torch
    from util.errors import explained_errors
    from util.runtime.signals import unbreakable_output

    unbreakable_output()
    with explained_errors():
        {"make": study.make, "summarise": answers.summarise}[args.command](args)


if __name__ == "__main__":
    main(sys.argv[1:])
