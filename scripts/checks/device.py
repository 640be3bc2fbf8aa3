"""Checks of the machine: the GPU, cores and shared memory."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import torch

from scripts.checks.report import Finding
from util.errors import format_bytes
from util.runtime.machine import core_count

NO_GPU = "--gpu_ids -1 if that is meant; the papers' sizes take days then"


def check_device(opt, asked: str) -> Iterator[Finding]:
    """Report the device of the run, and compute something there; `asked` is the value of --gpu_ids."""
    text = f"{core_count()} CPU cores"
    if opt.device.type == "cuda":
        yield check_gpu(opt.device)
    elif opt.device.type == "mps":
        yield Finding("ok", "device", f"Apple's GPU (mps), {text}")
    elif asked.strip().startswith("-"):
        yield Finding("ok", "device", f"{text}; --gpu_ids {asked} asks for no GPU")
    else:
        reason, fix = why_no_gpu()
        yield Finding("warn", "device", f"{text} and no GPU, as {reason}", fix)


def check_gpu(device: torch.device) -> Finding:
    """Report a GPU, and compute something on it."""
    it = torch.cuda.get_device_properties(device)
    text = f"GPU {device.index}, {it.name}, CUDA {torch.version.cuda}, driver {(nvidia_smi('driver_version') or '?')}"
    try:
        torch.ones(2, device=device).sum().item()
        return Finding("ok", "device", text)
    except RuntimeError as error:
        reason = str(error).splitlines()[0]
    archs = " ".join(torch.cuda.get_arch_list())
    text += f" can't compute: {reason} (it is sm_{it.major}{it.minor}; torch has {archs})"
    return Finding("FAIL", "device", text, "install a torch built for it, https://pytorch.org")


def why_no_gpu() -> tuple[str, str]:
    """Return why torch finds no CUDA device, and how to fix that."""
    gpu, hidden = nvidia_smi("name"), os.environ.get("CUDA_VISIBLE_DEVICES")
    if not gpu:
        return "no NVIDIA driver answers", NO_GPU
    if torch.version.cuda is None:
        return f"this torch was built without CUDA, although there is a {gpu}", "see https://pytorch.org"
    if hidden is not None:
        return f"CUDA_VISIBLE_DEVICES={hidden} hides the {gpu}", "unset CUDA_VISIBLE_DEVICES"
    driver = f"the {gpu}'s driver {nvidia_smi('driver_version')}"
    text = f"CUDA {torch.version.cuda} of this torch does not work with {driver}"
    return text, "update the driver, or install a torch for an older CUDA, https://pytorch.org"


def nvidia_smi(field: str) -> str:
    """Return a fact about the first GPU from nvidia-smi; empty if there is none."""
    command = ["nvidia-smi", f"--query-gpu={field}", "--format=csv,noheader"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.partition("\n")[0].strip() if done.returncode == 0 else ""


def check_workers(opt, item: dict) -> Finding:
    """Compare --num_threads with the cores, and with the shared memory that batches need."""
    cores, shared = core_count(), Path("/dev/shm")
    text = f"{opt.num_threads} workers load images, on {cores} cores"
    if opt.num_threads and shared.is_dir():
        tensors = [value for value in item.values() if isinstance(value, torch.Tensor)]
        need = 3 * opt.num_threads * opt.batch_size * sum(value.nbytes for value in tensors)  # 2 wait, 1 is being made
        free = shutil.disk_usage(shared).free
        if need > free:
            text += f", and waiting batches need {format_bytes(need)} of shared memory; {format_bytes(free)} are free"
            return Finding("FAIL", "loading", text, "docker run --shm-size 8g, or --num_threads 0")
    if opt.num_threads > 4 * cores:
        return Finding("warn", "loading", text, f"--num_threads {cores}; more only take turns and memory")
    if opt.num_threads == 0 and opt.device.type == "cuda":
        text = "images are loaded between the steps, while the GPU waits"
        return Finding("warn", "loading", text, f"--num_threads {min(4, cores)}")
    return Finding("ok", "loading", text if opt.num_threads else "the main process loads images")
