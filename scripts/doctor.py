"""Examine data, options, checkpoint and machine before training or testing begins.

    python scripts/doctor.py --dataroot ./datasets/facades --name facades_pix2pix --model pix2pix --direction BtoA
    python scripts/doctor.py test.py --dataroot ./datasets/facades --name facades_pix2pix

The arguments are train.py's or, after the word test.py, test.py's: put scripts/doctor.py between `python` and the
command that you are about to type. Each check prints one line: ok, warn with a cure, or FAIL with a cure where it could
not work; the exit status is 1 if any failed. Nothing is trained, and no experiment is begun. One file is written: the
picture {checkpoints_dir}/{name}_doctor.png, which shows images as the network will get them.
"""

from __future__ import annotations

import sys

if __name__ == "__main__" and {"-h", "--help"} & set(sys.argv):  # before imports that take seconds
    print(__doc__.strip())
    sys.exit()

import contextlib
import io
import os
import shlex
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))
try:
    import torch
    import torchvision

    import data
    import models
    from options.saved import experiment_folder
    from options.test_options import TestOptions
    from options.train_options import TrainOptions, nothing_left
    from scripts.checks.dataset import Examination, spread
    from scripts.checks.device import about_device, about_workers
    from scripts.checks.findings import Finding, quiet
    from scripts.checks.memory import compare_memory, measure_step
    from scripts.checks.sample_sheet import draw_sheet
    from util.checkpoint.checkpointer import Checkpointer
    from util.errors import UserError, explained_errors, format_bytes, list_names, printable
    from util.monitor.disk_forecast import forecast_disk
    from util.runtime import seeds
    from util.runtime.machine import free_space, main_memory
    from util.runtime.run_facts import with_values
except (ImportError, RuntimeError) as error:  # a torchvision made for another torch raises RuntimeError
    sys.exit(f"FAIL  packages    {error}: Python 3.10 or newer is needed, and what scripts/install_deps.sh installs")

SHOWN = 12  # items in the picture
COLOURS = {"ok": "32", "warn": "33", "FAIL": "1;31"}


def main(words: list[str]) -> int:
    """Examine what the command line `words` asks for, print a report, and return the exit status."""
    start, program = time.monotonic(), "train.py"
    if words and Path(words[0]).name in ("train.py", "test.py"):
        program, words = Path(words[0]).name, words[1:]
    options = (TestOptions if program == "test.py" else TrainOptions)(words)
    with contextlib.redirect_stdout(io.StringIO()) as said:
        opt = options.parse(begin=False)
    report, case = Report(), Case(opt)
    report.show(about_options(opt, program, said.getvalue().splitlines()))
    report.show(about_device(opt, asked=options._look(options.parser, "gpu_ids")))
    for check in (about_data, about_items, about_networks, about_epochs, about_memory, about_disk, about_picture):
        report.show(check(case))
    return report.conclude(f"python {program} {shlex.join(words)}", time.monotonic() - start)


class Report:
    """Print findings as they come, and count them."""

    def __init__(self):
        self.counts = Counter()
        self.coloured = sys.stdout.isatty() and "NO_COLOR" not in os.environ

    def show(self, findings: Iterable[Finding]) -> None:
        """Print a line for each finding."""
        for found in findings:
            self.counts[found.level] += 1
            level = f"{found.level:<4}"
            if self.coloured:
                level = f"\033[{COLOURS[found.level]}m{level}\033[0m"
            text = found.text.rstrip(".") + (f": {found.cure}" if found.cure else "")
            text = " ".join(line.strip() for line in text.splitlines())
            print(f"{level}  {found.subject:<10}  {printable(text)}", flush=True)

    def conclude(self, command: str, seconds: float) -> int:
        """Print the sum, and what to type next; return the exit status."""
        ok, warned, failed = (self.counts[level] for level in COLOURS)
        print(f"\n{ok} ok, {warned} to look at, {failed} failed ({seconds:.0f} s).")
        print(f"{'When that is mended' if failed else 'Next'}:\n  {printable(command)}")
        return 1 if failed else 0


