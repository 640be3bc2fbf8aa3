"""Checks of a run: its networks and checkpoint, the epochs left, disk and memory.

The memory of a step is measured on the meta device. Sizes are in bytes.
"""

from __future__ import annotations

import math
import weakref
from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

import models
from options.train_options import nothing_left
from scripts.checks.dataset import Examination
from scripts.checks.report import Finding, quiet, reason_of
from util.checkpoint.checkpointer import Checkpointer
from util.checkpoint.run_folder import experiment_folder, previous
from util.errors import UserError, format_bytes
from util.monitor.disk_forecast import forecast_disk
from util.runtime.machine import main_memory
from util.runtime.run_facts import with_values
from util.runtime.step_part import StepPart

WORKSPACE = 1.6  # times the tensors of a step: with the workspace of convolutions; 1.4 to 1.6 on a CPU


class Case:
    """The options, and what the checks have found so far."""

    def __init__(self, opt):
        self.opt = opt
        self.data: Examination | None = None
        self.samples: list[dict] = []  # items of the dataset
        self.model = None

    @property
    def sample(self) -> dict:
        """The largest item of those loaded; there must be one."""
        return max(self.samples, key=lambda item: sum(map(torch.numel, filter(torch.is_tensor, item.values()))))


def check_networks(case: Case) -> Iterator[Finding]:
    """Create the model and load its checkpoint on the meta device: nothing is computed, and it takes no memory."""
    opt, folder = case.opt, experiment_folder(case.opt)
    loads = not opt.isTrain or opt.continue_train
    subject = "checkpoint" if loads else "networks"
    try:
        case.model, printed = make_model(opt)
    except Exception as error:  # training would fail in the same way
        yield Finding("FAIL", subject, reason_of(error))
        return
    counts = {name: sum(p.numel() for p in net.parameters()) / 1e6 for name, net in case.model.networks().items()}
    text = ", ".join(f"{name} {count:.2f} M parameters" for name, count in counts.items())
    yield Finding("ok", subject, text + (f"; the files in {folder} fit" if loads else ""))
    for line in printed.splitlines():
        if line.startswith("warning: "):
            yield Finding("warn", subject, line.removeprefix("warning: "))


def make_model(opt, device: str = "meta"):
    """Return a model after its setup, and the output of that; on the CPU if the meta device does not work."""
    changed = with_values(opt, device=torch.device(device), gpu_ids=[])
    try:
        with quiet() as printed:
            with changed.device:
                model = models.create_model(changed)
            model.checkpoints.finish_interrupted_save = lambda: None  # the doctor only reads
            model.setup(changed)
        return model, printed.getvalue()
    except Exception as error:
        if device == "cpu" or isinstance(error, UserError):
            raise
        return make_model(opt, "cpu")


def check_epochs(case: Case) -> Iterator[Finding]:
    """Report the epochs left to train, and whether the folder holds another run."""
    opt, model = case.opt, case.model
    if not opt.isTrain or model is None:
        return
    progress, last = model.progress, opt.n_epochs + opt.n_epochs_decay
    if progress.epoch > last:
        text, _, command = nothing_left(progress.epoch, opt).partition("\n")
        yield Finding("FAIL", "epochs", text.rstrip(":"), command.strip())
        return
    text = f"{progress.epoch} to {last} are left to train"
    if progress.epoch_iter:
        text += f", the first after {progress.epoch_iter} of its images"
    if case.data is not None:
        text += f"; {case.data.count} images, {-(-case.data.count // opt.batch_size)} batches in each"
    yield Finding("ok", "epochs", text)
    there = Checkpointer(experiment_folder(opt))
    if not opt.continue_train and any(there.folder.glob("*_net_*.pth")):
        text = f"{there.describe_contents()}; this run would move them to {previous(there.folder)}"
        yield Finding("warn", "epochs", text, "--continue_train to resume it, or another --name")


