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

import argparse
import contextlib
import io
import os
import shlex
import shutil
import subprocess
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))
try:
    import numpy as np
    import torch
    import torchvision
    from PIL import Image, ImageDraw, ImageFont

    import data
    import models
    from data.examine import Examination, spread, times
    from options.base_options import experiment_folder
    from options.test_options import TestOptions
    from options.train_options import TrainOptions, nothing_left
    from util import preflight, runtime
    from util.checkpoint import Checkpointer
    from util.pictures import contact_sheet, to_pictures
    from util.preflight import Finding, core_count, named, quiet, size
    from util.util import UserError, explained_errors, printable
except (ImportError, RuntimeError) as error:  # a torchvision made for another torch raises RuntimeError
    sys.exit(f"FAIL  packages    {error}: Python 3.10 or newer is needed, and what scripts/install_deps.sh installs")

SHOWN = 12  # items in the picture
COLOURS = {"ok": "32", "warn": "33", "FAIL": "1;31"}
NO_GPU = "--gpu_ids -1 if that is meant; the papers' sizes take days then"


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


def about_device(opt, asked: str) -> Iterator[Finding]:
    """Say where it will run, and compute something there; `asked` is the value of --gpu_ids."""
    text = f"{core_count()} CPU cores"
    if opt.device.type == "cuda":
        yield about_gpu(opt.device)
    elif opt.device.type == "mps":
        yield Finding("ok", "device", f"Apple's GPU (mps), {text}")
    elif asked.strip().startswith("-"):
        yield Finding("ok", "device", f"{text}; --gpu_ids {asked} asks for no GPU")
    else:
        reason, cure = why_no_gpu()
        yield Finding("warn", "device", f"{text} and no GPU, as {reason}", cure)


def about_gpu(device: torch.device) -> Finding:
    """Name a GPU, and compute something on it."""
    it = torch.cuda.get_device_properties(device)
    text = f"GPU {device.index}, {it.name}, CUDA {torch.version.cuda}, driver {(nvidia_smi('driver_version') or '?')}"
    try:
        if torch.ones(2, device=device).sum().item() == 2:
            return Finding("ok", "device", text)
        reason = "1 + 1 is not 2 there"
    except RuntimeError as error:
        reason = str(error).splitlines()[0]
    text += (
        f" can't compute: {reason} (it is sm_{it.major}{it.minor}; torch has {' '.join(torch.cuda.get_arch_list())})"
    )
    return Finding("FAIL", "device", text, "install a torch that is made for it, https://pytorch.org")


def why_no_gpu() -> tuple[str, str]:
    """Say why torch finds no CUDA device, and what to do."""
    gpu, hidden = nvidia_smi("name"), os.environ.get("CUDA_VISIBLE_DEVICES")
    if not gpu:
        return "no driver of NVIDIA's answers", NO_GPU
    if torch.version.cuda is None:
        return f"this torch is made without CUDA, for all that there is a {gpu}", "see https://pytorch.org"
    if hidden is not None:
        return f"CUDA_VISIBLE_DEVICES={hidden} hides the {gpu}", "unset CUDA_VISIBLE_DEVICES"
    text = (
        f"CUDA {torch.version.cuda} of this torch does not work with the {gpu}'s driver {nvidia_smi('driver_version')}"
    )
    return text, "update the driver, or install a torch for an older CUDA, https://pytorch.org"


