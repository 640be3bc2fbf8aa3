"""Losses and gradients that are not finite stop a run before they reach the weights."""

from __future__ import annotations

import math

import pytest
import torch
from conftest import ROOT, make_aligned
from terminal import TINY, type_fast, weights
from training_steps import batch, make_model

from util.errors import UserError
from util.monitor.non_finite import NonFiniteGuard

NETS = f"{TINY} --netG resnet_6blocks --no_dropout"


@pytest.mark.parametrize(
    ("model_name", "value"), [("pix2pix", math.nan), ("cycle_gan", math.inf), ("template", -math.inf)]
)
def test_an_image_that_is_not_finite_stops_before_the_weights(tmp_path, value, model_name):
    model = make_model(f"--dataroot nowhere --model {model_name} {NETS} --norm instance --name n", tmp_path)
    old = {name: [p.detach().clone() for p in net.parameters()] for name, net in model.networks().items()}
    bad = batch(2)
    bad["A"][1, 0, 3, 5] = value
    model.set_input(bad)
    with pytest.raises(UserError, match=r"not finite.*'a0\.png', 'a1\.png'"):
        model.optimize_parameters()
    for name, net in model.networks().items():
        assert all(torch.equal(p, q) for p, q in zip(net.parameters(), old[name], strict=True))


def test_a_gradient_that_is_not_finite_stops_though_the_losses_are_finite(tmp_path):
    model = make_model(f"--dataroot nowhere --model template {NETS} --name g", tmp_path)
    model.netG.model[1].weight.register_hook(lambda grad: grad * math.inf)
    model.set_input(batch())
    with pytest.raises(UserError, match="a gradient is not finite"):
        model.optimize_parameters()
    with pytest.raises(UserError, match="not finite"):  # the step of a model that makes it itself
        model.optimizer.step()


def test_without_waiting_for_the_device_bad_steps_are_skipped_until_the_next_check(tmp_path):
    """The path of CUDA, on the CPU's fused Adam: from the first bad step on no weight moves; `check` names it."""
    model = make_model(f"--dataroot nowhere --model template {NETS} --name skip", tmp_path)
    guard = NonFiniteGuard(model)
    guard._before_step = lambda optimizer: None
    good, bad = torch.tensor(True), torch.tensor(False)

    def step(finite):
        model.set_input(batch(seed=guard.steps))
        guard.steps += 1
        guard.images[guard.steps] = [f"{guard.steps}.png"]
        with model.update(model.optimizer, model.netG):
            model.forward()
            model.backward()
            guard.skip_if_bad(model.optimizer, finite)
        return next(model.netG.parameters()).detach().clone()

    first, second, third, fourth = (step(finite) for finite in (good, good, bad, good))
    assert not torch.equal(first, second)
    assert torch.equal(second, third)
    assert torch.equal(third, fourth)
    assert model.optimizer.state[next(model.netG.parameters())]["step"] == 2
    with pytest.raises(UserError, match=r"'3\.png'"):
        guard.check()


def test_a_run_that_is_not_finite_keeps_the_last_checkpoint(tmp_path):
    data = make_aligned(tmp_path / "pairs")
    line = (
        f"train.py --dataroot {data} --model pix2pix {NETS} --n_epochs 1 --n_epochs_decay 0 --no_html "
        f"--save_latest_freq 1 --checkpoints_dir {tmp_path} --lr 1e30 --name boom"
    )
    done = type_fast(line, ROOT)
    assert done.returncode == 1, done.stderr
    assert "not finite" in done.stderr
    assert ".png" in done.stderr
    assert "Traceback" not in done.stderr
    assert all(value.isfinite().all() for value in weights(tmp_path / "boom").values())
