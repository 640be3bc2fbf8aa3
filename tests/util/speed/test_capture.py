"""Recorded steps compute what steps computed operation by operation do. The recorder stands in for a CUDA graph."""

from __future__ import annotations

import pytest
import torch
from recorder import Recorder, tensors_in
from training_steps import assert_a_bad_batch_is_named_and_skipped, make_model, train

from util.errors import UserError
from util.image_pool import ImagePool
from util.monitor.non_finite import NonFiniteGuard
from util.speed import cuda_graphs


@pytest.fixture
def skipping(monkeypatch):
    """Skip bad steps on the device, as on CUDA."""
    monkeypatch.setattr(NonFiniteGuard, "can_skip", lambda self, optimizer, device: True)


TINY = "--dataroot nowhere --ngf 2 --ndf 2 --load_size 32 --crop_size 32 --gpu_ids -1 --seed 3 --lr 0.000244140625"
TINY += " --n_epochs 1 --n_epochs_decay 7"


def pools(model):
    return [value for value in vars(model).values() if isinstance(value, ImagePool)]


def kept_alive(model):
    """Return where all tensors lie that outlive a step: a graph reads from nothing else that it has not made itself."""
    step = model.captured_step
    tensors = [*step.images.values(), *(rate.value for rate in step.rates), model.guard.first_bad, model.guard.count]
    tensors += [tensor for pool in step.pools for tensor in (pool.buffer, pool.table)]
    modules = [*model.networks().values(), *(average.module for average in model.averages.values()), model.criterionGAN]
    tensors += [value for module in modules for value in module.state_dict(keep_vars=True).values()]
    tensors += [value for optimizer in model.optimizers for value in tensors_in(dict(optimizer.state))]
    return {tensor.untyped_storage().data_ptr() for tensor in tensors}


def assert_same_run(eager, captured):
    """Compare weights, running statistics, averages and pools of two models, and the weights' moments."""
    for name, net in eager.networks().items():
        theirs = captured.networks()[name].state_dict()
        apart = {key: float((value - theirs[key]).abs().max()) for key, value in net.state_dict().items()}
        assert {key: distance for key, distance in apart.items() if distance > 1e-9} == {}
    for name, average in eager.averages.items():
        pairs = zip(average.module.parameters(), captured.averages[name].module.parameters(), strict=True)
        assert all((p - q).abs().max() <= 1e-9 for p, q in pairs)
    for mine, theirs in zip(pools(eager), pools(captured), strict=True):
        assert len(mine.images) == len(theirs.images) == mine.num_imgs == theirs.num_imgs
        assert all((a - b).abs().max() <= 1e-9 for a, b in zip(mine.images, theirs.images, strict=True))


@pytest.mark.usefixtures("in_float64", "skipping")
@pytest.mark.parametrize(
    ("words", "sizes"),
    [
        ("--model pix2pix --netG unet_32", [2] * 9),
        ("--model pix2pix --netG resnet_6blocks --norm instance --no_dropout --gan_mode lsgan --ema 0.9", [1] * 8),
        ("--model colorization --netG unet_32 --norm instance", [2] * 6),
        ("--model cycle_gan --netG resnet_6blocks --pool_size 2", [1] * 10),
        ("--model cycle_gan --netG resnet_6blocks --pool_size 3 --lambda_identity 0", [3, 3, 1, 2, 3, 2, 3, 3, 1, 3]),
        ("--model cycle_gan --netG unet_32 --norm batch --pool_size 5", [2] * 9),
    ],
)
def test_replayed_steps_compute_what_eager_ones_do(words, sizes, tmp_path):
    words = f"{TINY} {words} --batch_size {max(sizes)}"
    eager, captured = (make_model(f"{words} --name {name}", tmp_path) for name in ("eager", "captured"))
    captured.captured_step = cuda_graphs.make_captured_step(captured, Recorder)
    for mine, theirs in zip(train(eager, sizes), train(captured, sizes), strict=True):
        assert mine == pytest.approx(theirs, rel=1e-6)
    assert captured.captured_step.graph.records == 1
    assert captured.captured_step.graph.taken <= kept_alive(captured)
    assert_same_run(eager, captured)
    assert captured.guard.steps == eager.guard.steps == 2 * len(sizes)
    assert captured.optimizers[0].param_groups[0]["lr"] == eager.optimizers[0].param_groups[0]["lr"]


@pytest.mark.usefixtures("in_float64", "skipping")
def test_a_bad_batch_of_a_replayed_step_is_named_and_skipped(tmp_path):
    model = make_model(f"{TINY} --model pix2pix --netG unet_32 --norm instance --batch_size 2 --name bad", tmp_path)
    model.captured_step = cuda_graphs.make_captured_step(model, Recorder)
    assert_a_bad_batch_is_named_and_skipped(model)


@pytest.mark.usefixtures("in_float64", "skipping")
@pytest.mark.parametrize("model_name", ["pix2pix --netG unet_32", "cycle_gan --netG resnet_6blocks"])
def test_a_step_that_waits_for_the_device_ends_the_run_with_the_reason_and_advice(model_name, tmp_path):
    model = make_model(f"{TINY} --model {model_name} --name waits", tmp_path)
    criterion = model.criterionGAN
    model.criterionGAN = lambda *args: criterion(*args) * (1.0 if criterion(*args).item() >= 0 else 2.0)
    model.captured_step = cuda_graphs.make_captured_step(model, Recorder)
    with pytest.raises(UserError, match=r"the device was waited for.*Type --precision fp32 in place of --fast"):
        train(model, [1] * 6)
    assert not any(pool.swap_all for pool in pools(model))
    assert model.guard.recorded is None
    assert all(isinstance(group["lr"], float) for optimizer in model.optimizers for group in optimizer.param_groups)


@pytest.mark.usefixtures("in_float64", "skipping")
def test_pools_of_several_sizes_are_left_as_they_were_where_they_can_t_be_recorded(tmp_path):
    model = make_model(f"{TINY} --model cycle_gan --netG resnet_6blocks --pool_size 4 --name pools", tmp_path)
    model.captured_step = cuda_graphs.make_captured_step(model, Recorder)
    train(model, [1] * 3)
    model.fake_B_pool.images[0] = torch.zeros(1, 3, 8, 8)
    with pytest.raises(UserError, match="an image pool holds images of 2 sizes"):
        train(model, [1])
    assert not any(pool.swap_all for pool in pools(model))


def test_a_subclass_is_not_captured_unless_it_says_so(tmp_path, capsys, monkeypatch):
    model = make_model(f"{TINY} --model pix2pix --netG unet_32 --name sub", tmp_path)
    monkeypatch.setattr(model, "__class__", type("Foreign", (type(model),), {}))
    model.captured_step = cuda_graphs.make_captured_step(model, Recorder)
    assert model.captured_step is None
    assert "Foreign are not captured" in capsys.readouterr().out