def check_memory(case: Case) -> Iterator[Finding]:
    """Try a step on the meta device: do the shapes fit, and how much memory does it take?"""
    opt, model = case.opt, case.model
    if model is None or not case.samples:
        return
    try:
        if model.device.type != "meta":
            raise NotImplementedError("not made for the meta device")
        with quiet():
            need = measure_step(model, batch_of(case.sample, opt.batch_size), opt.isTrain)
    except Exception as error:
        if isinstance(error, NotImplementedError) or "meta" in str(error):
            text = f"unknown, since model {opt.model} can't be tried without computing: {error}"
            yield Finding("warn", "memory", text, "a first run with --max_dataset_size 10 shows it")
        else:
            yield Finding("FAIL", "step", f"a step of model {opt.model} fails: {reason_of(error)}")
        return
    if opt.device.type == "cuda":
        (free, total), where = torch.cuda.mem_get_info(opt.device), "the GPU"
    else:
        (total, free), where = main_memory(), "this machine"
    yield compare_memory(need, total, free, where, opt.batch_size, opt.crop_size)


def batch_of(item: dict, count: int) -> dict:
    """Return a batch that repeats one item `count` times, in the memory of one."""
    return {
        key: value.expand(count, *value.shape) if isinstance(value, torch.Tensor) else [value] * count
        for key, value in item.items()
    }


def check_disk(case: Case) -> Iterator[Finding]:
    """Compare the checkpoints that will be saved with the free space."""
    opt, model = case.opt, case.model
    if not opt.isTrain or model is None or case.data is None:
        return
    if model.progress.epoch <= opt.n_epochs + opt.n_epochs_decay:
        forecast = forecast_disk(opt, model, case.data.count)
        yield Finding(forecast.level, "disk", forecast.text, forecast.advice)


class TensorBytes(TorchDispatchMode):
    """Count the bytes of the tensors made while the body runs: those alive (`now`), and the most at once (`peak`).

    Nothing is computed for tensors on the meta device, so a step of any size is measured in a second.
    """

    def __init__(self):
        super().__init__()
        self.now = self.peak = 0
        self.alive: set[int] = set()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        for leaf in tree_leaves(result):
            if isinstance(leaf, torch.Tensor):
                self._see(leaf.untyped_storage())
        return result

    def _see(self, storage) -> None:
        key, count = storage._cdata, storage.nbytes()
        if key not in self.alive:
            self.alive.add(key)
            self.now += count
            self.peak = max(self.peak, self.now)
            weakref.finalize(storage, self._forget, key, count)

    def _forget(self, key: int, count: int) -> None:
        self.alive.discard(key)
        self.now -= count


class StepMemory(NamedTuple):
    """The memory of a step."""

    images: int  # grows with the number and the area of the images
    fixed: int  # weights, gradients, moments

    @property
    def least(self) -> int:
        return self.images + self.fixed

    @property
    def likely(self) -> int:
        return int(WORKSPACE * self.images) + self.fixed


def measure_step(model, batch: dict, training: bool) -> StepMemory:
    """Measure a step on `batch` of a model on the meta device.

    Errors of the step itself pass through, for example of images that the networks can't take.
    """
    parameters = [p for net in model.networks().values() for p in net.parameters()]
    averaged = [p for average in model.averages.values() for p in average.module.parameters()]
    weights = sum(p.nbytes for p in parameters + averaged)
    if not training:
        with TensorBytes() as seen, torch.no_grad():
            model.set_input(batch)
            model.forward()
        return StepMemory(seen.peak, weights)
    model.begin_batch(StepPart(last=False))  # only gradients: Adam's moments are counted below
    with TensorBytes() as seen:
        for _ in range(2):  # the gradients of the first step are still there in the second
            model.set_input(batch)
            model.optimize_parameters()
    trained = sum(p.nbytes for p in parameters if p.requires_grad)
    return StepMemory(max(0, seen.peak - trained), weights + 3 * trained)


def compare_memory(need: StepMemory, total: int, free: int, device: str, batch_size: int, crop_size: int) -> Finding:
    """Compare a step's memory with that of the device; total 0: unknown."""
    text = f"a step needs {format_bytes(need.least)}, with working space about {format_bytes(need.likely)}"
    if not total:
        return Finding("ok", "memory", text)
    text += f"; {device} has {format_bytes(total)} ({format_bytes(free)} free)"
    if need.likely <= free:
        return Finding("ok", "memory", text)
    share = max(0.0, (free - need.fixed) / (need.likely - need.fixed + 1))  # of the images that would fit
    fitting, crop = int(share * batch_size), int(crop_size * math.sqrt(share)) // 32 * 32
    advice = [f"--batch_size {fitting}"] if fitting else [f"--crop_size {crop}"] if crop >= 64 else []
    advice += ["--ngf 32", "a smaller --netG"]
    return Finding("FAIL" if need.least > total else "warn", "memory", text, " or ".join(advice))
