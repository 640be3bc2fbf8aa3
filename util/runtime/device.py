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


def read_gpu_ids(text: str) -> list[int]:
    """Read the numbers of GPUs in `--gpu_ids`; negative ones mean the CPU. Raise UserError for others."""
    try:
        ids = [int(i) for i in text.split(",") if i.strip() and int(i) >= 0]
    except ValueError:
        raise UserError(f"--gpu_ids {printable(text)}: a GPU's number, or -1 for the CPU") from None
    count = torch.cuda.device_count()
    if ids and count and ids[0] >= count:
        raise UserError(f"--gpu_ids {text}: this machine has {count} GPU(s), numbered from 0")
    return ids


def device_of(gpu_ids: str | None) -> torch.device:
    """Return the device of a script's `--gpu_ids`: the first GPU of the list; -1: the CPU; None: whatever exists."""
    return choose_device(None if gpu_ids is None else read_gpu_ids(gpu_ids))
