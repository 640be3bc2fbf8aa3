"""Saving and loading of a model's networks: the part of BaseModel that deals with checkpoints."""

from __future__ import annotations

from functools import partial

from models import architecture
from models.schedulers import get_scheduler
from util.checkpoint import run_folder, training_state
from util.checkpoint.checkpointer import prefix_of
from util.checkpoint.ema import load_averages
from util.checkpoint.safe_reader import read
from util.checkpoint.sources import sources
from util.checkpoint.weights import load_weights
from util.runtime import processes


class ModelFiles:
    """Methods of BaseModel that save and load; they use its options, networks, optimizers and progress."""

    def save_networks(self, prefix):
        """Save the networks as `{prefix}_net_X.pth`, and the training state beside them (every process calls this).

        Raises SaveError in the main process if that fails; earlier checkpoints stay intact.
        """
        self.guard.check()
        state = training_state.get_training_state(self)
        if processes.is_main():
            run_folder.begin(self.opt)
            averages = {f"{name}_ema": average.module for name, average in self.averages.items()}
            self.checkpoints.save(str(prefix), {**self.networks(), **averages}, state)
            run_folder.settle(self.save_dir)  # an earlier run there can't come back now

    def load_networks(self, prefix):
        """Load the networks from `{prefix}_net_X.pth`; in testing with `--ema`, the averaged generators."""
        averaged = not self.isTrain and getattr(self.opt, "ema", False)
        nets = {name + "_ema" * (averaged and name.startswith("G")): net for name, net in self.networks().items()}
        self.checkpoints.load_networks(str(prefix), nets, self._explain_misfit)

    def _resumes(self) -> bool:
        return self.isTrain and self.opt.continue_train

    def _load_initial_weights(self):
        """Load a checkpoint to resume or to test, or the weights that `--init_from` names."""
        prefix = prefix_of(self.opt)
        if self._resumes():
            if processes.is_main():
                self.checkpoints.finish_interrupted_save()
            processes.from_main(None)  # the other processes wait for that
        if self._resumes() or not self.isTrain:
            self.load_networks(prefix)
        elif getattr(self.opt, "init_from", ""):
            self._load_from(self.opt.init_from, prefix)

    def _restore_training_state(self):
        """Make the schedulers; when resuming, restore counters, optimizers, image pools and averages first."""
        state = training_state.restore_training_state(self, prefix_of(self.opt)) if self._resumes() else {}
        self.schedulers = [get_scheduler(optimizer, self.opt) for optimizer in self.optimizers]
        training_state.restore_plateau_schedulers(self.schedulers, state.get("plateaus", []))
        if self._resumes() and self.averages:
            load_averages(self.averages, self.checkpoints, prefix_of(self.opt))

    def _load_from(self, where, prefix):
        """Load weights of another experiment or of a file; a network without any there keeps its initial weights."""
        files = sources(where, prefix, list(self.networks()), self.opt.direction)
        for name, net in self.networks().items():
            if name in files:
                print(f"network {name} begins with {files[name]}")
                load_weights(net, read(files[name]), files[name], partial(self._explain_misfit, name))
            else:
                print(f"network {name} begins afresh: {where} has none")

    def _explain_misfit(self, name, net, state):
        """Say which options would make network `name` fit a file's state dict, or return None."""
        backwards = name.startswith("G_B") and "G_A" in self.model_names  # CycleGAN's, from output_nc to input_nc
        return architecture.explain_misfit(net, state, backwards)
