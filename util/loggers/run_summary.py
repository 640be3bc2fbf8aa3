"""Facts about a run for the head of a page: its command, the options typed, versions."""

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
    start = f"torchrun --nproc_per_node {count}" if count > 1 else "python"
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
