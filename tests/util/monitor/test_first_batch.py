"""The first batch: items that teach nothing are reported."""

from __future__ import annotations

import torch

from util.monitor import first_batch


def test_blank_images_and_equal_pairs_of_the_first_batch_are_reported():
    A = torch.rand(3, 3, 8, 8) * 2 - 1
    B = torch.rand(3, 3, 8, 8) * 2 - 1
    A[1] = torch.tensor([0.1, 0.5, -1])[:, None, None]
    B[2] = A[2]
    batch = {"A": A, "B": B, "A_paths": ["x.png", "y\n.png", "z.png"], "B_paths": ["p", "q", "r"]}
    assert first_batch.find_useless_items(batch) == [
        "y\\n.png has a single colour (A): instance norm can't scale it",
        "z.png: A and B are the same image",
    ]
    assert first_batch.find_useless_items({"A": B, "text": ["x"], "numbers": torch.ones(3)}) == []
