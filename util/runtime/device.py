"""The device of a run, and the algorithms it may use."""

from __future__ import annotations

import os

import torch

from util.errors import UserError, printable
from util.runtime.processes import local_rank


def choose_device(gpu_ids: list[int] | None = None) -> torch.device:
    """Choose where to compute: torchrun's local GPU, the first of `gpu_ids`, Apple's GPU, or the CPU.

    `gpu_ids` empty means the CPU; None means whatever is there.
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
    """Let cuDNN try out its algorithms where image sizes repeat, or take only those that always give the same bits."""
    torch.backends.cudnn.benchmark = sizes_repeat and not deterministic
    if deterministic:
        torch.use_deterministic_algorithms(True)
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # read when cuBLAS starts


def device_of(gpu_ids: str | None) -> torch.device:
    """Return what a script's `--gpu_ids` names: the first GPU of a list, -1 the CPU, None whatever is there."""
    try:
        ids = None if gpu_ids is None else [int(i) for i in gpu_ids.split(",") if i.strip() and int(i) >= 0]
    except ValueError:
        raise UserError(f"--gpu_ids {printable(gpu_ids)}: a GPU's number, or -1 for the CPU") from None
    count = torch.cuda.device_count()
    if ids and count and ids[0] >= count:
        raise UserError(f"--gpu_ids {gpu_ids}: this machine has {count} GPU(s), numbered from 0")
    return choose_device(ids)