class Case:
    """What is examined, and what the checks have found so far."""

    def __init__(self, opt):
        self.opt = opt
        self.data: Examination | None = None
        self.samples: dict[int, dict] = {}  # items of the data set
        self.model = None

    @property
    def sample(self) -> dict:
        """The item with the largest images, as far as that is known; {} if none could be loaded."""
        return self.samples.get(self.data.largest()) or next(iter(self.samples.values()), {})

    @property
    def loads(self) -> bool:
        """Whether a checkpoint is to be loaded."""
        return not self.opt.isTrain or self.opt.continue_train


# ---- options and machine ----


def about_options(opt, program: str, said: list[str]) -> Iterator[Finding]:
    """Say what is examined, what parsing the options said, and which versions run."""
    text = f"{program}, model {opt.model} (netG {opt.netG}, norm {opt.norm}), dataset_mode {opt.dataset_mode}"
    yield Finding("ok", "options", f"{text}, batch_size {opt.batch_size}, name {opt.name}")
    for line in said:
        if not line.startswith("no CUDA GPU"):  # about_device says more
            yield Finding("ok", "options", line)
    python = ".".join(map(str, sys.version_info[:3]))
    text = f"Python {python}, torch {torch.__version__}, torchvision {torchvision.__version__}"
    if torch.__version__ < "2.6":
        text += ": such a torch runs code that is hidden in checkpoints"
        yield Finding("FAIL", "versions", text, "pip install --upgrade torch torchvision")
    else:
        yield Finding("ok", "versions", text)


# ---- data ----


def about_data(case: Case) -> Iterator[Finding]:
    """Make the data set, and examine its files."""
    opt = case.opt
    try:
        with quiet() as said:
            dataset = data.find_dataset_using_name(opt.dataset_mode)(opt)
    except UserError as error:
        yield Finding("FAIL", "data", str(error))
        return
    if not len(dataset):
        yield Finding("FAIL", "data", f"data set {opt.dataset_mode} finds nothing: look at --dataroot {opt.dataroot}")
        return
    case.data = Examination(opt, dataset)
    yield from case.data.findings()
    for line in said.getvalue().splitlines() if case.data.ours else ():
        yield Finding("warn", "data", line)  # pairs without a partner


def about_items(case: Case) -> Iterator[Finding]:
    """Load some items as the network will get them, and see whether batches have room on their way to it."""
    if case.data is None:
        return
    opt, errors = case.opt, []
    for index in dict.fromkeys([*spread(range(case.data.count), SHOWN), case.data.largest()]):
        seeds.seed_all(opt.seed, "item", 1, index)
        try:
            with quiet():
                case.samples[index] = case.data.dataset[index]
        except UserError as error:
            errors += {str(error).rstrip(".")} - set(case.data.errors)  # those are told already
        except Exception as error:  # of a data set that is not ours; training would meet it, too
            errors.append(f"item {index}: {type(error).__name__}: {error}")
    if errors:
        yield Finding("FAIL", "loading", f"{len(errors)} of {SHOWN} items can't be loaded, the first as {errors[0]}")
    if opt.isTrain and case.samples:
        yield about_workers(opt, case.sample)


# ---- networks ----


