"""Options of training."""

from __future__ import annotations

import argparse
import math
import shlex

import models
from models.architecture import DISCRIMINATOR, GENERATOR, NETWORKS, PIX2PIX, Shown, shown_by
from options.base_options import BaseOptions, listed
from options.parser import without
from options.test_options import WHOLE
from util.checkpoint.checkpointer import prefix_of
from util.checkpoint.sources import find_source, saved_options, sources
from util.errors import UserError
from util.metrics.table import METRICS
from util.monitor.validation import is_paired
from util.runtime import processes
from util.speed import plan

# What a run that goes on does not take from its first start.
OF_ONE_START = {
    *("dataroot", "name", "suffix", "checkpoints_dir", "gpu_ids", "verbose"),
    *("continue_train", "epoch_count", "epoch", "load_iter", "init_from"),
}


class TrainOptions(BaseOptions):
    """Options of training, beside those of both phases."""

    isTrain = True

    def initialize(self, parser):
        parser = super().initialize(parser)
        g = parser.add_argument_group("training")
        g.add_argument("--phase", type=str, default="train", help="sub-folder of the data")
        g.add_argument("--n_epochs", type=int, default=100, help="epochs with the initial learning rate")
        g.add_argument("--n_epochs_decay", type=int, default=100, help="epochs in which it falls to zero")
        g.add_argument("--continue_train", action="store_true", help="go on where the last checkpoint was saved")
        g.add_argument("--epoch_count", type=int, default=1, help="number of the first epoch")
        g.add_argument(
            "--init_from", type=str, default="", help="begin with the weights of another experiment, or of a .pth file"
        )
        g.add_argument("--gan_mode", type=str, default="lsgan", help=f"objective: {listed('gan_mode')}")
        g.add_argument("--pool_size", type=int, default=50, help="generated images kept for the discriminator")
        g.add_argument(
            "--grad_accum", type=int, default=1, help="batches whose gradients make one step of the optimizers"
        )
        g.add_argument("--ema", type=float, default=0.0, help="average the generators' weights, e.g. 0.999; 0: don't")
        g.add_argument("--lr", type=float, default=0.0002, help="initial learning rate of Adam")
        g.add_argument("--beta1", type=float, default=0.5, help="momentum of Adam")
        g.add_argument("--lr_policy", type=str, default="linear", help=f"learning rate: {listed('lr_policy')}")
        g.add_argument("--lr_decay_iters", type=int, default=50, help="for lr_policy step: divide by 10 each N epochs")

        g = parser.add_argument_group("memory")
        g.add_argument("--grad_checkpoint", action="store_true", help="less memory for large images, slower steps")
        g.add_argument("--cache", action="store_true", help="keep decoded images in memory")

        g = parser.add_argument_group("saving", "all counts are images, unless they say epochs")
        g.add_argument("--save_latest_freq", type=int, default=5000, help="save the latest networks each N images")
        g.add_argument("--save_epoch_freq", type=int, default=5, help="save the epoch's networks each N epochs")
        g.add_argument("--save_by_iter", action="store_true", help="name periodic saves iter_N rather than latest")

        g = parser.add_argument_group("validation", "measures on the split `val`, whose images training never sees")
        g.add_argument("--val_freq", type=int, default=0, help="measure each N epochs; 0: never")
        g.add_argument(
            "--best_metric",
            type=str,
            default=None,
            help=f"keep the epoch that is the best by it as `best`: {listed('best_metric')}",
        )
        g.add_argument(
            "--early_stop", type=int, default=0, help="stop when N epochs were no better than the best one; 0: don't"
        )

        g = parser.add_argument_group("progress", "all counts are images")
        g.add_argument("--print_freq", type=int, default=100, help="print and log the losses each N images")
        g.add_argument("--display_freq", type=int, default=400, help="show images each N images")
        g.add_argument("--update_html_freq", type=int, default=1000, help="add to the web page each N images")
        g.add_argument("--no_html", action="store_true", help="no web page")
        g.add_argument("--use_tensorboard", action="store_true", help="log to TensorBoard")
        g.add_argument("--display_id", type=int, default=1, help="visdom window; -1: no visdom")
        g.add_argument(
            "--display_server", type=str, default="http://localhost", help="visdom server, used if it answers"
        )
        g.add_argument("--display_port", type=int, default=8097, help="visdom port")
        g.add_argument("--display_env", type=str, default="main", help="visdom environment")
        g.add_argument("--display_ncols", type=int, default=4, help="visdom images per row; 0: a window each")
        return parser

    def read_saved(self, opt, folder):
        """A run that goes on keeps its options; what is typed wins."""
        saved = super().read_saved(opt, folder) if opt.continue_train else {}
        if saved and processes.is_main():
            print(f"going on with the options in {folder / 'train_opt.json'}; those typed now win")
        return saved

    def defaults_from_saved(self, parser) -> dict:
        known = {action.dest for action in parser._actions} - OF_ONE_START
        return {name: value for name, value in self.saved.items() if name in known and value is not None}

    def read_networks(self, opt, checkpoints):
        if opt.init_from:
            return self.read_source(opt)
        if not opt.continue_train or opt.model not in models.BUILT_IN:
            return Shown({}, {})
        names = NETWORKS.get(opt.model, PIX2PIX)
        shown = shown_by({name: checkpoints.existing_net_path(prefix_of(opt), name) for name in names})
        self.compare_with_saved(shown)
        return shown

    def read_source(self, opt) -> Shown:
        """Take the architecture of what `--init_from` names."""
        if opt.continue_train:
            self.parser.error("--init_from begins a training and --continue_train goes on with one: leave one out")
        try:
            self.source = find_source(opt.init_from, opt.checkpoints_dir)
            ours = opt.model in models.BUILT_IN  # of another model we don't know which networks it has
            names = NETWORKS.get(opt.model, PIX2PIX)
            files = sources(self.source, prefix_of(opt), names, opt.direction) if ours else {}
        except UserError as error:
            named = str(error).startswith("--init_from")
            self.parser.error(str(error) if named else f"--init_from {opt.init_from}: {error}")
        self.unknown = True  # what this run is trained with, but for the following
        saved = saved_options(self.source if self.source.is_dir() else self.source.parent)
        there = files if ours else [path.stem.partition("_net_")[2] for path in self.source.glob("*_net_*.pth")]
        flags = GENERATOR + DISCRIMINATOR * any(name.startswith("D") for name in there)
        self.saved = {"model": opt.model, **{name: saved[name] for name in flags if name in saved}}
        return shown_by(files)

    def finish(self, opt):
        if opt.init_from:
            opt.init_from = str(self.source)

    def check_validation(self, opt):
        """Refuse what would have to be measured and isn't."""
        plateau = opt.lr_policy == "plateau" and (opt.model in models.BUILT_IN or opt.val_freq > 0)
        asking = [f"--best_metric {opt.best_metric}"] * bool(opt.best_metric)
        asking += [f"--early_stop {opt.early_stop}"] * (opt.early_stop > 0) + ["--lr_policy plateau"] * plateau
        if asking and not opt.val_freq:
            self.parser.error(f"{asking[0]} goes by what is measured on the split `val`: add --val_freq 1")
        if plateau and opt.val_freq != 1:
            self.parser.error(f"--lr_policy plateau looks at every epoch: --val_freq 1, not {opt.val_freq}")
        metric = METRICS.get(opt.best_metric)
        if metric and metric.paired and not is_paired(opt):
            unpaired = ", ".join(name for name, metric in METRICS.items() if not metric.paired)
            self.parser.error(
                f"--best_metric {opt.best_metric} compares each image with its truth, which --dataset_mode "
                f"{opt.dataset_mode} has not; choose one of {unpaired}"
            )

    def check(self, opt):
        super().check(opt)
        self.check_validation(opt)
        if opt.precision == "fp16" and (obstacle := plan.why_not_fp16(opt)):
            self.parser.error(f"--precision fp16: {obstacle}; bf16 needs no scale")
        for name, lowest in (
            ("lr", 0),
            ("pool_size", 0),
            ("n_epochs", 0),
            ("n_epochs_decay", 0),
            ("epoch_count", 1),
            ("grad_accum", 1),
            ("val_freq", 0),
            ("early_stop", 0),
        ):
            if getattr(opt, name) < lowest:
                self.parser.error(f"--{name} {getattr(opt, name)}: at least {lowest} is needed")
        if opt.lr_decay_iters < 1 or opt.save_epoch_freq < 1:
            self.parser.error("--lr_decay_iters and --save_epoch_freq count epochs: at least 1 is needed")
        for name in ("beta1", "ema"):
            if not 0 <= getattr(opt, name) < 1:
                self.parser.error(f"--{name} {getattr(opt, name)}: from 0 to below 1")
        if not 0 < opt.display_port < 2**16:
            self.parser.error(f"--display_port {opt.display_port}: from 1 to {2**16 - 1}")
        if opt.epoch_count > opt.n_epochs + opt.n_epochs_decay:
            self.parser.error(nothing_left(opt.epoch_count, opt))


