"""Precision, memory layout, compilation, shared passes and recomputed stages against plain float32 steps."""

from __future__ import annotations

import copy
import json

import pytest
import torch
from conftest import refused
from experiments import trained_copy
from terminal import equal, weights
from training_steps import batch, make_model, train

from models import create_model, networks
from models.pix2pix_model import Pix2PixModel
from options.test_options import TestOptions
from options.train_options import TrainOptions
from util.errors import UserError
from util.runtime import seeds
from util.runtime.run_facts import Options, run_facts, set_facts
from util.speed import plan
from util.speed.acceleration import accelerate

SMALL = "--dataroot nowhere --ngf 4 --ndf 4 --load_size 32 --crop_size 32 --gpu_ids -1 --seed 3"
MODELS = {
    "pix2pix": "--model pix2pix --netG unet_32",
    "cycle_gan": "--model cycle_gan --netG resnet_6blocks --pool_size 2",
}


def made_fast(name, folder, speed_words, monkeypatch, flags=""):
    """Make a model as for `opt.speed = speed_words`."""
    with monkeypatch.context() as patched:
        patched.setattr(plan, "choose", lambda opt, device, saved=None: (speed_words, []))
        words = f"{SMALL} {MODELS[name]} --name {speed_words.replace(' ', '_')} {flags}"
        return make_model(words, folder)


# ---- precision ----


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("pix2pix", "bf16"),
        ("pix2pix", "fp16"),
        ("cycle_gan", "fp32 channels_last"),
        ("cycle_gan", "bf16 channels_last"),
    ],
)
def test_reduced_precision_trains_near_float32(name, words, tmp_path, monkeypatch):
    plain = train(made_fast(name, tmp_path, "fp32", monkeypatch), [2] * 3)
    model = made_fast(name, tmp_path, words, monkeypatch)
    first, *later = zip(train(model, [2] * 3), plain, strict=True)
    assert first[0] == pytest.approx(first[1], rel=0.02, abs=0.01)
    for mine, theirs in later:  # Adam's steps are as large for small gradients as for large ones
        assert mine == pytest.approx(theirs, rel=0.2, abs=0.05)
    fakes = [getattr(model, visual) for visual in model.visual_names]
    assert all(image.dtype == torch.float32 for image in fakes)
    assert all(p.dtype == p.grad.dtype == torch.float32 for net in model.networks().values() for p in net.parameters())
    assert all(getattr(model, f"loss_{loss}").dtype == torch.float32 for loss in model.loss_names)


def test_float16_gradients_are_scaled_within_networks_and_only_there(tmp_path, monkeypatch):
    model = made_fast("pix2pix", tmp_path, "fp16", monkeypatch)
    net, scale = model.netG, model.scale
    image = torch.randn(1, 3, 32, 32, requires_grad=True)
    seeds.seed_all(0)
    (net(image).square().mean() * 2).backward()
    scaled = [p.grad.clone() for p in net.parameters()]
    left, image.grad = image.grad, None
    scale.value.fill_(2.0)
    net.zero_grad()
    seeds.seed_all(0)
    (net(image).square().mean() * 2).backward()
    for p, before in zip(net.parameters(), scaled, strict=True):
        torch.testing.assert_close(before / 2**15, p.grad, rtol=0.1, atol=1e-3)
    torch.testing.assert_close(left, image.grad, rtol=0.1, atol=1e-5)


@pytest.mark.parametrize("net", ["netG", "netD"])
def test_an_overflow_in_float16_skips_the_step_and_halves_the_scale(net, tmp_path, monkeypatch):
    """G's gradients also pass through D: wherever they overflow, the scale that both share follows."""
    model = made_fast("pix2pix", tmp_path, "fp16", monkeypatch)
    model.scale.value.fill_(2.0**8)
    train(model, [2])
    before = [p.detach().clone() for p in model.netG.parameters()]
    taken = {p: state["step"].item() for p, state in model.optimizer_G.state.items()}
    if net == "netG":
        next(model.netG.parameters()).register_hook(lambda grad: grad * torch.inf)
    else:  # which is frozen while G learns
        model.netD.register_full_backward_hook(
            lambda _, grads, __: tuple(g if g is None else g * torch.inf for g in grads)
        )
    train(model, [2])
    assert model.scale.value == 2.0**7
    assert all(torch.equal(p, q) for p, q in zip(model.netG.parameters(), before, strict=True))
    assert {p: state["step"].item() for p, state in model.optimizer_G.state.items()} == taken


def test_float16_with_parameters_outside_of_the_networks_says_what_to_do(tmp_path, monkeypatch):
    monkeypatch.setattr(Pix2PixModel, "networks", lambda self: {"G": self.netG})  # a model that forgets to name its D
    with pytest.raises(UserError, match="has parameters of others"):
        made_fast("pix2pix", tmp_path, "fp16", monkeypatch)


# ---- resuming, copies, layouts ----