def about_networks(case: Case) -> Iterator[Finding]:
    """Make the model and load its checkpoint, on the meta device: nothing is computed, and it takes no memory."""
    opt, folder = case.opt, experiment_folder(case.opt)
    subject = "checkpoint" if case.loads else "networks"
    if opt.isTrain and is_locked(folder):
        yield Finding("FAIL", subject, f"another run is training in {folder}", "another --name, or wait for it")
        return
    try:
        model, said = make_model(opt)
    except UserError as error:
        yield Finding("FAIL", subject, str(error))
        return
    except Exception as error:  # of a model that is not ours; training would meet it, too
        yield Finding("FAIL", subject, f"model {opt.model}: {type(error).__name__}: {error}")
        return
    case.model = model
    counts = {name: sum(p.numel() for p in net.parameters()) / 1e6 for name, net in model.networks().items()}
    text = ", ".join(f"{name} {count:.2f} M parameters" for name, count in counts.items())
    yield Finding("ok", subject, text + (f"; the files in {folder} fit" if case.loads else ""))
    for line in said.splitlines():
        if line.startswith("warning: "):
            yield Finding("warn", subject, line.removeprefix("warning: "))
    unfinished = [path.name for path in folder.glob("*.new")]
    if unfinished:
        text = f"a save in {folder} was cut off ({list_names(unfinished)})"
        yield Finding("warn", "checkpoint", text, "nothing; what belongs to a whole checkpoint is used")


def make_model(opt):
    """Return a model that is set up, and what that said; on the CPU where the meta device will not do."""
    for device in (torch.device("meta"), torch.device("cpu")):
        changed = with_values(opt, device=device, gpu_ids=[])
        try:
            with quiet() as said:
                with device:
                    model = models.create_model(changed)
                model.checkpoints.finish_interrupted_save = lambda: (
                    None
                )  # would mend the folder, which is not ours to touch
                model.setup(changed)
            return model, said.getvalue()
        except UserError:
            raise
        except Exception:
            if device.type == "cpu":
                raise
    raise AssertionError("the CPU returns or raises")


def about_epochs(case: Case) -> Iterator[Finding]:
    """Say what is left to train, and whether a run is in the way."""
    opt, model = case.opt, case.model
    if not opt.isTrain or model is None:
        return
    progress, last, there = model.progress, opt.n_epochs + opt.n_epochs_decay, Checkpointer(experiment_folder(opt))
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
    if not opt.continue_train and any(there.folder.glob("*_net_*.pth")):
        text = f"{there.describe_contents()}, over which this run would write its own"
        yield Finding("warn", "epochs", text, "--continue_train to go on, or another --name")


def is_locked(folder: Path) -> bool:
    """Whether a run holds the lock of an experiment's folder."""
    try:
        import fcntl

        with (folder / ".lock").open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except (ImportError, OSError):  # Windows; no such file
        return False
    return False


def about_memory(case: Case) -> Iterator[Finding]:
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
            text = f"unknown, as model {opt.model} can't be tried without computing: {error}"
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
    """Return a batch that is `count` times one item, in the memory of one."""
    return {
        key: value.expand(count, *value.shape) if isinstance(value, torch.Tensor) else [value] * count
        for key, value in item.items()
    }


def about_disk(case: Case) -> Iterator[Finding]:
    """Compare what will be saved with what is free."""
    opt, model = case.opt, case.model
    if model is None or case.data is None:
        return
    if opt.isTrain:
        if model.progress.epoch <= opt.n_epochs + opt.n_epochs_decay:
            disk = forecast_disk(opt, model, case.data.count)
            yield Finding(disk.level, "disk", disk.text, disk.advice)
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


# ---- the picture ----


def about_picture(case: Case) -> Iterator[Finding]:
    """Draw some items as the network gets them."""
    opt = case.opt
    sheet = draw_sheet(opt, list(case.samples.values())[:SHOWN], case.data)
    if sheet is None:
        return
    file = Path(opt.checkpoints_dir) / f"{opt.name}_doctor.png"
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        sheet.save(file)
    except OSError as error:
        yield Finding(
            "warn", "picture", f"{file} can't be written ({error.strerror or error})", "--checkpoints_dir DIR"
        )
    else:
        yield Finding("ok", "picture", f"{file} shows images as the network gets them: look at it")


if __name__ == "__main__":
    with explained_errors():
        status = main(sys.argv[1:])
    sys.exit(status)
