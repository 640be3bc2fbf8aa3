"""Options of training and testing alike; how models and data sets add theirs; checking and printing."""

from __future__ import annotations

import argparse
import math
import os
import re
import shlex
import string
import sys
from pathlib import Path

import torch

import data
import models
from data import transforms
from data.transforms import PREPROCESS
from models import networks
from models.architecture import Shown, misfit, misfits, summary
from options.legacy import modernise
from options.parser import Parser, size_or_inf, without
from options.saved import NOT_OPTIONS, experiment_folder, record, write_text
from util.checkpoint.checkpointer import Checkpointer
from util.checkpoint.sources import saved_options
from util.errors import UserError, did_you_mean, printable, warn
from util.metrics.table import METRICS
from util.runtime import lock, processes, seeds
from util.runtime.device import choose_device
from util.speed import plan

# Options whose values are closed lists, and the tables that hold them. A plug-in adds an entry to the table; a model
# that is not ours may take values of its own.
CHOICES = {
    "netG": networks.GENERATORS,
    "netD": networks.DISCRIMINATORS,
    "norm": networks.NORMS,
    "init_type": networks.INITS,
    "gan_mode": networks.GAN_MODES,
    "lr_policy": networks.POLICIES,
    "best_metric": METRICS,
    "direction": ("AtoB", "BtoA"),
    "preprocess": PREPROCESS,
    "precision": plan.DTYPES,
}


def listed(name: str) -> str:
    """List the values of an option for its help text."""
    return " | ".join(CHOICES[name])


