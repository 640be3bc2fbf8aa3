"""The description of a study, its command line, and the options that train.py gets. Each recipe declares one Study."""

from __future__ import annotations

import argparse
import shlex
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[2]
STEPS = """
Trains every arm with the same seeds by train.py, translates the test images by test.py, measures them, and writes a
table (table.md, table.json) and a contact sheet (sheet.png). Each command is printed as you would type it. The same
command resumes an interrupted study. Arms that another study has trained by the same command are not trained again.
Without --quick: 256 pixels, the networks and epochs of the papers' code, on a GPU. With it: minutes on two CPU cores.
"""


class Study(NamedTuple):
    """Arms to compare."""

    name: str
    about: str  # the question, and its section in the paper
    model: str  # pix2pix or cycle_gan
    arms: dict[str, str]  # name -> options of train.py; {unet} is the number of its U-Net, by the images' size
    papers: dict[str, dict[str, str]] = {}  # a table of the paper for each of the study: title -> row -> values
    views: dict[str, str] = {"": ""}  # ways to translate: name -> options of test.py
    procedure: Callable | None = None  # replaces runner.compare; takes the Runner
    tile: tuple[int, int] = (256, 128)  # side of the Earth's tiles in pixels, without and with --quick
    data: str = ""  # a dataset of the papers, downloaded; used instead of the Earth's without --quick
    size: tuple[int, int] = (256, 128)  # side of the training images
    settings: tuple[str, str] = ("", "")  # further options of train.py


SIZES, FULL = "--load_size {load} --crop_size {size}", "--n_epochs 100 --n_epochs_decay 100"
QUICK = "--ngf 16 --ndf 16 --num_threads 0"
OPTIONS = {  # of train.py, without and with --quick
    "pix2pix": (
        f"--netG unet_{{unet}} {SIZES} {FULL}",
        f"--netG unet_{{unet}} {SIZES} --n_epochs 1 --n_epochs_decay 1 {QUICK}",
    ),
    "cycle_gan": (
        f"--netG resnet_9blocks {SIZES} {FULL}",
        f"--netG resnet_6blocks {SIZES} --n_epochs 2 --n_epochs_decay 2 {QUICK}",
    ),
}


def main(study: Study, words: list[str] | None = None) -> None:
    """Run a study as the command line asks; `--help` and mistakes are answered before PyTorch is imported."""
    args = parse(study, words)
    sys.path.insert(0, str(ROOT))
    import util.runtime.threads  # noqa: F401 - before torch

    # isort: split
    from runner import Runner, compare

    from util.errors import explained_errors
    from util.runtime.signals import unbreakable_output

    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))  # an exception, so that training saves
    unbreakable_output()
    with explained_errors():
        (study.procedure or compare)(Runner(study, args))


def parse(study: Study, words: list[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    form = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=study.about + STEPS, formatter_class=form)
    add, out = parser.add_argument, Path("results/studies") / study.name
    data = f"{study.data and f'datasets/{study.data}; quick: '}the Earth's, which datasets/make_earth_dataset.py makes"
    add("--quick", action="store_true", help="small networks, images and epochs, on the Earth's tiles: for a CPU")
    add("--dataroot", type=Path, help=f"a dataset [{data}]")
    add("--direction", choices=("AtoB", "BtoA"), default="AtoB", help="[%(default)s]")
    add("--arms", nargs="+", metavar="NAME", help=f"only these of {', '.join(map(repr, study.arms))}")
    add("--seeds", nargs="+", type=int, help="[0 1 2; quick: 0 1]")
    add("--size", type=int, help=f"side of the training images [{study.size[0]}; quick: {study.size[1]}]")
    add("--more", default="", metavar="'OPTIONS'", help="further options of train.py, for every arm")
    add("--metrics", nargs="+", help="scripts/evaluate.py lists them [l1 psnr ssim kid_lite0]")
    add("--gpu_ids", help="as train.py's; -1: the CPU")
    add("--cpu", action="store_true", help="train without --quick on a CPU, however long it takes")
    add("--out", type=Path, default=out, help="folder of table, contact sheet and translated images [%(default)s]")
    add("--checkpoints_dir", type=Path, default=Path("checkpoints/studies"), help="[%(default)s]")
    args = parser.parse_args(words)
    if unknown := [name for name in args.arms or [] if name not in study.arms]:
        parser.error(f"--arms {unknown[0]}: the arms are {', '.join(map(repr, study.arms))}")
    args.arms = args.arms or list(study.arms)
    args.seeds = args.seeds or ([0, 1] if args.quick else [0, 1, 2])
    args.size = args.size or study.size[args.quick]
    if args.size < 16:
        parser.error(f"--size {args.size}: at least 16 pixels")
    return args


def options_of(study: Study, args: argparse.Namespace, arm: str) -> list[str]:
    """Return train.py's options for an arm, except data, name and seed."""
    base = f"--model {study.model} {OPTIONS[study.model][args.quick]} {study.settings[args.quick]}"
    return [*with_sizes(base, args).split(), *shlex.split(args.more), *with_sizes(study.arms[arm], args).split()]


def with_sizes(text: str, args: argparse.Namespace) -> str:
    """Fill in the sizes that follow from --size."""
    unet = min(256, 1 << (args.size.bit_length() - 1))
    return text.format(size=args.size, load=args.size * 286 // 256, unet=unet)
