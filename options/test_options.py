"""Options of translating a test set."""

from __future__ import annotations

import multiprocessing
import shlex
import shutil
import sys
from pathlib import Path

import data
import models
from data.aligned_dataset import looks_side_by_side
from models.architecture import NETWORKS, Architecture, read_architecture
from options import rows
from options.base_options import BaseOptions
from options.parser import without
from util.checkpoint.checkpointer import Checkpointer, prefix_of
from util.checkpoint.run_folder import experiment_folder
from util.checkpoint.sources import generator_of
from util.errors import UserError, printable, warn
from util.runtime.machine import core_count
from util.runtime.run_facts import run_facts, saved_facts

WHOLE = {"scale_width_and_crop": "scale_width", "crop": "none"}  # without the random crop


class TestOptions(BaseOptions):
    """Options of test.py. The saved options of the training run are the defaults, so that `--name` is enough."""

    __test__ = False  # not a test, whatever pytest makes of the name
    forced = ("num_threads", "seed", "serial_batches", "no_flip")

    def initialize(self, parser):
        parser = super().initialize(parser)
        rows.add_testing(parser)
        return parser

    # ---- values from files ----

    def takes(self, row):
        """Take the architecture, direction, preprocessing and the options of plug-ins."""
        return row is None or row.test or bool(row.network)

    def read_saved(self, opt, folder):
        is_program = Path(sys.argv[0]).name == "test.py"  # a script of a user may load other networks
        if self.begins and self.argv is None and is_program and opt.model in models.BUILT_IN and not folder.is_dir():
            raise UserError(f"--name {printable(opt.name)}: {Checkpointer(folder).describe_contents()}")
        saved = super().read_saved(opt, folder)
        typed = "--model" in self.parser.todays_words(self.words)
        if typed and opt.model == "test" and saved.get("model") == "colorization":
            self.parser.error(f"--model test: {folder} colours photographs; --model colorization does that")
        return saved

    def defaults_from_saved(self, saved):
        """Load whole images, and those of the training's dataset unless another model is typed."""
        if self.parser.peek("model", self.words) != self.saved["model"]:
            saved.pop("dataset_mode", None)
        preprocess = saved.get("preprocess", self.parser.get_default("preprocess"))
        if "resize" in preprocess and "crop_size" in saved:
            saved["load_size"] = saved["crop_size"]
        return {**saved, "preprocess": WHOLE.get(preprocess, preprocess)}

    def read_networks(self, opt, checkpoints):
        if opt.model not in models.BUILT_IN:
            return Architecture()
        prefix, ema = prefix_of(opt), "_ema" * opt.ema
        names = [name for name in NETWORKS.get(opt.model, ("G",)) if name.startswith("G")]
        files = {name: checkpoints.existing_net_path(prefix, name + ema) for name in names}
        if opt.model == "test":
            suffix = opt.model_suffix or self._choose_side(opt, checkpoints, prefix, ema)
            files = {"G": checkpoints.existing_net_path(prefix, f"G{suffix}{ema}")}
            if suffix == "_B" and {"input_nc", "output_nc"} <= self.saved.keys():  # from training's output to its input
                swapped = {"input_nc": self.saved["output_nc"], "output_nc": self.saved["input_nc"]}
                self.saved.update(swapped)
                self.parser.set_defaults(**swapped)
        return read_architecture(files)

    def _choose_side(self, opt, checkpoints: Checkpointer, prefix: str, ema: str) -> str:
        """Choose `_A` or `_B` by --direction if the checkpoint holds a CycleGAN's generators and no G."""
        found = [name for name in ("G", "G_A", "G_B") if checkpoints.existing_net_path(prefix, name + ema)]
        if not found or "G" in found:
            return ""
        name = generator_of(checkpoints.folder, opt.direction)
        path = checkpoints.net_path(prefix, name + ema)
        if name not in found:
            other = "AtoB" if opt.direction == "BtoA" else "BtoA"
            self.parser.error(
                f"--direction {opt.direction} takes {path}, which does not exist; --direction {other} takes {found[0]}"
            )
        self.notes.append(f"--direction {opt.direction} takes {path}")
        self.parser.set_defaults(model_suffix=name[1:])
        return name[1:]

    # ---- checking ----

    def check(self, opt):
        super().check(opt)
        self._check_direction(opt)
        self._check_crop(opt)
        names = sorted(self.saved.keys() & self.usual.keys() - self.parser.rows.keys() - run_facts(opt).typed)
        taken = [f"{name} {getattr(opt, name)}" for name in names if getattr(opt, name) != self.usual[name]]
        if taken:  # options of plug-ins: one that is meant for the training set must not pass unseen
            self.notes.append(f"taken from the training run: {', '.join(taken)}")

    def _check_direction(self, opt) -> None:
        """Warn of a direction that the network was not trained for; a CycleGAN has a network for each direction."""
        checkpoints, prefix, ema = Checkpointer(experiment_folder(opt)), prefix_of(opt), "_ema" * opt.ema
        trained = self.saved.get("direction", opt.direction)
        G, G_B = (checkpoints.existing_net_path(prefix, name + ema) for name in ("G", "G_B"))
        if opt.direction != trained and not G_B and (G or saved_facts(self.saved).get("paired")):
            effect = "has no effect" if opt.model == "test" else "gives it the images that it was trained to make"
            warn(
                f"the network of {checkpoints.folder} was trained with --direction {trained}: --direction "
                f"{opt.direction} {effect}; leave --direction out"
            )

    def _check_crop(self, opt) -> None:
        """Warn of a random crop, and print the command that translates whole images."""
        if "crop" not in opt.preprocess or opt.dataset_mode not in data.BUILT_IN:
            return
        if whole := WHOLE.get(opt.preprocess):
            change = ["--preprocess", whole]
        elif opt.load_size > opt.crop_size:
            change = ["--load_size", str(opt.crop_size)]
        else:
            return
        words = without(self.parser.todays_words(self.words), change[0]) + change
        warn(
            f"--preprocess {opt.preprocess} translates a random piece of each image. For whole images type\n"
            f"  python test.py {shlex.join(words)}"
        )

    def finish(self, opt):
        """Translate images in order, unchanged, and one by one unless --batch_size is typed."""
        typed = run_facts(opt).typed
        if "crop_size" in typed and "load_size" not in typed and "resize" in opt.preprocess:
            opt.load_size = opt.crop_size
        if opt.seed is None:
            opt.seed = 0
        for name, value in {"num_threads": 0, "batch_size": 1}.items():
            if name not in typed:  # the defaults of a model or a dataset are for training
                setattr(opt, name, value)
        opt.serial_batches, opt.no_flip, opt.display_id = True, True, -1