def in_validation(opt):
    """Return the options by which the split `val` is loaded: as test.py would, one image at a time."""
    values = {"phase": "val", "preprocess": WHOLE.get(opt.preprocess, opt.preprocess), "max_dataset_size": math.inf}
    if "resize" in opt.preprocess:
        values["load_size"] = opt.crop_size
    alone = {"batch_size": 1, "grad_accum": 1, "num_threads": 0, "cache": False}
    return argparse.Namespace(**{**vars(opt), **values, **alone, "serial_batches": True, "no_flip": True})


def nothing_left(epoch: int, opt) -> str:
    """Say that no epoch is left to train, and what to type to train more."""
    more = max(epoch - opt.n_epochs_decay, opt.n_epochs + 1)
    words = without(opt.typed, "--n_epochs", "--epoch_count", "--continue_train")
    words += ["--continue_train"] * opt.continue_train + ["--n_epochs", str(more)]
    words += ["--epoch_count", str(opt.epoch_count)] * ("epoch_count" in opt.given)
    return (
        f"nothing is left to train: epoch {epoch} comes after the last one, {opt.n_epochs} + {opt.n_epochs_decay} = "
        f"{opt.n_epochs + opt.n_epochs_decay} (--n_epochs + --n_epochs_decay). To train on, give more epochs:\n"
        f"  python train.py {shlex.join(words)}"
    )
