"""Several batches in one pass: the same training as in separate passes, for networks that allow it."""

from __future__ import annotations

import itertools
from argparse import Namespace

import pytest
import torch
from torch import nn
from training_steps import make_model, train

from models import networks, shared_passes
from models.cycle_gan_model import CycleGANModel
from util.speed import plan
from util.speed.acceleration import accelerate

CYCLE_GAN = "--dataroot nowhere --ngf 4 --ndf 4 --load_size 32 --crop_size 32 --gpu_ids -1 --seed 3 --model cycle_gan"


@pytest.mark.usefixtures("in_float64")
@pytest.mark.parametrize(
    ("words", "gan_mode", "passes"),
    [("", "lsgan", 3), ("--norm none", "wgangp", 3), ("--lambda_identity 0", "lsgan", 4)],
)
def test_shared_passes_train_as_separate_ones_do(words, gan_mode, passes, tmp_path, monkeypatch):
    words = f"{CYCLE_GAN} --netG resnet_6blocks --pool_size 2 --gan_mode {gan_mode} {words}"
    shared, apart = (make_model(f"{words} --name {name}", tmp_path) for name in ("shared", "apart"))
    calls = count_calls(shared)
    losses = train(shared, [2] * 2)
    assert calls["G_A"] + calls["G_B"] == 2 * passes
    monkeypatch.setattr(shared_passes, "can_share", lambda net, *batches: False)
    calls = count_calls(apart)
    for mine, theirs in zip(losses, train(apart, [2] * 2), strict=True):
        assert mine == pytest.approx(theirs, rel=1e-6)
    assert calls["G_A"] + calls["G_B"] == 2 * (4 if "identity" in words else 6)
    for name, net in shared.networks().items():
        for p, q in zip(net.parameters(), apart.networks()[name].parameters(), strict=True):
            assert (p - q).abs().max() <= (1e-6 if gan_mode == "wgangp" else 1e-9)


def count_calls(model):
    calls = dict.fromkeys(model.networks(), 0)
    for name, net in model.networks().items():
        net.register_forward_hook(lambda *_, name=name: calls.update({name: calls[name] + 1}))
    return calls


@pytest.mark.parametrize("netD", ["basic", "pixel"])
def test_only_networks_that_treat_images_one_by_one_share_passes(netD):
    A, B = torch.rand(2, 2, 3, 32, 32)
    for norm, dropout in itertools.product(("instance", "batch", "none"), (False, True)):
        G = networks.define_G(3, 3, 4, "resnet_6blocks", norm, dropout)
        assert shared_passes.can_share(G, A, B) == (norm != "batch" and not dropout)
        assert shared_passes.can_share(G.eval(), A, B)
        D = networks.define_D(3, 4, netD, norm=norm)
        assert shared_passes.can_share(D, A, B) == (norm != "batch")
        assert not shared_passes.can_share(D, A, torch.rand(2, 3, 32, 40))
        for mine, alone in zip(shared_passes.run(G, A, B), (G(A), G(B)), strict=True):
            torch.testing.assert_close(mine, alone, rtol=0, atol=1e-5)
    assert not shared_passes.can_share(nn.Sequential(nn.Conv2d(3, 3, 3), nn.GroupNorm(1, 3)), A, B)


def test_networks_with_foreign_hooks_share_no_passes_and_fast_ones_do():
    net = networks.define_D(3, 2, "basic", norm="instance")
    A, B = torch.rand(2, 1, 3, 32, 32)
    accelerate(net, torch.device("cpu"), plan.Speed(torch.bfloat16))
    assert shared_passes.can_share(net, A, B)
    other = nn.utils.spectral_norm(nn.Conv2d(3, 3, 3))  # changes with every pass
    assert not shared_passes.can_share(other, A, B)


@pytest.mark.parametrize("name", ["forward", "backward_G"])
def test_a_subclass_that_overrides_a_method_makes_passes_of_its_own(name):
    method = getattr(CycleGANModel, name)
    foreign = type("ForeignModel", (CycleGANModel,), {name: lambda self: method(self)})
    model = object.__new__(foreign)
    model.opt = Namespace(lambda_identity=0.5)
    assert not model.can_share_passes()
