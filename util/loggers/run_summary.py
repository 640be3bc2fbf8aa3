"""Facts about a run for the head of a page: its command, options and versions; and the lines at its end."""

from __future__ import annotations

import platform
import shlex
import sys
import time
from pathlib import Path

import torch

from util.loggers.base import plain_options
from util.runtime import processes
from util.runtime.run_facts import run_facts

SHOWN = ("name", "model", "gpu_ids")  # shown in other places


def command(opt) -> str:
    """Return the command line, as typed if that is known."""
    typed = [str(word) for word in run_facts(opt).words]
    program = Path(sys.argv[0]).name if typed == sys.argv[1:] else ""
    if not program.endswith(".py"):  # a notebook
        program = "train.py" if getattr(opt, "isTrain", True) else "test.py"
    count = processes.world_size()
    start = f"torchrun --standalone --nproc_per_node {count}" if count > 1 else "python"
    return f"{start} {program} {shlex.join(typed)}".strip()


def given(opt) -> dict[str, object]:
    """Return the options of the command line by name."""
    names = run_facts(opt).typed - {*SHOWN}
    return {name: value for name, value in plain_options(opt).items() if name in names}


def device_name(opt) -> str:
    """Name the GPU, or count the CPU's threads."""
    device = getattr(opt, "device", None)
    if device is None:
        return ""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    threads = torch.get_num_threads()
    return f"CPU, {threads} thread{'s' * (threads > 1)}" if device.type == "cpu" else device.type


def versions() -> dict[str, str]:
    """Return the versions of Python and PyTorch."""
    return {"Python": platform.python_version(), "PyTorch": torch.__version__}


def run_header(opt) -> dict[str, object]:
    """Describe a run by plain values: name, model, command, options, device, versions, and the current `time`."""
    return {
        "name": opt.name,
        "model": getattr(opt, "model", ""),
        "paired": run_facts(opt).paired,
        "command": command(opt),
        "options": given(opt),
        "device": device_name(opt),
        "versions": versions(),
        "time": round(time.time(), 1),
    }


def closing_lines(opt, images: int, seconds: float, best, page: Path | None) -> list[str]:
    """Describe a finished training: time, speed, the best epoch if one was chosen, the page, and the next command.

    `images`: those trained on in `seconds`; `best`: util.checkpoint.progress.Best or None.
    """
    speed = f"{duration(seconds)}, {images / max(seconds, 1e-9):.1f} images/s"
    lines = [f"trained on {images} images in {speed}: {Path(opt.checkpoints_dir, opt.name)}"]
    if best:
        lines.append(f"best epoch: {best.epoch}, {best.metric} {best.value:.4g}")
    if page:
        lines.append(f"page: {page}")
    return [*lines, f"next: {test_command(opt, 'best' if best else '')}"]


def test_command(opt, epoch: str) -> str:
    """Return the command that translates the split `test`, or the first other split that is there."""
    words = ["python", "test.py", "--dataroot", opt.dataroot, "--name", opt.name]
    words += ["--checkpoints_dir", opt.checkpoints_dir] * (opt.checkpoints_dir != "./checkpoints")
    words += ["--epoch", epoch] * bool(epoch)
    root = Path(opt.dataroot)
    for phase in ("test", "val", opt.phase):
        if (root / phase).is_dir() or ((root / f"{phase}A").is_dir() and (root / f"{phase}B").is_dir()):
            words += ["--phase", phase] * (phase != "test")
            break
    return shlex.join([*words, *["--gpu_ids", "-1"] * (opt.device.type == "cpu" and "gpu_ids" in run_facts(opt).typed)])


def duration(seconds: float) -> str:
    """Write a time: `4.2 s`, `3 min 20 s`, `26 h 5 min`."""
    if seconds < 100:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes < 100 else f"{minutes // 60} h {minutes % 60} min"
