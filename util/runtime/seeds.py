"""Seeds: every random draw follows from a key."""

from __future__ import annotations

import hashlib
import random
import secrets

import numpy as np
import torch


def draw_seed() -> int:
    """Draw a seed from the operating system, for a run without `--seed`."""
    return secrets.randbelow(2**31)


def seed_all(*key: int | str) -> None:
    """Seed Python, NumPy and torch by a key such as (seed, epoch, index): equal keys give equal draws anywhere."""
    number = int.from_bytes(hashlib.blake2b(repr(key).encode(), digest_size=8).digest(), "little")
    random.seed(number)
    np.random.seed(number % 2**32)
    if torch.cuda.is_initialized() or torch.backends.mps.is_available():
        torch.manual_seed(number % 2**63)
    else:  # manual_seed would queue the seed for CUDA's later start, with a traceback: a millisecond
        torch.default_generator.manual_seed(number % 2**63)
