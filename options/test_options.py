"""Options of translating a test set."""

from __future__ import annotations

import argparse
import multiprocessing
import shutil
from pathlib import Path

import data
import models
from models.architecture import NETWORKS, Shown, shown_by
from options.base_options import BaseOptions
from options.parser import size_or_inf
from util.checkpoint.checkpointer import prefix_of
from util.checkpoint.sources import generator_of
from util.runtime.machine import core_count

WHOLE = {"scale_width_and_crop": "scale_width", "crop": "none"}  # without the random crop


class TestOptions(BaseOptions):
    """Options of test.py. What training saved gives the defaults, so that `--name` is enough for an experiment."""

    __test__ = False  # not a test, whatever pytest makes of the name
    suffix = ""  # of the generator that --model test takes of a CycleGAN

    def initialize(self, parser):
        parser = super().initialize(parser)
        g = parser.add_argument_group("testing")
        g.add_argument(
            "--phase", type=str, default="test", help="sub-folder of the data, and part of the results' folder"
        )
        g.add_argument("--results_dir", type=str, default="./results/", help="results go here")
        g.add_argument("--num_test", type=size_or_inf, default=50, help="translate this many images at most; inf: all")
        g.add_argument("--eval", action="store_true", help="batch norm by training's statistics, no dropout")
        g.add_argument("--ema", action="store_true", help="use the averaged weights that training's --ema saved")
        g.add_argument("--aspect_ratio", type=float, default=1.0, help="stretch results: > 1 taller, < 1 wider")
        others = "folders of other results, shown beside these"
        g.add_argument("--compare", type=str, nargs="+", metavar="FOLDER", help=others)
        g.add_argument("--display_id", type=int, default=-1, help=argparse.SUPPRESS)  # 2018's test.py took it
        parser.set_defaults(model="test", load_size=parser.get_default("crop_size"))
        return parser

    def read_saved(self, opt, folder):
        saved = super().read_saved(opt, folder)
        if saved.get("model") == "colorization" and "--model" in self._arguments(self.parser) and opt.model == "test":
            self.parser.error(f"--model test: {folder} colours photographs; --model colorization does that")
        return saved

    def defaults_from_saved(self, parser) -> dict:
        """Take architecture, direction, preprocessing and plug-ins' own options from training."""
        names = {"netG", "netD", "n_layers_D", "ngf", "ndf", "input_nc", "output_nc", "norm", "no_dropout", "direction"}
        names |= {action.dest for action in parser._actions} - self.own_names
        names |= {"crop_size", "load_size", "preprocess"}
        if self._look(parser, "model") == self.saved["model"]:
            names.add("dataset_mode")
        defaults = {name: self.saved[name] for name in names if self.saved.get(name) is not None}
        preprocess = defaults.get("preprocess", parser.get_default("preprocess"))
        if "resize" in preprocess and "crop_size" in defaults:
            defaults["load_size"] = defaults["crop_size"]
        return {**defaults, "preprocess": WHOLE.get(preprocess, preprocess)}

    def read_networks(self, opt, checkpoints):
        self.suffix = ""
        if opt.model not in models.BUILT_IN:
            return Shown({}, {})
        prefix, ema = prefix_of(opt), "_ema" * opt.ema
        names = [name for name in NETWORKS.get(opt.model, ("G",)) if name.startswith("G")]
        files = {name: checkpoints.existing_net_path(prefix, name + ema) for name in names}
        if opt.model == "test":
            suffix = opt.model_suffix or self._side_of_cyclegan(opt, checkpoints, prefix, ema)
            files = {"G": checkpoints.existing_net_path(prefix, f"G{suffix}{ema}")}
            if suffix == "_B" and {"input_nc", "output_nc"} <= self.saved.keys():  # from training's output to its input
                swapped = {"input_nc": self.saved["output_nc"], "output_nc": self.saved["input_nc"]}
                self.saved = {**self.saved, **swapped}
        shown = shown_by(files)
        self.compare_with_saved(shown)
        return shown

    def _side_of_cyclegan(self, opt, checkpoints, prefix, ema) -> str:
        """Choose `_A` or `_B` by --direction, where there is no G but a CycleGAN's generators."""
        there = [name for name in ("G", "G_A", "G_B") if checkpoints.existing_net_path(prefix, name + ema)]
        if not there or "G" in there:
            return ""
        name = generator_of(checkpoints.folder, opt.direction)
        path = checkpoints.net_path(prefix, name + ema)
        if name not in there:
            other = "AtoB" if opt.direction == "BtoA" else "BtoA"
            self.parser.error(
                f"--direction {opt.direction} takes {path}, which is not there; --direction {other} takes {there[0]}"
            )
        self.suffix = name[1:]
        self.notes.append(f"--direction {opt.direction} takes {path}")
        return self.suffix

    def defaults_from_networks(self, parser):
        suffix = {"model_suffix": self.suffix} if self.suffix else {}
        return {**super().defaults_from_networks(parser), **suffix}

    def finish(self, opt):
        """Translate images in order, as they are, and one by one unless a batch is asked for."""
        if "crop_size" in opt.given and "load_size" not in opt.given and "resize" in opt.preprocess:
            opt.load_size = opt.crop_size
        if opt.seed is None:
            opt.seed = 0
        for name, value in {"num_threads": 0, "batch_size": 1}.items():
            if name not in opt.given:  # what a model or a data set sets as its default is for training
                setattr(opt, name, value)
        opt.serial_batches, opt.no_flip, opt.display_id = True, True, -1

    def check(self, opt):
        super().check(opt)
        if not 0.01 <= opt.aspect_ratio <= 100:
            self.parser.error(f"--aspect_ratio {opt.aspect_ratio}: from 0.01 to 100; results are stretched by it")


def loading_processes(opt) -> int:
    """Return how many processes load test images: as many as typed, or what pays for the time that they need to start.

    None on a CPU: they would take from the network's cores. A data set that is not ours may count on being asked in one
    process, in order: it is, unless more are typed.
    """
    if "num_threads" in getattr(opt, "given", ("num_threads",)) or opt.dataset_mode not in data.BUILT_IN:
        return opt.num_threads
    if opt.device.type == "cpu":
        return 0
    method = multiprocessing.get_start_method(allow_none=True) or multiprocessing.get_all_start_methods()[0]
    enough = 8 if method == "fork" else 250  # images for each; elsewhere a process imports PyTorch, for seconds
    side = 4096 if opt.preprocess in ("none", "scale_width") else max(opt.load_size, opt.crop_size)  # a guess at most
    pair = 2 * 3 * 4 * side**2  # bytes of A and B; of each process two pairs wait and one is being made
    shared = Path("/dev/shm")  # through which they pass; a container may have 64 MiB
    room = shutil.disk_usage(shared).free // (3 * pair) if shared.is_dir() else 8
    return int(min(8, max(1, core_count() // 2), min(opt.num_test, 10_000) // enough, room))
