"""Norms in reduced precision and other layouts, reflected borders, and stages that are computed again."""

from __future__ import annotations

import copy

import pytest
import torch
from terminal import equal
from torch import nn

from models import layers, networks
from util.runtime import seeds


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("norm", ["instance", "batch"])
def test_norms_take_their_statistics_in_float32(norm, layout):
    """A mean far from 0 and a small deviation: sums of bfloat16 values would lose it."""
    layer = networks.get_norm_layer(norm)(3)
    x = (torch.randn(2, 3, 64, 64) + 8).bfloat16().contiguous(memory_format=layout)
    with torch.autocast("cpu", torch.bfloat16):
        out = layer(x)
    dims = (2, 3) if norm == "instance" else (0, 2, 3)
    wide = x.double()
    var, mean = torch.var_mean(wide, dims, correction=0, keepdim=True)
    assert out.dtype == torch.bfloat16
    assert (out - (wide - mean) / (var + 1e-5).sqrt()).abs().max() < 0.02  # 4 rounds to 1/64


def test_instance_norm_of_channels_last_images_is_the_usual_one_and_keeps_the_layout():
    x = torch.randn(3, 5, 8, 6, dtype=torch.float64).contiguous(memory_format=torch.channels_last).requires_grad_()
    y = x.detach().contiguous().requires_grad_()
    weight = torch.randn(3, 5, 8, 6, dtype=torch.float64)
    ours, usual = layers.InstanceNorm2d(5)(x), nn.InstanceNorm2d(5)(y)
    (ours * weight).sum().backward()
    (usual * weight).sum().backward()
    assert ours.is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(ours, usual, rtol=0, atol=1e-12, check_stride=False)
    torch.testing.assert_close(x.grad, y.grad, rtol=0, atol=1e-12, check_stride=False)


def test_syncbatch_takes_bfloat16_between_processes(monkeypatch):
    """With the sums of a second process that has the same images."""
    monkeypatch.setattr(layers.dist, "is_initialized", lambda: True)
    monkeypatch.setattr(layers.dist, "get_world_size", lambda: 2)
    monkeypatch.setattr(layers.dist, "all_reduce", lambda x: x.mul_(2))
    x = (torch.randn(2, 3, 16, 16) + 8).bfloat16()
    out = layers.SyncBatchNorm(3)(x)
    assert out.dtype == torch.bfloat16
    torch.testing.assert_close(out.float(), nn.BatchNorm2d(3)(x.float()), rtol=0, atol=0.02)


def test_reflection_by_slices_is_reflection():
    x = torch.randn(2, 3, 7, 5, dtype=torch.float64, requires_grad=True)
    for pad in (1, 3):
        expected, got = torch.nn.ReflectionPad2d(pad)(x), layers.reflect(x, pad)
        assert torch.equal(expected, got)
        weight = torch.randn_like(got)
        gradients = [torch.autograd.grad((out * weight).sum(), x)[0] for out in (expected, got)]
        torch.testing.assert_close(*gradients)


@pytest.mark.parametrize(
    ("netG", "norm"), [("resnet_6blocks", "instance"), ("unet_32", "batch"), ("encdec_128", "instance")]
)
def test_recomputed_networks_compute_the_same_bits_in_less_memory(netG, norm):
    seeds.seed_all(5)
    plain = networks.define_G(3, 3, 4, netG, norm, use_dropout=True)
    saving = copy.deepcopy(plain)
    layers.recompute_stages(saving, True)
    x = torch.rand(2, 3, 128, 128)
    kept = []
    for net in (plain, saving):
        seeds.seed_all(6)
        image, sizes = x.clone().requires_grad_(), {}
        with torch.autograd.graph.saved_tensors_hooks(
            lambda t, s=sizes: (s.update({t.data_ptr(): t.nbytes}), t)[1], lambda t: t
        ):
            out = net(image)
        out.square().mean().backward()
        net.image_grad = image.grad
        kept.append(sum(sizes.values()))
    assert torch.equal(plain.image_grad, saving.image_grad)
    for p, q in zip(plain.parameters(), saving.parameters(), strict=True):
        assert torch.equal(p.grad, q.grad)
    assert equal(plain.state_dict(), saving.state_dict())  # running statistics have seen the batch once
    assert kept[1] < 0.7 * kept[0]