def nvidia_smi(field: str) -> str:
    """Ask NVIDIA's own tool about the first GPU; an empty answer where there is none."""
    tool = shutil.which("nvidia-smi")
    if not tool:
        return ""
    command = [tool, f"--query-gpu={field}", "--format=csv,noheader"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.partition("\n")[0].strip() if done.returncode == 0 else ""


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
        runtime.seed_all(opt.seed, "item", 1, index)
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


def about_workers(opt, item: dict) -> Finding:
    """Compare --num_threads with cores and with the memory through which batches pass."""
    cores, shared = core_count(), Path("/dev/shm")
    text = f"{opt.num_threads} processes load images, on {cores} cores"
    if opt.num_threads and shared.is_dir():
        tensors = [value for value in item.values() if isinstance(value, torch.Tensor)]
        need = 3 * opt.num_threads * opt.batch_size * sum(value.nbytes for value in tensors)  # 2 wait, 1 is being made
        free = shutil.disk_usage(shared).free
        if need > free:
            text += f", and batches on their way need {size(need)} of shared memory, of which {size(free)} are free"
            return Finding("FAIL", "loading", text, "docker run --shm-size 8g, or --num_threads 0")
    if opt.num_threads > 4 * cores:
        return Finding("warn", "loading", text, f"--num_threads {cores}; more take turns, and memory")
    if opt.num_threads == 0 and opt.device.type == "cuda":
        text = "images are loaded between the steps, while the GPU waits"
        return Finding("warn", "loading", text, f"--num_threads {min(4, cores)}")
    return Finding("ok", "loading", text if opt.num_threads else "the main process loads images")


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
        text = f"a save in {folder} was cut off ({named(unfinished)})"
        yield Finding("warn", "checkpoint", text, "nothing; what belongs to a whole checkpoint is used")


def make_model(opt):
    """Return a model that is set up, and what that said; on the CPU where the meta device will not do."""
    for device in (torch.device("meta"), torch.device("cpu")):
        changed = argparse.Namespace(**{**vars(opt), "device": device, "gpu_ids": []})
        try:
            with quiet() as said:
                with device:
                    model = models.create_model(changed)
                model.checkpoints.complete_earlier = lambda: None  # would mend the folder, which is not ours to touch
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
        text = f"{there.contents()}, over which this run would write its own"
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
            need = preflight.step_memory(model, batch_of(case.sample, opt.batch_size), opt.isTrain)
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
        (total, free), where = preflight.main_memory(), "this machine"
    yield preflight.about_memory(need, total, free, where, opt.batch_size, opt.crop_size)


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
            yield preflight.disk_for(opt, model, case.data.count)
        return
    count = int(min(opt.num_test, case.data.count))
    areas = [value[0].numel() for value in case.sample.values() if isinstance(value, torch.Tensor)]
    need = count * len(model.visual_names) * 3 * max(areas, default=0)
    try:
        free = preflight.free_space(opt.results_dir)
    except UserError as error:
        yield Finding("FAIL", "disk", str(error), "--results_dir elsewhere")
        return
    text = f"{count} results need up to {size(need)}; {size(free)} free for {opt.results_dir}"
    yield Finding("ok", "disk", text) if need < free else Finding("warn", "disk", text, "--results_dir on another disk")


# ---- the picture ----


def about_picture(case: Case) -> Iterator[Finding]:
    """Draw some items as the network gets them."""
    opt, sheet = case.opt, draw_sheet(case)
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


def draw_sheet(case: Case, side: int = 192) -> Image.Image | None:
    """Lay items out in a grid: their images side by side, the network's input first, with files' names and sizes."""
    opt, cells, heads = case.opt, [], {}
    for item in list(case.samples.values())[:SHOWN]:
        keys = [k for k, v in item.items() if isinstance(v, torch.Tensor) and v.is_floating_point() and v.dim() == 3]
        if {"A", "B"} <= set(keys):
            keys = ["A", "B"] if opt.direction == "AtoB" else ["B", "A"]
        if not keys:
            return None
        heads.update({key: f"{key} {times(item[key].shape[:0:-1])}x{item[key].shape[0]}" for key in keys})
        picture = join([shrink(to_pictures(item[key])[0], side) for key in keys])
        paths = dict.fromkeys(str(item.get(f"{key}_paths", "")) for key in keys)
        names = " | ".join(label(case, path) for path in paths if path)
        cells.append((names[: max(12, picture.shape[1] // 6)], picture))
    if not cells:
        return None
    roles = ["input", "target"] if case.data.pairs else [""] * len(heads)
    title = " | ".join(f"{role} {head}".strip() for role, head in zip(roles, heads.values(), strict=False))
    columns = max(1, min(6, 1200 // max(picture.shape[1] for _, picture in cells)))
    grid = contact_sheet([cells[i : i + columns] for i in range(0, len(cells), columns)], side=1200)
    return with_title(grid, f"{title}    (--name {opt.name} --phase {opt.phase} --preprocess {opt.preprocess})")


def label(case: Case, path: str) -> str:
    """Name a file, and the size of its image as it is stored."""
    header = case.data.headers.get(path)
    return printable(Path(path).name) + (f" {times(header[:2])}" if header else "")


def shrink(picture: np.ndarray, side: int) -> Image.Image:
    """Make a picture (H, W, 3) `side` pixels high, if it is higher."""
    image = Image.fromarray(picture)
    width = max(1, round(image.width * side / image.height))
    return image.resize((width, side), Image.Resampling.BOX) if image.height > side else image


def join(pictures: list[Image.Image]) -> np.ndarray:
    """Put pictures side by side, on white."""
    whole = Image.new("RGB", (sum(p.width + 2 for p in pictures) - 2, max(p.height for p in pictures)), "white")
    x = 0
    for picture in pictures:
        whole.paste(picture, (x, 0))
        x += picture.width + 2
    return np.asarray(whole)


def with_title(sheet: Image.Image, title: str) -> Image.Image:
    """Write a line above a sheet."""
    font, text = ImageFont.load_default(), title.encode("ascii", "replace").decode()
    whole = Image.new("RGB", (max(sheet.width, int(font.getlength(text)) + 12), sheet.height + 22), "white")
    whole.paste(sheet, (0, 22))
    ImageDraw.Draw(whole).text((6, 6), text, fill="black", font=font)
    return whole


if __name__ == "__main__":
    with explained_errors():
        status = main(sys.argv[1:])
    sys.exit(status)
