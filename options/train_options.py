"""Options of training."""

from __future__ import annotations

import math

import models
from models.architecture import NETWORKS, PIX2PIX, Architecture, read_architecture
from models.networks import GAN_MODES, POLICIES
from options.base_options import BaseOptions
from options.saved import choose_saved
from options.test_options import WHOLE
from util.checkpoint.checkpointer import prefix_of
from util.checkpoint.sources import find_source, saved_options, sources
from util.errors import UserError
from util.metrics.table import METRICS
from util.monitor.validation import is_paired
from util.runtime import processes
from util.runtime.run_facts import with_values
from util.speed import plan


class TrainOptions(BaseOptions):
    """Options of train.py: those of both phases and these."""

    isTrain = True

    def initialize(self, parser):
        """Add the options of training, one row each (which makes this function long)."""
        parser = super().initialize(parser)
        add = parser.section("training")
        add("--phase", "train", "sub-folder of the data")
        add("--n_epochs", 100, "epochs with the initial learning rate", at_least=0)
        add("--n_epochs_decay", 100, "epochs in which it falls to zero", at_least=0)
        add("--continue_train", False, "resume at the last checkpoint", resume=False)
        add("--epoch_count", 1, "number of the first epoch", at_least=1, resume=False)
        start = "start with the weights of another experiment, or of a .pth file"
        add("--init_from", "", start, resume=False, new=True)
        add("--gan_mode", "lsgan", "objective", values=GAN_MODES, free_for="model")
        add("--pool_size", 50, "generated images kept for the discriminator", at_least=0)
        add("--grad_accum", 1, "batches whose gradients make one step of the optimizers", at_least=1, new=True)
        add("--ema", 0.0, "average the generators' weights, e.g. 0.999; 0: off", at_least=0, below=1, new=True)
        add("--lr", 0.0002, "initial learning rate of Adam", at_least=0)
        add("--beta1", 0.5, "momentum of Adam", at_least=0, below=1)
        add("--lr_policy", "linear", "learning rate", values=POLICIES, free_for="model")
        add("--lr_decay_iters", 50, "for lr_policy step: divide by 10 each N epochs", at_least=1)

        add = parser.section("memory")
        add("--grad_checkpoint", False, "less memory for large images, slower steps", new=True)
        add("--cache", False, "keep decoded images in memory", new=True)

        add = parser.section("saving", "all counts are images, unless they say epochs")
        add("--save_latest_freq", 5000, "save the latest networks each N images")
        add("--save_epoch_freq", 5, "save the epoch's networks each N epochs", at_least=1)
        add("--save_by_iter", False, "name periodic checkpoints iter_N instead of latest")

        add = parser.section("validation", "measures on the split `val`, whose images training never sees")
        add("--val_freq", 0, "measure each N epochs; 0: never", at_least=0, new=True)
        best = "metric that decides which epoch is kept as `best`"
        add("--best_metric", None, best, values=METRICS, free_for="model", new=True)
        add("--early_stop", 0, "stop after N epochs without a new best; 0: off", at_least=0, new=True)

        add = parser.section("progress", "all counts are images")
        add("--print_freq", 100, "print and log the losses each N images")
        add("--display_freq", 400, "show images each N images")
        add("--update_html_freq", 1000, "add to the web page each N images")
        add("--no_html", False, "no web page")
        add("--use_tensorboard", False, "log to TensorBoard", new=True)
        add("--display_id", 1, "visdom window; -1: no visdom")
        add("--display_server", "http://localhost", "visdom server, used if it answers")
        add("--display_port", 8097, "visdom port", at_least=1, at_most=2**16 - 1)
        add("--display_env", "main", "visdom environment")
        add("--display_ncols", 4, "visdom images per row; 0: a window each")
        parser.group = None
        return parser

    # ---- values from files ----

    def takes(self, row):
        return row is None or row.resume

    def read_saved(self, opt, folder):
        saved = super().read_saved(opt, folder) if opt.continue_train else {}
        if saved and processes.is_main():
            print(f"resuming with the options in {folder / 'train_opt.json'}; those typed now win")
        return saved

    def read_networks(self, opt, checkpoints):
        if opt.init_from:
            return self._read_source(opt)
        if not opt.continue_train or opt.model not in models.BUILT_IN:
            return Architecture()
        names = NETWORKS.get(opt.model, PIX2PIX)
        return read_architecture({name: checkpoints.existing_net_path(prefix_of(opt), name) for name in names})

    def _read_source(self, opt) -> Architecture:
        """Return the architecture of the networks that `--init_from` names; saved options fill what they don't show."""
        if opt.continue_train:
            self.parser.error("--init_from starts a run and --continue_train resumes one: leave one out")
        built_in = opt.model in models.BUILT_IN  # the networks of a plug-in are unknown
        try:
            self.source = find_source(opt.init_from, opt.checkpoints_dir)
            names = NETWORKS.get(opt.model, PIX2PIX)
            files = sources(self.source, prefix_of(opt), names, opt.direction) if built_in else {}
        except UserError as error:
            named = str(error).startswith("--init_from")
            self.parser.error(str(error) if named else f"--init_from {opt.init_from}: {error}")
        saved = saved_options(self.source if self.source.is_dir() else self.source.parent)
        found = files if built_in else [path.stem.partition("_net_")[2] for path in self.source.glob("*_net_*.pth")]
        networks = {"G", *("D" for name in found if name.startswith("D"))}
        names = {name for name, row in self.parser.rows.items() if row.network in networks}
        self.parser.set_defaults(**choose_saved(saved, names, self.parser))
        return read_architecture(files)

    # ---- checking ----

    def finish(self, opt):
        if opt.init_from:
            opt.init_from = str(self.source)

    def check(self, opt):
        super().check(opt)
        self._check_validation(opt)
        if opt.precision == "fp16" and (obstacle := plan.why_not_fp16(opt)):
            self.parser.error(f"--precision fp16: {obstacle}; bf16 needs no scale")
        if opt.epoch_count > opt.n_epochs + opt.n_epochs_decay:
            self.parser.error(f"--epoch_count {opt.epoch_count}: {nothing_left(opt.epoch_count, opt)}")

    def _check_validation(self, opt) -> None:
        """End with a message if an option needs a measurement that is not made."""
        plateau = opt.lr_policy == "plateau" and (opt.model in models.BUILT_IN or opt.val_freq > 0)
        needing = [f"--best_metric {opt.best_metric}"] * bool(opt.best_metric)
        needing += [f"--early_stop {opt.early_stop}"] * (opt.early_stop > 0) + ["--lr_policy plateau"] * plateau
        if needing and not opt.val_freq:
            self.parser.error(f"{needing[0]} needs measurements on the split `val`: add --val_freq 1")
        if plateau and opt.val_freq != 1:
            self.parser.error(f"--lr_policy plateau needs a measurement each epoch: --val_freq 1, not {opt.val_freq}")
        metric = METRICS.get(opt.best_metric)
        if metric and metric.paired and not is_paired(opt):
            unpaired = ", ".join(name for name, metric in METRICS.items() if not metric.paired)
            self.parser.error(
                f"--best_metric {opt.best_metric} compares each image with its ground truth, which --dataset_mode "
                f"{opt.dataset_mode} lacks; choose one of {unpaired}"
            )


def in_validation(opt):
    """Return the options that load the split `val` as test.py would, one image at a time."""
    values = {"phase": "val", "preprocess": WHOLE.get(opt.preprocess, opt.preprocess), "max_dataset_size": math.inf}
    if "resize" in opt.preprocess:
        values["load_size"] = opt.crop_size
    alone = {"batch_size": 1, "grad_accum": 1, "num_threads": 0, "cache": False}
    return with_values(opt, **values, **alone, serial_batches=True, no_flip=True)


def nothing_left(epoch: int, opt) -> str:
    """Return the message that no epoch is left to train, with the option that trains more."""
    return (
        f"nothing is left to train: epoch {epoch} comes after the last one, {opt.n_epochs} + {opt.n_epochs_decay} = "
        f"{opt.n_epochs + opt.n_epochs_decay} (--n_epochs + --n_epochs_decay). To train longer, type the same command "
        f"with --n_epochs {max(epoch - opt.n_epochs_decay, opt.n_epochs + 1)}"
    )
