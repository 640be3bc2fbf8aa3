"""Errors that a user reads as one message: no memory left, no room on the disk."""

from __future__ import annotations

import errno
import os

import pytest
import torch

from util.errors import explained_errors


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB."),
        RuntimeError("[enforce fail at alloc_cpu.cpp:127] err == 0. DefaultCPUAllocator: can't allocate memory"),
        RuntimeError("MPS backend out of memory (MPS allocated: 17 GB)"),
    ],
)
def test_out_of_memory_names_the_flags_that_help(error):
    with pytest.raises(SystemExit) as exit, explained_errors():
        raise error
    assert all(flag in str(exit.value) for flag in ("--batch_size", "--grad_accum", "--crop_size", "--netG", "--ngf"))


def test_other_runtime_errors_are_not_taken_for_it():
    with pytest.raises(RuntimeError, match="shape"), explained_errors():
        raise RuntimeError("shape mismatch")


def test_a_disk_error_that_names_no_file_is_one_message():
    with pytest.raises(SystemExit) as exit, explained_errors():
        raise OSError(errno.EFBIG, os.strerror(errno.EFBIG))
    assert str(exit.value).startswith("error: File too large")
    with pytest.raises(OSError, match="Bad file descriptor"), explained_errors():
        raise OSError(errno.EBADF, os.strerror(errno.EBADF))
