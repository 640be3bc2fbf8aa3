"""One optimizer step: accumulated gradients, averaged weights, initial weights."""

import numpy as np
import pytest
import torch
from conftest import ROOT, make_aligned
from terminal import TINY, equal, type_well, weights
from training_steps import batch, make_model, train

from models import create_model
from options.test_options import TestOptions
from util.checkpoint.progress import Progress
from util.errors import UserError
from util.runtime.step_part import StepPart

NETS = f"--dataroot nowhere {TINY} --netG resnet_6blocks --no_dropout"


def part(whole, begin, end):
    return {name: value[begin:end] for name, value in whole.items()}


# ---- gradient accumulation ----


def step_parts(length, batch_size, grad_accum, world_size=1):
    from data.loading.sampler import EpochSampler

    sampler = EpochSampler(length, batch_size, world_size=world_size, grad_accum=grad_accum)
    return [sampler.step_part(i) for i in range(len(sampler))]


def test_the_batches_of_a_step_are_weighted_by_their_images():
    assert step_parts(4, 1, 1) == [StepPart()] * 4
    assert step_parts(7, 2, 3) == [
        StepPart(1.0, True, False, 1.0, 1.0),
        StepPart(1.0, False, False, 1.0, 0.5),
        StepPart(1.0, False, True, 1.0, 1 / 3),
        StepPart(1.0, True, True, 1.0, 1.0),
    ]
    short = step_parts(5, 2, 4)[-1]  # 2, 2 and 1 images: a sum in units of the last batch, times 1/5
    assert (short.first, short.last, short.rescale, short.weight) == (False, True, 2.0, 0.2)


@pytest.mark.usefixtures("in_float64")
def test_accumulated_batches_equal_one_batch_in_float64(tmp_path):
    """CycleGAN on 7 images: steps of 4 and 3 images, or of batches of 2 + 2 and 2 + 1."""
    line = f"--model cycle_gan {NETS} --pool_size 0 --name"
    whole, parts = make_model(f"{line} whole", tmp_path), make_model(f"{line} parts --grad_accum 2", tmp_path)
    images = batch(7)
    for begin in (0, 4):
        whole.set_input(part(images, begin, begin + 4))
        whole.optimize_parameters()
    for number, step_part in enumerate(step_parts(7, 2, 2)):
        parts.begin_batch(step_part)
        parts.set_input(part(images, 2 * number, 2 * number + 2))
        parts.optimize_parameters()
    for name, net in whole.networks().items():
        for one, other in zip(net.parameters(), parts.networks()[name].parameters(), strict=True):
            assert (one - other).abs().max() <= 1e-9


def test_pix2pix_accumulates_and_G_sees_the_new_D_in_the_last_batch_only(tmp_path):
    model = make_model(f"--model pix2pix {NETS} --norm instance --name p", tmp_path)
    old = {name: [p.detach().clone() for p in net.parameters()] for name, net in model.networks().items()}
    seen = []
    backward_G = model.backward_G

    def spy():
        seen.append(all(torch.equal(p, q) for p, q in zip(model.netD.parameters(), old["D"], strict=True)))
        backward_G()

    model.backward_G = spy
    for step_part in (StepPart(last=False), StepPart(1.0, False, True, 1.0, 0.5)):
        model.begin_batch(step_part)
        model.set_input(batch())
        model.optimize_parameters()
    assert seen == [True, False]
    assert not all(torch.equal(p, q) for p, q in zip(model.netG.parameters(), old["G"], strict=True))


def test_progress_counts_a_step_of_several_batches_as_one():
    progress = Progress()
    fired = []
    for i in range(8):
        progress.advance(1, begins=i % 4 == 0)
        if i % 4 == 3:
            fired.append(progress.passed(3))
    assert fired == [True, True]  # 3 lies in images 1 to 4, 6 in 5 to 8
    assert progress.total_iters == 8


def test_train_accumulates_and_saves_at_the_ends_of_steps(tmp_path):
    pairs = make_aligned(tmp_path / "pairs", count=5)
    line = f"--model pix2pix {NETS} --dataroot {pairs} --checkpoints_dir {tmp_path} --name one --print_freq 1 --no_html"
    line += " --n_epochs 2 --n_epochs_decay 0 --grad_accum 2 --ema 0.9 --save_latest_freq 2"
    out = type_well(f"train.py {line}", ROOT)
    # 5 images: steps of 2, 2 and 1 batches; the latest model is saved at the steps' ends alone
    assert [n for n in range(1, 11) if f"total_iters {n})" in out] == [2, 4, 7, 9, 10]
    state = torch.load(tmp_path / "one" / "latest_state.pth", weights_only=True)
    assert state["optimizers"][0]["state"][0]["step"] == 6
    one = weights(tmp_path / "one")
    assert {key.split(".")[0] for key in one} == {"G", "G_ema", "D"}


