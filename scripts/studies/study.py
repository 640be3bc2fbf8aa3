"""What a study is, and its command line. Each recipe beside this file declares one; lab.py carries it out."""

from __future__ import annotations

import argparse
import shlex
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[2]
RUNS = """
Trains every arm with the same seeds by train.py, translates the test images by test.py, measures them, and writes a
table (table.md, table.json) and a contact sheet (sheet.png). Each command is printed as you would type it. The same
command again goes on where it was stopped; arms that other studies have trained by the same command are taken over.
Without --quick: 256 pixels, the networks and epochs of the papers' code, on a GPU. With it: minutes on two CPU cores.
"""


class Paper(NamedTuple):
    """What the paper's table has, to stand beside ours."""

    what: str  # table, task, measures
    figures: dict[str, str]  # by the arms' names, and those of further rows


class Study(NamedTuple):
    """Arms to compare."""

    name: str
    about: str  # the question, and where the paper asks it
    model: str  # pix2pix or cycle_gan
    arms: dict[str, str]  # name -> what train.py gets; {unet} is the number of its U-Net, by the images' size
    papers: tuple[Paper, ...] = ()  # for each of our tables
    views: dict[str, str] = {"": ""}  # ways to translate: name -> what test.py gets
    conduct: Callable | None = None  # in place of lab.compare; takes the Lab
    tile: tuple[int, int] = (256, 128)  # side of the Earth's tiles in pixels, without and with --quick
    data: str = ""  # a data set of the papers that is downloaded, in place of the Earth's without --quick
    size: tuple[int, int] = (256, 128)  # side of the training images
    settings: tuple[str, str] = ("", "")  # further flags of train.py


SIZES, FULL = "--load_size {load} --crop_size {size}", "--n_epochs 100 --n_epochs_decay 100"
QUICK = "--ngf 16 --ndf 16 --num_threads 0"
FLAGS = {  # of train.py, without and with --quick
    "pix2pix": (
        f"--model pix2pix --netG unet_{{unet}} {SIZES} {FULL}",
        f"--model pix2pix --netG unet_{{unet}} {SIZES} --n_epochs 1 --n_epochs_decay 1 {QUICK}",
    ),
    "cycle_gan": (
        f"--model cycle_gan --netG resnet_9blocks {SIZES} {FULL}",
        f"--model cycle_gan --netG resnet_6blocks {SIZES} --n_epochs 2 --n_epochs_decay 2 {QUICK}",
    ),
}


def main(study: Study, words: list[str] | None = None) -> None:
    """Carry a study out as the command line asks; `--help` answers before PyTorch is imported."""
    args = parse(study, words)
    sys.path.insert(0, str(ROOT))
    import lab

    from util.errors import explained_errors

    for number in (signal.SIGTERM, signal.SIGHUP) if hasattr(signal, "SIGHUP") else (signal.SIGTERM,):
        signal.signal(number, lambda number, _: sys.exit(128 + number))  # an exception, so that training saves
    from util.runtime.signals import unbreakable_output

    unbreakable_output()
    with explained_errors():
        place = lab.Lab(study, args)
        if args.dry_run:
            place.print_commands()
        else:
            (study.conduct or lab.compare)(place)


def parse(study: Study, words: list[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    form = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=study.about + RUNS, formatter_class=form)
    add, out = parser.add_argument, Path("results/studies") / study.name
    data = "the Earth's, which datasets/make_earth_dataset.py makes"
    data = f"datasets/{study.data}; quick: {data}" if study.data else data
    add("--quick", action="store_true", help="small networks, images and epochs, on the Earth's tiles: for a CPU")
    add("--dataroot", type=Path, help=f"a data set [{data}]")
    add("--direction", choices=("AtoB", "BtoA"), default="AtoB", help="[%(default)s]")
    add("--arms", nargs="+", metavar="NAME", help=f"only these of {', '.join(map(repr, study.arms))}")
    add("--seeds", nargs="+", type=int, help="[0 1 2; quick: 0 1]")
    add("--size", type=int, help=f"side of the training images [{study.size[0]}; quick: {study.size[1]}]")
    add("--more", default="", metavar="'FLAGS'", help="more flags of train.py, for every arm")
    add("--metrics", nargs="+", help="scripts/evaluate.py lists them [l1 psnr ssim kid_lite0]")
    add("--show", type=int, default=4, help="test images on the contact sheet [%(default)s]")
    add("--gpu_ids", help="as train.py's; -1: the CPU")
    add("--cpu", action="store_true", help="train without --quick on a CPU, whatever it takes")
    add("--dry_run", action="store_true", help="print the commands that would train, and stop")
    add("--out", type=Path, default=out, help="table, contact sheet and translated images go here [%(default)s]")
    add("--checkpoints_dir", type=Path, default=Path("checkpoints/studies"), help="[%(default)s]")
    add("--into", type=Path, metavar="PAGE", help="put the table between its marks in a page, the sheet beside it")
    args = parser.parse_args(words)
    if wrong := [name for name in args.arms or [] if name not in study.arms]:
        parser.error(f"--arms {wrong[0]}: the arms are {', '.join(map(repr, study.arms))}")
    if args.size is not None and args.size < 16:
        parser.error(f"--size {args.size}: at least 16 pixels")
    args.arms = args.arms or list(study.arms)
    args.seeds = list(dict.fromkeys(args.seeds or ([0, 1] if args.quick else [0, 1, 2])))
    args.size = args.size or study.size[args.quick]
    return args


def flags(study: Study, args: argparse.Namespace, arm: str) -> list[str]:
    """Return what train.py gets for an arm, but for data, name and seed."""
    base = f"{FLAGS[study.model][args.quick]} {study.settings[args.quick]}"
    return [*filled(base, args).split(), *shlex.split(args.more), *filled(study.arms[arm], args).split()]


def filled(text: str, args: argparse.Namespace) -> str:
    """Put the sizes that follow from --size into flags."""
    unet = min(256, 1 << (args.size.bit_length() - 1))
    return text.format(size=args.size, load=args.size * 286 // 256, unet=unet)
