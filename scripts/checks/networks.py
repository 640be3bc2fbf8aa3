"""Checks of a run: its networks and checkpoint, the epochs left, memory and disk."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import torch

import models
from options.saved import experiment_folder
from options.train_options import nothing_left
from scripts.checks.dataset import Examination
from scripts.checks.memory import compare_memory, measure_step
from scripts.checks.report import Finding, quiet
from util.checkpoint.checkpointer import Checkpointer
from util.errors import UserError, format_bytes, list_names
from util.monitor.disk_forecast import forecast_disk
from util.runtime.machine import free_space, main_memory
from util.runtime.run_facts import with_values


class Case:
    """The options, and what the checks have found so far."""

    def __init__(self, opt):
        self.opt = opt
        self.data: Examination | None = None
        self.samples: dict[int, dict] = {}  # items of the dataset
        self.model = None

    @property
    def sample(self) -> dict:
        """The item with the largest images, as far as known; {} if none could be loaded."""
        return self.samples.get(self.data.largest()) or next(iter(self.samples.values()), {})


def check_networks(case: Case) -> Iterator[Finding]:
    """Create the model and load its checkpoint on the meta device: nothing is computed, and it takes no memory."""
    opt, folder = case.opt, experiment_folder(case.opt)
    loads = not opt.isTrain or opt.continue_train
    subject = "checkpoint" if loads else "networks"
    if opt.isTrain and is_locked(folder):
        yield Finding("FAIL", subject, f"another run is training in {folder}", "another --name, or wait for it")
        return
    try:
        case.model, printed = make_model(opt)
    except UserError as error:
        yield Finding("FAIL", subject, str(error))
        return
    except Exception as error:  # of a plug-in's model; training would fail in the same way
        yield Finding("FAIL", subject, f"model {opt.model}: {type(error).__name__}: {error}")
        return
    counts = {name: sum(p.numel() for p in net.parameters()) / 1e6 for name, net in case.model.networks().items()}
    text = ", ".join(f"{name} {count:.2f} M parameters" for name, count in counts.items())
    yield Finding("ok", subject, text + (f"; the files in {folder} fit" if loads else ""))
    for line in printed.splitlines():
        if line.startswith("warning: "):
            yield Finding("warn", subject, line.removeprefix("warning: "))
    unfinished = [path.name for path in folder.glob("*.new")]
    if unfinished:
        text = f"a save in {folder} was interrupted ({list_names(unfinished)})"
        yield Finding("warn", "checkpoint", text, "nothing; the files of a complete checkpoint are used")


def make_model(opt):
    """Return a model after its setup, and the output of that; on the CPU if the meta device does not work."""
    for device in (torch.device("meta"), torch.device("cpu")):
        changed = with_values(opt, device=device, gpu_ids=[])
        try:
            with quiet() as printed:
                with device:
                    model = models.create_model(changed)
                model.checkpoints.finish_interrupted_save = lambda: None  # the doctor only reads
                model.setup(changed)
            return model, printed.getvalue()
        except UserError:
            raise
        except Exception:
            if device.type == "cpu":
                raise
    raise AssertionError("the CPU returns or raises")


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
        text = f"{there.describe_contents()}, which this run would overwrite"
        yield Finding("warn", "epochs", text, "--continue_train to resume it, or another --name")


def is_locked(folder: Path) -> bool:
    """Return whether a run holds the lock of an experiment's folder."""
    try:
        import fcntl

        with (folder / ".lock").open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except (ImportError, OSError):  # Windows; no such file
        return False
    return False


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
            yield Finding("FAIL", "step", f"a step of model {opt.model} fails: {type(error).__name__}: {error}")
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
    """Compare the files that will be saved with the free space."""
    opt, model = case.opt, case.model
    if model is None or case.data is None:
        return
    if opt.isTrain:
        if model.progress.epoch <= opt.n_epochs + opt.n_epochs_decay:
            forecast = forecast_disk(opt, model, case.data.count)
            yield Finding(forecast.level, "disk", forecast.text, forecast.advice)
        return
    count = int(min(opt.num_test, case.data.count))
    areas = [value[0].numel() for value in case.sample.values() if isinstance(value, torch.Tensor)]
    need = count * len(model.visual_names) * 3 * max(areas, default=0)
    try:
        free = free_space(opt.results_dir)
    except UserError as error:
        yield Finding("FAIL", "disk", str(error), "--results_dir elsewhere")
        return
    text = f"{count} results need up to {format_bytes(need)}; {format_bytes(free)} free for {opt.results_dir}"
    yield Finding("ok", "disk", text) if need < free else Finding("warn", "disk", text, "--results_dir on another disk")