@pytest.mark.parametrize(("name", "words"), [("pix2pix", "fp16"), ("cycle_gan", "bf16 channels_last")])
def test_a_fast_run_resumes_to_the_same_bits_and_saves_contiguous_files(name, words, tmp_path, monkeypatch):
    first = made_fast(name, tmp_path, words, monkeypatch)
    train(first, [1] * 3)
    if first.scale:
        first.scale.value.fill_(2.0**9)
    first.save_networks("latest")
    assert all(value.is_contiguous() for value in weights(first.save_dir).values())
    second = made_fast(name, tmp_path, words, monkeypatch, "--continue_train --epoch_count 1")
    for optimizer in second.optimizers:
        for p, values in optimizer.state.items():
            assert values["exp_avg"].stride() == values["exp_avg_sq"].stride() == p.stride()
    if first.scale:
        assert second.scale.state() == first.scale.state()
        assert second.scale.value == 2.0**9
    for model in (first, second):
        for group in (group for optimizer in model.optimizers for group in optimizer.param_groups):
            group["lr"] = 1e-4
    assert train(first, [1]) == train(second, [1])
    for net, other in zip(first.networks().values(), second.networks().values(), strict=True):
        assert equal(net.state_dict(), other.state_dict())


def test_a_copy_of_a_fast_network_runs_itself_and_errors_leave_no_precision_behind(tmp_path, monkeypatch):
    net = made_fast("cycle_gan", tmp_path, "bf16 channels_last", monkeypatch).netG_A
    twin = copy.deepcopy(net)
    with torch.no_grad():
        for p in twin.parameters():
            p.zero_()
    image = torch.rand(1, 3, 32, 32)
    assert twin(image).abs().max() == 0
    assert net(image).abs().max() > 0
    with pytest.raises(RuntimeError):
        net(torch.rand(1, 5, 32, 32))
    assert not torch.is_autocast_enabled("cpu")


def test_networks_compile_to_the_same_results(monkeypatch):
    """By torch's own tracing, without a compiler of the machine's code."""
    compiled = torch.compile
    monkeypatch.setattr(
        torch, "compile", lambda f, **kwargs: compiled(f, backend="aot_eager", fullgraph=True, **kwargs)
    )
    plain = networks.ResnetGenerator(3, 3, 2, networks.get_norm_layer("instance"), n_blocks=1)
    fast = copy.deepcopy(plain)
    accelerate(fast, torch.device("cpu"), plan.Speed(channels_last=True, compiled=True))
    image = torch.rand(2, 3, 32, 32)
    for net in (plain, fast):
        net(image).square().mean().backward()
    for p, q in zip(plain.parameters(), fast.parameters(), strict=True):
        torch.testing.assert_close(p.grad, q.grad, rtol=1e-3, atol=1e-6)


# ---- recomputed stages ----


@pytest.mark.parametrize("name", MODELS)
def test_a_run_with_grad_checkpoint_is_the_same_run(name, tmp_path):
    words = f"{SMALL} {MODELS[name]} --name"
    plain, saving = (make_model(f"{words} {flags}", tmp_path) for flags in ("plain", "saving --grad_checkpoint"))
    assert saving.netD.model.recompute if name == "pix2pix" else saving.netG_A.model.recompute
    assert train(plain, [2, 2]) == train(saving, [2, 2])
    for net, other in zip(plain.networks().values(), saving.networks().values(), strict=True):
        assert equal(net.state_dict(), other.state_dict())


# ---- what --fast chooses ----


def options(typed=(), **changes):
    values = {
        "fast": True, "precision": "fp32", "isTrain": True, "preprocess": "resize_and_crop",
        "netG": "resnet_9blocks", "grad_accum": 1, "grad_checkpoint": False, "gan_mode": "lsgan",
        "deterministic": False,
    }  # fmt: skip
    opt = Options(**{**values, **changes})
    set_facts(opt, typed=frozenset(typed))
    return opt


@pytest.mark.parametrize(
    ("changes", "capability", "expected", "said"),
    [
        ({}, (9, 0), "bf16 channels_last compile capture cuda", "this GPU has bfloat16 units"),
        ({}, (7, 5), "fp16 channels_last compile capture cuda", "float16 units, and none for bfloat16"),
        ({}, (6, 1), "fp32 capture cuda", "capability 6.1"),
        ({"preprocess": "none"}, (9, 0), "bf16 cuda", "sizes vary with --preprocess none"),
        ({"preprocess": "none", "netG": "unet_256"}, (9, 0), "bf16 channels_last cuda", "no compiled networks (sizes"),
        ({"gan_mode": "wgangp"}, (7, 0), "fp32 cuda", "float16's scale does not survive"),
        ({"grad_accum": 2}, (7, 0), "fp32 compile cuda", "may change between the batches"),
        ({"grad_accum": 2}, (9, 0), "bf16 channels_last compile cuda", "no captured steps (--grad_accum)"),
        ({"grad_checkpoint": True}, (9, 0), "bf16 cuda", "--grad_checkpoint"),
        ({"isTrain": False}, (9, 0), "bf16 cuda", "only training has steps"),
        ({"fast": False, "precision": "bf16"}, (9, 0), "bf16", ""),
        ({"fast": False, "precision": "bf16"}, (7, 5), "bf16", "bf16 is slower than fp32 here"),
    ],
)
def test_fast_chooses_by_the_gpu_and_says_what(changes, capability, expected, said, monkeypatch):
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    monkeypatch.setattr(plan.importlib.util, "find_spec", lambda name: True)
    words, told = plan.choose(options(**changes), torch.device("cuda", 0))
    assert words == expected
    assert said in " ".join(told)


