"""Networks, losses and steps against the reference's figures (tests/golden), and for any size and channels."""

from __future__ import annotations

import itertools
import math
import random
from argparse import Namespace

import pytest
import torch
from golden.networks import COUNTS, DISCRIMINATOR_OUTPUTS, GENERATOR_OUTPUTS, STEPS
from state_dicts import golden_state_dicts

from models import networks
from models.cycle_gan_model import CycleGANModel
from models.pix2pix_model import Pix2PixModel
from util.errors import UserError
from util.util import tensor2im


def fill(net):
    """Fill a network by the golden values' rule."""
    j = 0
    for key, value in net.state_dict().items():
        if value.is_floating_point():
            i = torch.arange(value.numel(), dtype=torch.float64).view(value.shape)
            scale = value.dim() == 1 and key.rsplit(".", 1)[-1] in ("weight", "running_var")
            value.copy_(0.05 * torch.sin(1 + j + 0.37 * i) + scale)
            j += 1
    return net


def wave(*shape, function=torch.sin, step=0.01):
    """Make an image by the golden values' rule for inputs."""
    return function(step * torch.arange(math.prod(shape), dtype=torch.float64)).view(shape)


def figures(out):
    """Sum an output up as the golden values do: mean, mean abs, first, element n // 3, last."""
    flat = out.detach().flatten()
    return [x.item() for x in (flat.mean(), flat.abs().mean(), flat[0], flat[len(flat) // 3], flat[-1])]


def shape_of(name, nc, layers=3, norm="batch", dropout=False):
    """Make a full-size generator or discriminator by its name in the tables, without memory for its weights."""
    norm_layer = networks.get_norm_layer(norm)
    with torch.device("meta"):  # not by define_G: drawing weights there imports torch._refs, for seconds
        if name in networks.GENERATORS:
            return networks.GENERATORS[name](nc, 3, ngf=64, norm_layer=norm_layer, use_dropout=dropout)
        return networks.DISCRIMINATORS[name](nc, 64, layers, norm_layer)


@pytest.mark.parametrize(("netG", "norm", "dropout", "nc_in", "nc_out", "shape", "expected"), GENERATOR_OUTPUTS)
def test_generators_compute_what_the_reference_computes(netG, norm, dropout, nc_in, nc_out, shape, expected):
    net = fill(networks.define_G(nc_in, nc_out, 8, netG, norm, dropout).double()).eval()
    out = net(wave(*shape))
    assert out.shape == (shape[0], nc_out, *shape[2:])
    assert figures(out) == pytest.approx(expected, rel=1e-7)


@pytest.mark.parametrize(("netD", "layers", "norm", "nc", "shape", "out_shape", "expected"), DISCRIMINATOR_OUTPUTS)
def test_discriminators_compute_what_the_reference_computes(netD, layers, norm, nc, shape, out_shape, expected):
    out = fill(networks.define_D(nc, 8, netD, layers, norm).double()).eval()(wave(*shape))
    assert out.shape == out_shape
    assert figures(out) == pytest.approx(expected, rel=1e-7)


@pytest.mark.parametrize(("name", "nc", "layers", "batch", "instance", "none"), COUNTS)
def test_the_numbers_of_parameters_and_keys_are_the_reference_s(name, nc, layers, batch, instance, none):
    for norm, (parameters, keys) in (("batch", batch), ("instance", instance), ("none", none)):
        net = shape_of(name, nc, layers, norm)
        assert sum(p.numel() for p in net.parameters()) == parameters
        assert keys in (None, len(net.state_dict()))


@pytest.mark.parametrize(("title", "entries"), golden_state_dicts())
def test_state_dicts_have_the_reference_s_keys_and_shapes_in_its_order(title, entries):
    norm = "instance" if "instance" in title else "batch"
    if title.startswith("D "):
        _, name, rest = title.replace(",", "").split(" ", 2)
        layers = int(rest.split()[0]) if name == "n_layers" else 3
        net = shape_of(name, int(rest.split(" channels")[0].split()[-1]), layers, norm)
    else:
        dropout = "no dropout" not in title and "dropout" in title
        net = shape_of(title.split(",")[0], 3, norm=norm, dropout=dropout)
    assert [(key, tuple(value.shape)) for key, value in net.state_dict().items()] == entries


def options(tmp_path, **changes):
    """Make the namespace that a model reads, with the golden values' settings."""
    base = {
        "isTrain": True, "gpu_ids": [], "device": torch.device("cpu"), "checkpoints_dir": str(tmp_path), "name": "x",
        "preprocess": "none", "input_nc": 3, "output_nc": 3, "ngf": 8, "ndf": 8, "netG": "resnet_6blocks",
        "netD": "basic", "n_layers_D": 3, "norm": "instance", "no_dropout": True, "init_type": "normal",
        "init_gain": 0.02, "lr": 2e-4, "beta1": 0.5, "direction": "AtoB", "gan_mode": "lsgan", "pool_size": 50,
        "lambda_A": 10.0, "lambda_B": 10.0, "lambda_identity": 0.5, "lambda_L1": 100.0, "lambda_GAN": 1.0,
        "lambda_gp": 10.0, "unconditional_D": False,
    }  # fmt: skip
    return Namespace(**{**base, **changes})


def double_model(model_class, opt):
    """Make a model in float64, its networks filled by the rule."""
    model = model_class(opt)
    for net in model.networks().values():
        fill(net.double())
    return model


@pytest.mark.parametrize(("name", "changes", "expected"), STEPS)
def test_training_steps_give_the_reference_s_losses(tmp_path, name, changes, expected):
    changes = dict(changes)
    A, B = wave(1, 3, 32, 32), wave(1, 3, 32, 32, function=torch.cos, step=0.013)
    if changes.pop("batch", 1) == 2:
        A, B = torch.cat([A, B / 2]), torch.cat([B, A / 2])
    model_class = {"cycle_gan": CycleGANModel, "pix2pix": Pix2PixModel}[name]
    model = double_model(model_class, options(tmp_path, **changes))
    random.seed(0)
    for losses in expected:
        model.set_input({"A": A, "B": B, "A_paths": ["a"], "B_paths": ["b"]})
        model.optimize_parameters()
        assert list(model.get_current_losses().values()) == pytest.approx(losses, rel=1e-4, abs=1e-6)


# ---- beyond the reference ----


@pytest.mark.parametrize(
    ("netG", "norm"), zip(networks.GENERATORS, itertools.cycle(["batch", "instance", "none"]), strict=False)
)
def test_every_generator_maps_any_size_to_the_same_size_and_learns(netG, norm):
    net = networks.define_G(3, 2, 2, netG, norm)
    for size in ((33, 70), (1, 5)):
        out = net(torch.randn(2, 3, *size))
        assert out.shape == (2, 2, *size)
        assert out.abs().max() <= 1
    out.square().mean().backward()
    assert all(p.grad is not None for p in net.parameters())


@pytest.mark.parametrize("netD", networks.DISCRIMINATORS)
def test_every_discriminator_judges_images_of_any_size(netD):
    net = networks.define_D(3, 4, netD, 2, "instance")
    for size in ((5, 40), (64, 65)):
        assert net(torch.randn(2, 3, *size)).shape[:2] == (2, 1)


@pytest.mark.parametrize(("n_layers", "field"), [(0, 1), (1, 16), (2, 34), (3, 70), (4, 142), (5, 286)])
def test_a_logit_sees_the_documented_patch(n_layers, field):
    net = networks.define_D(1, 1, "n_layers" if n_layers else "pixel", n_layers, "none")
    for p in net.parameters():
        p.data.fill_(0.1)  # nothing cancels out
    x = torch.zeros(1, 1, 640, 640, requires_grad=True)
    out = net(x)
    out[0, 0, out.shape[2] // 2, out.shape[3] // 2].backward()
    seen = x.grad[0, 0].abs().sum(0).nonzero()
    assert seen.max() - seen.min() + 1 == field


@pytest.mark.parametrize("netG", ["unet_64", "encdec_64"])
def test_an_encoder_decoder_passes_nothing_around_its_bottleneck(netG):
    net = networks.define_G(3, 3, 2, netG, "instance").eval()
    bottleneck = [module for module in net.modules() if isinstance(module, torch.nn.Conv2d)][-1]
    bottleneck.weight.data.zero_()
    one, other = net(torch.rand(2, 3, 64, 64) * 2 - 1)
    assert torch.equal(one, other) == (netG == "encdec_64")


@pytest.mark.parametrize("init_type", networks.INITS)
def test_every_initialisation_has_its_spread(init_type):
    torch.manual_seed(0)
    net = networks.define_D(64, 64, "n_layers", 3, "batch", init_type, 0.02)
    weight = net.model[5].weight  # 256 x 128 x 4 x 4
    fan_in, fan_out = 128 * 16, 256 * 16
    expected = {
        "normal": 0.02,
        "xavier": 0.02 * math.sqrt(2 / (fan_in + fan_out)),
        "kaiming": math.sqrt(2 / fan_in),
        "orthogonal": 0.02 / math.sqrt(fan_in),
    }[init_type]
    assert weight.std().item() == pytest.approx(expected, rel=0.02)
    assert net.model[0].bias.abs().max() == 0
    norm = net.model[6]
    assert norm.weight.mean().item() == pytest.approx(1, abs=0.01)
    assert norm.weight.std().item() == pytest.approx(0.02, rel=0.2)


def test_sync_batch_norm_keeps_its_ones_and_zeros_at_initialisation():
    net = networks.define_D(3, 8, "basic", norm="syncbatch")
    assert type(net.model[3]).__name__ == "SyncBatchNorm"
    assert net.model[2].bias is None
    assert torch.equal(net.model[3].weight, torch.ones(16))
    for name in ("sync_batch", "sync_instance"):  # in the reference's documentation
        assert networks.get_norm_layer(name)(4).num_features == 4


@pytest.mark.parametrize(
    "call",
    [
        lambda: networks.define_G(3, 3, 8, "unet256"),
        lambda: networks.define_D(3, 8, "basics"),
        lambda: networks.define_G(3, 3, 8, "unet_256", norm="bach"),
        lambda: networks.define_G(3, 3, 8, "unet_128", init_type="normale"),
        lambda: networks.GANLoss("lsgam"),
    ],
)
def test_an_unknown_name_lists_the_allowed_ones_and_the_nearest(call):
    with pytest.raises(UserError, match=r"allowed: .*Did you mean '(unet_256|basic|batch|normal|lsgan)'"):
        call()


def test_the_gradient_penalty_has_the_reference_s_values():
    net = fill(networks.define_D(3, 8, "basic", norm="instance").double())
    real = wave(2, 3, 32, 32)
    penalty, gradients = networks.cal_gradient_penalty(net, real, -0.5 * real, "cpu", type="real")
    assert penalty.item() == pytest.approx(2.82015828, rel=1e-8)
    assert gradients.shape == (2, 3072)
    penalty, _ = networks.cal_gradient_penalty(net, real, -0.5 * real, "cpu", "fake", constant=0.5, lambda_gp=2)
    assert penalty.item() == pytest.approx(1.36632194, rel=1e-8)
    assert networks.cal_gradient_penalty(net, real, real, "cpu", lambda_gp=0) == (0.0, None)


def after_one_step(model_class, opt):
    """Return a model after a step on two waves, and whether that changed D."""
    model = double_model(model_class, opt)
    weight = next(model.networks()["D" if model_class is Pix2PixModel else "D_A"].parameters())
    before = weight.clone()
    torch.manual_seed(0)
    A, B = wave(1, 3, 32, 32), wave(1, 3, 32, 32, function=torch.cos, step=0.013)
    model.set_input({"A": A, "B": B, "A_paths": ["a"], "B_paths": ["b"]})
    model.optimize_parameters()
    return model, not torch.equal(weight, before)


@pytest.mark.parametrize("model_class", [Pix2PixModel, CycleGANModel])
def test_wgangp_penalises_the_gradient_of_d_between_real_and_fake(tmp_path, model_class):
    models = [
        after_one_step(model_class, options(tmp_path, gan_mode="wgangp", lambda_gp=weight))[0] for weight in (0.0, 10.0)
    ]
    without, penalised = (m.loss_D if model_class is Pix2PixModel else m.loss_D_A for m in models)
    # The critic's gradient starts far below 1, so the penalty is nearly 10, and half of it is in the loss.
    assert 2 < (penalised - without).item() < 5


def test_pictures_are_clamped_and_truncated():
    values = torch.tensor([-1, -0.999, 0, 0.5, 1, 1.01, -1.01]).view(1, 1, 1, 7)
    image = tensor2im(values)
    assert image.shape == (1, 7, 3)
    assert image[0, :, 1].tolist() == [0, 0, 127, 191, 255, 255, 0]
    assert tensor2im("x") == "x"


@pytest.mark.parametrize(
    ("model_class", "off", "active"),
    [
        (Pix2PixModel, "", {"G_GAN", "G_L1"}),
        (Pix2PixModel, "GAN", {"G_L1"}),
        (Pix2PixModel, "L1", {"G_GAN"}),
        (CycleGANModel, "identity", {"G_A", "G_B", "cycle_A", "cycle_B"}),
        (CycleGANModel, "identity GAN", {"cycle_A", "cycle_B"}),
        (CycleGANModel, "identity B", {"G_A", "G_B", "cycle_A"}),
        (CycleGANModel, "GAN A B", set()),
    ],
)
def test_the_losses_of_the_generators_can_be_turned_off_one_by_one(tmp_path, model_class, off, active):
    opt = options(tmp_path, **{f"lambda_{name}": 0.0 for name in off.split()})
    model, D_moved = after_one_step(model_class, opt)
    losses = model.get_current_losses()
    assert {name for name in losses if name[0] != "D" and losses[name] != 0} == active
    generators = [net for name, net in model.networks().items() if name[0] == "G"]
    moved = any(p.grad.abs().max() > 0 for net in generators for p in net.parameters())
    assert (moved, D_moved) == (bool(active), True)


def test_a_discriminator_without_condition_judges_the_output_alone(tmp_path):
    model, D_moved = after_one_step(Pix2PixModel, options(tmp_path, unconditional_D=True))
    assert (model.netD.model[0].weight.shape[1], D_moved) == (3, True)


def test_the_weight_of_cyclegan_s_gan_loss_scales_it_and_is_1_where_a_subclass_has_none(tmp_path):
    found = {}
    for weight in (1.0, 0.25, None):
        opt = options(tmp_path, lambda_GAN=weight)
        if weight is None:
            del opt.lambda_GAN
        found[weight] = after_one_step(CycleGANModel, opt)[0].loss_G_A.item()
    assert found == {1.0: found[1.0], 0.25: found[1.0] / 4, None: found[1.0]}
