"""The device of a run, and the algorithms it may use."""

from __future__ import annotations

import os

import torch

from util.errors import UserError, printable
from util.runtime.processes import local_rank


def choose_device(gpu_ids: list[int] | None = None) -> torch.device:
    """Choose where to compute: torchrun's local GPU, the first of `gpu_ids`, Apple's GPU, or the CPU.

    `gpu_ids` empty means the CPU, None the best device of the machine.
    """
    if gpu_ids is not None and not gpu_ids:
        return torch.device("cpu")
    if torch.cuda.is_available():
        if "LOCAL_RANK" in os.environ:
            return torch.device("cuda", local_rank())
        return torch.device("cuda", gpu_ids[0] if gpu_ids else 0)
    if torch.backends.mps.is_available():
        return torch.device("mps")
    return torch.device("cpu")


def choose_algorithms(sizes_repeat: bool, deterministic: bool) -> None:
    """Let cuDNN benchmark its algorithms when image sizes repeat, or use only algorithms that give equal bits."""
    torch.backends.cudnn.benchmark = sizes_repeat and not deterministic
    if deterministic:
        torch.use_deterministic_algorithms(True)
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # cuBLAS reads it when it starts


def device_of(gpu_ids: str | None) -> torch.device:
    """Return the device for a script's `--gpu_ids`: a list's first GPU, -1 the CPU, None the best of the machine."""
    try:
        ids = None if gpu_ids is None else [int(i) for i in gpu_ids.split(",") if i.strip() and int(i) >= 0]
    except ValueError:
        raise UserError(f"--gpu_ids {printable(gpu_ids)}: a GPU's number, or -1 for the CPU") from None
    count = torch.cuda.device_count()
    if ids and count and ids[0] >= count:
        raise UserError(f"--gpu_ids {gpu_ids}: this machine has {count} GPU(s), numbered from 0")
    return choose_device(ids)