def test_a_model_that_steps_its_optimizers_itself_learns_how_to_accumulate(tmp_path):
    model = make_model(f"--model template {NETS} --name own --grad_accum 2", tmp_path)
    model.begin_batch(StepPart(last=False))
    model.set_input(batch())
    model.forward()
    model.backward()
    with pytest.raises(UserError, match="TemplateModel steps its optimizers after every batch"):
        model.optimizer.step()


def test_deterministic_algorithms_train_the_same_on_a_cpu(tmp_path):
    line = f"--model cycle_gan {NETS}"
    try:
        models = [make_model(f"{line} --name {flags}", tmp_path) for flags in ("plain", "exact --deterministic")]
        train(models[1], [1, 1])
    finally:
        torch.use_deterministic_algorithms(False)
    train(models[0], [1, 1])
    assert equal(models[0].netG_A.state_dict(), models[1].netG_A.state_dict())


# ---- averaged weights ----


def test_ema_is_the_average_of_the_generators_weights(tmp_path):
    model = make_model(f"--model cycle_gan {NETS} --ema 0.75 --name e", tmp_path)
    assert list(model.averages) == ["G_A", "G_B"]
    expected = None
    for step in range(3):
        model.set_input(batch(seed=step))
        model.optimize_parameters()
        now = [p.detach().clone() for p in model.netG_B.parameters()]
        expected = [0.75 * e + 0.25 * n for e, n in zip(expected, now, strict=True)] if expected else now
    for average, value in zip(model.averages["G_B"].module.parameters(), expected, strict=True):
        torch.testing.assert_close(average, value, rtol=1e-5, atol=1e-8)
    model.save_networks("latest")
    saved = weights(tmp_path / "e")
    assert not torch.equal(saved["G_B_ema.model.1.weight"], saved["G_B.model.1.weight"])

    line = f"--dataroot nowhere --name e --checkpoints_dir {tmp_path} --gpu_ids -1"
    for flag, key in (("", "G_B."), ("--ema", "G_B_ema.")):
        opt = TestOptions(f"{line} {flag}").parse()
        test = create_model(opt)
        test.setup(opt)
        assert torch.equal(test.netG_B.model[1].weight, saved[f"{key}model.1.weight"])


def test_resuming_needs_saved_averages_only_for_testing_and_takes_a_metric_of_numpy(tmp_path, capsys):
    line = f"--model pix2pix {NETS} --name late"
    model = make_model(line, tmp_path)
    model.metric = np.array(1.5)  # as a plug-in may set it
    model.save_networks("latest")
    again = make_model(f"{line} --continue_train --ema 0.5", tmp_path)
    assert again.metric == 1.5
    assert "no averages were saved (G_ema)" in capsys.readouterr().err
    start = again.netG.model[1].weight.detach().clone()
    train(again, [1])
    expected = (start + again.netG.model[1].weight) / 2
    torch.testing.assert_close(again.averages["G"].module.model[1].weight, expected)
    opt = TestOptions(f"--dataroot nowhere --name late --checkpoints_dir {tmp_path} --ema").parse()
    with pytest.raises(UserError, match=r"latest_net_G_ema\.pth"):
        create_model(opt).setup(opt)


# ---- initial weights ----


def test_init_from_takes_weights_and_nothing_else(tmp_path, capsys):
    line = f"--model pix2pix {NETS}"
    first = make_model(f"{line} --name first", tmp_path)
    train(first, [1])
    first.save_networks("latest")
    weight = first.netG.model[1].weight
    tuned = make_model(f"{line} --init_from first --name tuned", tmp_path)
    assert tuned.progress == Progress()
    assert torch.equal(tuned.netG.model[1].weight, weight)
    assert torch.equal(tuned.netD.model[0].weight, first.netD.model[0].weight)
    assert not tuned.optimizer_G.state

    (tmp_path / "first" / "latest_net_D.pth").unlink()
    (tmp_path / "first" / "latest_state.pth").unlink()
    tuned = make_model(f"{line} --init_from first --name tuned2", tmp_path)
    assert "network D begins afresh" in capsys.readouterr().out
    assert torch.equal(tuned.netG.model[1].weight, weight)