class BaseOptions:
    """Collect options from the command line, or from `argv` for who calls this from a notebook.

    Precedence: command line, the data set's defaults, the model's, this phase's.
    """

    isTrain = False
    saved: dict = {}  # the options that the experiment was trained with
    shown = Shown({}, {})  # what the files of the networks to load tell of their architecture

    def __init__(self, argv: list[str] | str | None = None):
        self.argv = argv.split() if isinstance(argv, str) else argv

    # ---- the options ----

    def initialize(self, parser):
        """Add the options of both phases."""
        g = parser.add_argument_group("run")
        g.add_argument("--dataroot", required=True, help="folder of the images (docs/datasets.md)")
        g.add_argument("--name", type=str, default="experiment_name", help="name of the experiment and of its folders")
        g.add_argument("--checkpoints_dir", type=str, default="./checkpoints", help="networks, logs and pages go here")
        g.add_argument("--gpu_ids", type=str, default="0", help="GPU to use; -1: the CPU. Several GPUs: torchrun")
        g.add_argument("--seed", type=int, default=None, help="seed of all random draws (default: drawn and printed)")
        g.add_argument("--deterministic", action="store_true", help="the same bits in every run on one GPU, slower")
        g.add_argument("--suffix", default="", type=str, help="added to the name, e.g. {model}_{netG}_size{load_size}")
        g.add_argument("--verbose", action="store_true", help="print the networks' structure")

        g = parser.add_argument_group("model")
        g.add_argument("--model", type=str, default="cycle_gan", help="a file models/[model]_model.py")
        g.add_argument("--netG", type=str, default="resnet_9blocks", help=f"generator: {listed('netG')}")
        g.add_argument("--netD", type=str, default="basic", help=f"discriminator: {listed('netD')}; basic is 70x70")
        g.add_argument("--n_layers_D", type=int, default=3, help="for netD n_layers; 1 2 3 5 see 16 34 70 286 pixels")
        g.add_argument("--ngf", type=int, default=64, help="width of the generator's first layer")
        g.add_argument("--ndf", type=int, default=64, help="width of the discriminator's first layer")
        g.add_argument("--input_nc", type=int, default=3, help="channels of A: 3 for colour, 1 for grey")
        g.add_argument("--output_nc", type=int, default=3, help="channels of B: 3 for colour, 1 for grey")
        g.add_argument("--norm", type=str, default="instance", help=f"normalisation: {listed('norm')}")
        g.add_argument("--no_dropout", action="store_true", help="no dropout in the generator")
        g.add_argument("--init_type", type=str, default="normal", help=f"initialisation: {listed('init_type')}")
        g.add_argument("--init_gain", type=float, default=0.02, help="scale of normal, xavier and orthogonal")
        g.add_argument("--epoch", type=str, default="latest", help="which checkpoint to load")
        g.add_argument("--load_iter", type=int, default=0, help="load the checkpoint iter_[load_iter] if above 0")

        g = parser.add_argument_group("data")
        g.add_argument("--dataset_mode", type=str, default="unaligned", help="a file data/[dataset_mode]_dataset.py")
        g.add_argument("--direction", type=str, default="AtoB", help=listed("direction"))
        g.add_argument("--batch_size", type=int, default=1, help="images per step (of each process under torchrun)")
        g.add_argument("--num_threads", type=int, default=4, help="processes that load images")
        g.add_argument("--serial_batches", action="store_true", help="images in order, not shuffled")
        g.add_argument("--preprocess", type=str, default="resize_and_crop", help=f"resizing: {listed('preprocess')}")
        g.add_argument("--load_size", type=int, default=286, help="resize images to this size")
        g.add_argument("--crop_size", type=int, default=256, help="then crop them to this size")
        g.add_argument("--no_flip", action="store_true", help="no random left-right flips")
        g.add_argument("--max_dataset_size", type=size_or_inf, default=math.inf, help="use this many images at most")

        g = parser.add_argument_group("speed", "docs/performance.md has what each gives and costs")
        g.add_argument(
            "--fast", action="store_true", help="what is usually fastest for such a model and machine; says what"
        )
        self.precision = g.add_argument(
            "--precision", type=str, default="fp32", help=f"arithmetic within networks: {listed('precision')}"
        )

        g = parser.add_argument_group("display")
        g.add_argument("--display_winsize", type=int, default=256, help="width of images on the pages")
        g.add_argument("--use_wandb", action="store_true", help="log to Weights & Biases")
        g.add_argument("--wandb_project_name", type=str, default="CycleGAN-and-pix2pix", help="its project")
        return parser

    # ---- parsing ----

    def _typed(self) -> list[str]:
        return sys.argv[1:] if self.argv is None else self.argv

    def _arguments(self, parser) -> list[str]:
        """Return what was typed, in today's names."""
        words = modernise(self._typed(), {option[2:] for option in parser._option_string_actions})
        for word in words:
            if word.startswith("--") and word.endswith("=--"):  # argparse makes an empty list of it
                parser.error(f"{word}: a value is needed")
        return words

    def _look(self, parser, name: str):
        """Read one option while others are not yet known, nor required."""
        peek = argparse.ArgumentParser(usage=parser.usage, add_help=False, allow_abbrev=False)
        peek.add_argument(f"--{name}", default=parser.get_default(name))
        return getattr(peek.parse_known_args(self._arguments(parser))[0], name)

    def gather_options(self):
        """Parse the command line, with the options of the model and the data set that it names."""
        self.saved, self.shown, self.notes = {}, Shown({}, {}), []
        opt = self._parse(strict=False)
        name = self._full_name(opt)
        folder = Path(opt.checkpoints_dir) / name
        self.saved = self.read_saved(opt, folder)
        self.unknown = not self.saved
        if self.saved:
            opt = self._parse(strict=False)
        self.shown = self.read_networks(opt, Checkpointer(folder))
        opt = self._parse(strict=True)
        opt.name = name
        return opt

    def _parse(self, strict: bool):
        """Parse with `self.saved` as defaults; leniently, to see which experiment is meant, or strictly."""
        parser = self.parser = self.initialize(Parser())
        self.own_names = {action.dest for action in parser._actions}
        plain = {}  # defaults before training's options, which change them, are taken over
        if self.saved:
            parser.set_defaults(model=self.saved["model"])
        for flag, find in (("model", models.find_model_using_name), ("dataset_mode", data.find_dataset_using_name)):
            name = self._look(parser, flag)
            parser.section = f"{flag} {name}"
            parser = self.parser = find(name).modify_commandline_options(parser, self.isTrain) or parser
            plain = {**{action.dest: parser.get_default(action.dest) for action in parser._actions}, **plain}
            if self.saved:
                parser.set_defaults(**self._fitting_saved(parser))
            parser.set_defaults(**self.defaults_from_networks(parser))
        parser.section = None
        if not strict:
            for action in parser._actions:
                action.required = False
            return parser.parse_known_args(self._arguments(parser))[0]
        parser.add_argument("-h", "--help", action="help", help="show this and exit")
        words = self._arguments(parser)
        opt = parser.parse_args(words)
        missing = object()
        seen = parser.parse_args(words, argparse.Namespace(**dict.fromkeys(vars(opt), missing)))
        opt.typed = self._typed()
        opt.given = frozenset(name for name, value in vars(seen).items() if value is not missing)
        self.plain = plain
        return opt

    def _fitting_saved(self, parser) -> dict:
        """Choose the defaults that `self.saved` gives, but for values that their options could never have had."""
        types = {int: (int,), float: (int, float), str: (str,), None: (str,)}
        wrong = {}
        for action in parser._actions:
            value, default = self.saved.get(action.dest), parser.get_default(action.dest)
            fitting = (bool,) if action.nargs == 0 else types.get(action.type, (str, int, float))
            if value is not None and action.nargs in (None, 0) and type(value) not in (*fitting, type(default)):
                wrong[action.dest] = value
        self.saved = {**self.saved, **{name: parser.get_default(name) for name in wrong}}
        defaults = self.defaults_from_saved(parser)
        for name in wrong.keys() & defaults.keys():
            warn(f"train_opt.json: {name} can't be {wrong[name]!r:.40}; it is taken as {defaults[name]!r}")
        return defaults

    def _full_name(self, opt) -> str:
        """Return the experiment's name with its suffix filled in."""
        if not opt.name:
            self.parser.error("--name is empty: it names the experiment's folder")
        try:
            if any(re.search(r"{|\d{3}", spec or "") for _, _, spec, _ in string.Formatter().parse(opt.suffix)):
                raise ValueError("a width of more than 99")
            return f"{opt.name}_{opt.suffix.format(**vars(opt))}" if opt.suffix else opt.name
        except (KeyError, ValueError, IndexError, AttributeError) as error:
            self.parser.error(f"--suffix {opt.suffix}: names of options stand in {{braces}}; wrong is {error}")

    def read_saved(self, opt, folder: Path) -> dict:
        """Return the options that an experiment was trained with, if this phase goes by them."""
        saved = saved_options(folder)
        if not saved and (folder / "train_opt.json").exists():
            warn(f"{folder / 'train_opt.json'} is damaged and not used: give the flags that the training had")
        return saved

    def defaults_from_saved(self, parser) -> dict:
        """Choose the defaults that `self.saved` gives."""
        raise NotImplementedError

    def read_networks(self, opt, checkpoints: Checkpointer) -> Shown:
        """Return what the files of the networks to load tell of their architecture, if the model is one of ours."""
        return Shown({}, {})

    def defaults_from_networks(self, parser) -> dict:
        """Choose the defaults that `self.shown` gives: those that the files contradict."""
        defaults = {action.dest: parser.get_default(action.dest) for action in parser._actions}
        shown = {name: value for name, value in self.shown.values.items() if name in defaults}
        return {name: shown[name] for name in misfits(defaults, shown)}

    def compare_with_saved(self, shown: Shown) -> None:
        """Note down where the networks' files contradict the saved options."""
        saved = {name: self.saved[name] for name in shown.values if name in self.saved}
        for name in misfits(saved, {name: shown.values[name] for name in saved}):
            self.notes.append(
                f"{shown.paths[name]} goes before train_opt.json: {name} is {shown.values[name]}, not {saved[name]}"
            )

    def parse(self, begin: bool = True):
        """Parse, check, print and save the options; return them with what follows from them (device, speed, ...).

        Without `begin` the experiment's folder is left as it is: for who only wants to know.
        """
        opt = self.opt = self.gather_options()
        opt.isTrain = self.isTrain
        self.finish(opt)
        self.check(opt)
        if opt.seed is None:
            opt.seed = processes.from_main(seeds.draw_seed())  # one for all of torchrun's processes
        ids = self._gpu_ids(opt)
        if begin and self.isTrain and self.argv is None:  # a notebook, which gives argv, would keep the lock for good
            lock.claim(experiment_folder(opt))
        device = choose_device(ids)
        opt.speed, why = plan.choose(opt, device, self.saved.get("speed") if self.isTrain else None)
        values = {name: (getattr(opt, name), default) for name, default in sorted(self.plain.items())}
        opt.differing = {name: both for name, both in values.items() if both[0] != both[1]}
        if begin:
            self.print_options(opt)
        for line in why if processes.is_main() else ():
            print(line)
        opt.device = device
        opt.gpu_ids = [device.index] if device.type == "cuda" else []
        return opt

    def finish(self, opt):
        """Settle values that follow from others; a hook of the phases."""

    # ---- checking ----

    def check(self, opt):
        """Refuse values that could not work, saying which would."""
        ours = {
            "model": opt.model in models.BUILT_IN,
            "data": opt.dataset_mode in data.BUILT_IN,
        }
        for name, allowed in CHOICES.items():
            value = getattr(opt, name, None)
            binding = ours["data" if name in ("direction", "preprocess") else "model"]
            if name == "precision":  # unless it is a plug-in's own
                binding = self.parser._option_string_actions["--precision"] is self.precision
            if binding and value is not None and value not in allowed:
                self.parser.error(f"--{name} {value}: allowed are {', '.join(allowed)}.{did_you_mean(value, allowed)}")
        for name in ("batch_size", "ngf", "ndf", "input_nc", "output_nc", "n_layers_D", "crop_size", "load_size"):
            if getattr(opt, name) < 1:
                self.parser.error(f"--{name} {getattr(opt, name)}: at least 1 is needed")
        self._check_numbers(opt, ours)
        if ours["data"]:
            try:
                transforms.check(opt.preprocess, opt.load_size, opt.crop_size)
            except UserError as error:
                self.parser.error(str(error))
        if opt.num_threads < 0:
            self.parser.error(f"--num_threads {opt.num_threads}: 0 loads images in the main process, 4 is usual")
        wrong = [name for name in misfits(vars(opt), self.shown.values) if name in opt.given]
        if wrong:
            self.parser.error("\n".join(misfit(name, getattr(opt, name), self.shown) for name in wrong))
        if "netG" in self.shown.values and self.unknown:
            self.notes.append(summary(opt, self.shown))
        for note in self.notes if processes.is_main() else ():
            print(note)

    def _check_numbers(self, opt, ours: dict[str, bool]) -> None:
        """Refuse numbers that nothing can be done with; a plug-in's own options are its own affair."""
        for action in self.parser._actions:
            value = getattr(opt, action.dest, None)
            if action.dest in opt.given and (action.dest in self.own_names or all(ours.values())):
                if action.type is float and isinstance(value, float) and not math.isfinite(value):
                    self.parser.error(f"--{action.dest} {value}: a finite number is needed")
                if action.type is int and isinstance(value, int) and abs(value) >= 2**63:
                    self.parser.error(f"--{action.dest} {value}: too large a number")
        highest = {"num_threads": max(64, 4 * (os.cpu_count() or 1))}
        if ours["model"]:
            highest |= {"ngf": 65536, "ndf": 65536, "n_layers_D": 12}  # 12 layers see 36,000 pixels
        for name, most in highest.items():
            if getattr(opt, name) > most:
                self.parser.error(f"--{name} {getattr(opt, name)}: at most {most} here")
        for name, lowest in (("init_gain", 0), ("display_winsize", 1)):
            if getattr(opt, name) < lowest:
                self.parser.error(f"--{name} {getattr(opt, name)}: at least {lowest} is needed")

    def _gpu_ids(self, opt) -> list[int]:
        """Read --gpu_ids; say where the run computes if not where it was asked to; refuse GPUs that are not there."""
        try:
            ids = [int(i) for i in opt.gpu_ids.split(",") if i.strip() and int(i) >= 0]
        except ValueError:
            self.parser.error(f"--gpu_ids {opt.gpu_ids}: a GPU's number, or -1 for the CPU")
        cuda = torch.cuda.device_count()
        if len(ids) > 1 and self.isTrain and "LOCAL_RANK" not in os.environ:
            command = f"torchrun --nproc_per_node {len(ids)} train.py {shlex.join(without(opt.typed, '--gpu_ids'))}"
            self.parser.error(
                f"--gpu_ids {opt.gpu_ids}: several GPUs are driven by one process each. Type\n"
                f"  CUDA_VISIBLE_DEVICES={opt.gpu_ids} {command}\nwhere --batch_size is the batch of each process"
            )
        if ids and cuda and ids[0] >= cuda:
            self.parser.error(f"--gpu_ids {opt.gpu_ids}: this machine has {cuda} GPU(s), numbered from 0")
        if ids and not cuda and choose_device(ids).type == "cpu" and processes.is_main():
            print("no CUDA GPU here: running on the CPU (--gpu_ids -1 asks for that)")
        return ids

    # ---- printing and saving ----

    def print_options(self, opt):
        """Print the options, and save them as text and as JSON in the experiment's folder."""
        values = {name: value for name, value in sorted(vars(opt).items()) if name not in NOT_OPTIONS}
        lines = ["----------------- Options ---------------"]
        for name, value in values.items():
            default = self.parser.get_default(name)
            comment = "" if value == default else f"\t[default: {default}]"
            lines.append(f"{name!s:>25}: {printable(value):<30}{comment}")
        lines.append("----------------- End -------------------")
        if not processes.is_main():
            return
        print("\n".join(lines))
        folder = experiment_folder(opt)
        if self.isTrain and not opt.continue_train and any(folder.glob("*_net_*.pth")):
            warn(f"{folder} has networks of an earlier run, which this run replaces; --continue_train goes on with it")
        if self.isTrain or folder.is_dir():  # an experiment that is not there: loading its networks will say so
            stem = opt.phase if self.isTrain or opt.phase != "train" else "test_train"  # don't replace training's own
            write_text(folder / f"{stem}_opt.txt", "\n".join(lines) + "\n", needed=self.isTrain)
            if not (self.isTrain and any(folder.glob("*_net_*.pth"))):
                record(opt)
