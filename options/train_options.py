"""Options of training."""

from __future__ import annotations

import math
from pathlib import Path

import models
from models.architecture import NETWORKS, PIX2PIX, Architecture, read_architecture
from options import rows
from options.base_options import BaseOptions
from options.legacy import todays_options
from options.parser import without
from options.saved import choose_saved
from options.test_options import WHOLE
from util.checkpoint.checkpointer import Checkpointer, prefix_of
from util.checkpoint.run_folder import finished, recover
from util.checkpoint.sources import find_source, options_file, saved_options, sources
from util.errors import UserError, warn
from util.metrics.table import METRICS
from util.runtime import processes
from util.runtime.process_table import launch
from util.runtime.run_facts import run_facts, save_fact, saved_facts, set_facts, with_values
from util.speed import plan


class TrainOptions(BaseOptions):
    """Options of train.py: those of both phases and these."""

    isTrain = True
    unattended = False  # see RunFacts

    def initialize(self, parser):
        parser = super().initialize(parser)
        rows.add_training(parser)
        return parser

    # ---- values from files ----

    def words_of_start(self, opt, folder):
        """Decide whether to resume: as typed, as `auto` finds it, or because torchrun has restarted this run.

        A command that is repeated must not begin again where it began at first, so such options are dropped then.
        """
        if self.locks():
            recover(folder)
        auto, checkpoints = opt.continue_train == "auto", Checkpointer(folder)
        if auto and (opt.epoch != "latest" or opt.load_iter):
            self.parser.error("--continue_train auto takes the last checkpoint: leave out --epoch and --load_iter")
        last = checkpoints.last_prefix() if processes.is_main() and (auto or launch()) else None
        last, restarted = processes.from_main((last, bool(last) and self._restarted(opt, checkpoints.state_path(last))))
        if opt.continue_train is True and not opt.init_from and not folder.is_dir():
            hint = "To start where there is nothing to resume: --continue_train auto"
            raise UserError(f"--continue_train: {checkpoints.describe_contents()}. {hint}")
        if not auto and not restarted:
            return self.words
        words = without(self.parser.todays_words(self.words), "--continue_train")
        if last is None:
            return words
        if not opt.continue_train and processes.is_main():
            print("this torchrun launch began the run, which resumes; another --rdzv_id or another --name starts over")
        self.unattended = True
        numbered = checkpoints.state_path(last).is_file()  # else it takes --epoch_count to resume
        words = without(words, "--init_from", "--epoch", "--load_iter", *["--epoch_count"] * numbered)
        return [*words, "--continue_train", *(["--epoch", last] if last != "latest" else [])]

    @staticmethod
    def _restarted(opt, state: Path) -> bool:
        """Whether a training state was saved by the torchrun launch that this process belongs to."""
        options = state.with_name("train_opt.json")
        if not launch() or saved_facts(saved_options(state.parent)).get("launch") != launch():
            return False
        if not opt.continue_train:  # then nothing in the folder is older than the launch
            return True
        return state.is_file() and state.stat().st_mtime_ns > options.stat().st_mtime_ns

    def takes(self, row):
        return row is None or row.resume

    def read_saved(self, opt, folder):
        saved = super().read_saved(opt, folder) if opt.continue_train else {}
        if saved and processes.is_main():
            print(f"resuming with the options in {options_file(folder)}; those typed now win")
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
        saved = todays_options(saved_options(self.source if self.source.is_dir() else self.source.parent))
        found = files if built_in else [path.stem.partition("_net_")[2] for path in self.source.glob("*_net_*.pth")]
        networks = {"G", *("D" for name in found if name.startswith("D"))}
        names = {name for name, row in self.parser.rows.items() if row.network in networks}
        self.parser.set_defaults(**choose_saved(saved, names, self.parser))
        return read_architecture(files)

    # ---- checking ----

    def finish(self, opt):
        if opt.init_from:
            opt.init_from = str(self.source)
        set_facts(opt, unattended=self.unattended)
        if launch():
            save_fact(opt, "launch", launch())

    def check(self, opt):
        super().check(opt)
        self._check_validation(opt)
        self._check_pairs(opt)
        if opt.precision == "fp16" and (obstacle := plan.why_not_fp16(opt)):
            self.parser.error(f"--precision fp16: {obstacle}; bf16 needs no scale")
        if opt.epoch_count > opt.n_epochs + opt.n_epochs_decay:
            self.parser.error(f"--epoch_count {opt.epoch_count}: {nothing_left(opt.epoch_count, opt)}")

    def _check_pairs(self, opt) -> None:
        """Warn if the model learns from pairs and the dataset has none; report a dataset that does not say so."""
        paired, mode = run_facts(opt).paired, f"--dataset_mode {opt.dataset_mode}"
        needed = models.find_model_using_name(opt.model).needs_pairs
        if needed and paired is False:
            warn(
                f"--model {opt.model} learns from pairs, and {mode} has none: the B of an item is not A's target. Type "
                "--model cycle_gan for images without pairs, or --dataset_mode aligned for pairs (docs/datasets.md)"
            )
        elif paired is None and (needed or opt.val_freq):
            self.notes.append(
                f"{mode} does not say whether A and B are pairs (method is_paired, see data/template_dataset.py)"
                + f", which --model {opt.model} learns from" * needed
                + "; metrics of pairs are measured only if --best_metric names one" * bool(opt.val_freq)
            )

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
        if metric and metric.paired and run_facts(opt).paired is False:
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


def require_epochs(epoch: int, opt) -> None:
    """Raise UserError if no epoch is left to train, when `epoch` would be the next one."""
    if epoch > opt.n_epochs + opt.n_epochs_decay:
        raise finished(opt, nothing_left(epoch, opt))


def nothing_left(epoch: int, opt) -> str:
    """Return the message that no epoch is left to train, with the option that trains more."""
    return (
        f"nothing is left to train: epoch {epoch} comes after the last one, {opt.n_epochs} + {opt.n_epochs_decay} = "
        f"{opt.n_epochs + opt.n_epochs_decay} (--n_epochs + --n_epochs_decay). To train longer, type the same command "
        f"with --n_epochs {max(epoch - opt.n_epochs_decay, opt.n_epochs + 1)}"
    )