def find_pairs_in(opt, paths: list[str]) -> str:
    """Return a warning if the images to translate look like pairs side by side; empty if they do not.

    Images of several splits that are twice as wide as high are the layout of pairs. Others are judged by their pixels.
    """
    seen, in_splits = [], len({Path(path).parent.name for path in paths} & {"train", "val", "test"}) > 1
    for path in paths[:: max(1, len(paths) // 4)][:4] if opt.model == "test" and not opt.model_suffix else ():
        seen.append(looks_side_by_side(path, in_splits))
        if seen[-1] is False:
            return ""
    if not any(seen):
        return ""
    root, folder = Path(opt.dataroot).resolve(), Path(paths[0]).resolve().parent
    if any(Path(path).resolve().parent == root / "test" for path in paths):
        folder = root / "test"
    words = without(list(run_facts(opt).words), "--model", "--dataset_mode", "--dataroot", "--phase")
    words = ["--dataroot", str(folder.parent), "--phase", folder.name, "--model", "pix2pix", *words]
    return (
        f"the images of {printable(opt.dataroot)} look like pairs, A and B side by side, and each file is translated "
        f"as one image. For pairs type\n  python test.py {shlex.join(words)}"
    )


def loading_processes(opt) -> int:
    """Return how many processes load test images: the number typed, or as many as repay the time of their start.

    None on a CPU, whose cores the network needs. A plug-in's dataset may rely on a single process that asks in order:
    it gets that unless more are typed.
    """
    if "num_threads" in run_facts(opt).typed or opt.dataset_mode not in data.BUILT_IN:
        return opt.num_threads
    if opt.device.type == "cpu":
        return 0
    method = multiprocessing.get_start_method(allow_none=True) or multiprocessing.get_all_start_methods()[0]
    enough = 8 if method == "fork" else 250  # images for each; a spawned process imports PyTorch, which takes seconds
    side = 4096 if opt.preprocess in ("none", "scale_width") else max(opt.load_size, opt.crop_size)  # at most, a guess
    pair = 2 * 3 * 4 * side**2  # bytes of A and B; each process has two finished pairs and one in the making
    shared = Path("/dev/shm")  # pairs pass through it; a container may have 64 MiB
    room = shutil.disk_usage(shared).free // (3 * pair) if shared.is_dir() else 8
    return int(min(8, max(1, core_count() // 2), min(opt.num_test, 10_000) // enough, room))