def test_a_resumed_run_keeps_its_words_but_for_what_its_options_forbid_now(monkeypatch):
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (9, 0))
    monkeypatch.setattr(plan.importlib.util, "find_spec", lambda name: True)
    gpu, saved = torch.device("cuda", 0), "fp16 channels_last capture cuda"
    assert plan.choose(options(netG="unet_256"), gpu, saved)[0] == saved
    assert plan.choose(options(netG="unet_256", grad_accum=2), gpu, saved)[0] == "bf16 channels_last compile cuda"
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert plan.choose(options(netG="unet_256"), gpu, saved)[0] == "fp16 channels_last cuda"
    assert plan.choose(options(typed={"fast"}), gpu, saved)[0] == "bf16 channels_last compile cuda"
    assert plan.choose(options(), gpu, "fp32 cpu")[0] == "bf16 channels_last compile cuda"


@pytest.mark.parametrize(("has_bf16", "netG", "expected"), [
    (True, "resnet_9blocks", "bf16 channels_last cpu"), (True, "unet_256", "bf16 cpu"), (False, "unet_256", "fp32 cpu"),
])  # fmt: skip
def test_fast_chooses_by_the_cpu(has_bf16, netG, expected, monkeypatch):
    for name in ("_is_avx512_bf16_supported", "_is_amx_tile_supported"):
        monkeypatch.setattr(torch.cpu, name, lambda: has_bf16, raising=False)
    assert plan.choose(options(netG=netG), torch.device("cpu"))[0] == expected


@pytest.mark.parametrize("flags", ["--gan_mode wgangp", "--grad_accum 2"])
def test_float16_where_its_scale_would_be_wrong_is_an_error(flags, tmp_path, capsys):
    line = f"{SMALL} --model pix2pix --checkpoints_dir {tmp_path} --precision fp16 {flags}"
    error = refused(capsys, lambda line: TrainOptions(line).parse(), line)
    assert flags.split()[0] in error
    assert "bf16 needs no scale" in error


def test_a_plug_in_s_own_precision_is_its_own(tmp_path, monkeypatch):
    former = Pix2PixModel.modify_commandline_options

    def with_own(parser, is_train=True):
        parser = former(parser, is_train)
        parser.add_argument("--precision", type=int, default=32)
        return parser

    monkeypatch.setattr(Pix2PixModel, "modify_commandline_options", with_own)
    words = f"--dataroot nowhere --model pix2pix --precision 16 --gpu_ids -1 --checkpoints_dir {tmp_path}"
    opt = TrainOptions(words).parse()
    assert (opt.precision, run_facts(opt).speed) == (16, "fp32")


def test_fast_runs_resume_with_their_words_and_translate(tmp_path, capsys):
    """A toy of the suite, as if it had been trained by --fast on a CPU with other instructions."""
    folder = trained_copy("pix2pix", tmp_path)
    file = folder / "checkpoints/toy/train_opt.json"
    saved = json.loads(file.read_text())
    file.write_text(json.dumps({**saved, "fast": True, "speed": "bf16 channels_last cpu"}))
    line = f"--dataroot {folder / 'data'} --name toy --checkpoints_dir {folder / 'checkpoints'} --gpu_ids -1"
    opt = TrainOptions(f"{line} --continue_train").parse()
    assert run_facts(opt).speed == "bf16 cpu"  # a U-Net loses by channels_last
    assert "--fast: bf16 within the networks (as before)" in capsys.readouterr().out
    TrainOptions(f"{line} --continue_train --fast").parse()
    assert "as before" not in capsys.readouterr().out

    images = {}
    for flags in ("--precision fp32", "--precision bf16", "--fast"):
        opt = TestOptions(f"{line} {flags}").parse()
        assert ("--fast: " in capsys.readouterr().out) == (flags == "--fast")
        model = create_model(opt)
        model.setup(opt)
        model.set_input(batch())
        seeds.seed_all(0)
        model.test()
        images[flags] = model.fake_B
    for flags in ("--precision bf16", "--fast"):
        assert (images[flags] - images["--precision fp32"]).abs().mean() < 1 / 128  # one of 255 levels
