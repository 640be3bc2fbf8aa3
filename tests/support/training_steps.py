"""Models made from options, random batches, and training steps on them."""

from __future__ import annotations

import pytest
import torch

from models import create_model
from options.train_options import TrainOptions
from util.errors import UserError
from util.runtime import seeds


def make_model(words, folder):
    """Return a model set up for training by a command line's options."""
    opt = TrainOptions(f"{words} --checkpoints_dir {folder}").parse()
    model = create_model(opt)
    model.setup(opt)
    return model


def batch(count=1, seed=0):
    """Return random images A and B (count, 3, 32, 32)."""
    torch.manual_seed(seed)
    A, B = torch.rand(2, count, 3, 32, 32).to(torch.get_default_dtype()) * 2 - 1
    return {"A": A, "B": B, "A_paths": [f"a{i}.png" for i in range(count)], "B_paths": ["b.png"] * count}


def train(model, sizes, every=3):
    """Take a step on a batch of each size; the learning rate falls after `every` steps. Return the losses."""
    losses = []
    for number, size in enumerate(sizes):
        seeds.seed_all(1, "step", number)
        images = batch(size, number)
        for side, channels in (("A", model.opt.input_nc), ("B", model.opt.output_nc)):
            images[side] = images[side][:, :channels].contiguous()
        model.set_input(images)
        model.optimize_parameters()
        losses.append(model.get_current_losses())
        if number % every == every - 1:
            model.update_learning_rate()
    return losses


def assert_a_bad_batch_is_named_and_skipped(model):
    """Feed a captured model of batch 2 with a value that is not finite."""
    train(model, [2] * 5)
    before = [p.detach().clone() for p in model.netG.parameters()]
    bad = {**batch(2), "A_paths": ["fine.png", "bad.png"]}
    bad["A"][0, 0, 0, 0] = float("nan")
    for images in (bad, batch(2)):
        model.set_input(images)
        model.optimize_parameters()
    assert all(torch.equal(p, q) for p, q in zip(model.netG.parameters(), before, strict=True))
    with pytest.raises(UserError, match=r"'fine\.png', 'bad\.png'"):
        model.get_current_losses()
