"""Checks that need a CUDA GPU: real recordings, copies on a second stream, compiled kernels, memory."""

from __future__ import annotations

import json

import pytest
import torch
from conftest import make_aligned, make_unaligned, type_command
from data_options import data_options
from training_steps import assert_a_bad_batch_is_named_and_skipped, make_model, train

from data import create_dataset
from util.speed import cuda_graphs

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")

SMALL = "--dataroot nowhere --ngf 8 --ndf 8 --load_size 64 --crop_size 64 --gpu_ids 0 --seed 3 --n_epochs 1"
MODELS = [
    ("--model pix2pix --netG unet_64", [2] * 9),
    ("--model pix2pix --netG resnet_6blocks --norm instance --no_dropout --gan_mode lsgan --ema 0.9", [1] * 8),
    ("--model cycle_gan --netG resnet_6blocks --pool_size 2", [1] * 10),
    ("--model cycle_gan --netG resnet_6blocks --pool_size 3 --lambda_identity 0", [3, 3, 1, 2, 3, 2, 3, 3, 1, 3]),
]


@pytest.fixture
def exact(monkeypatch):
    """The same kernels in every run, with all of float32's digits."""
    monkeypatch.setattr(torch.backends.cudnn, "deterministic", True)
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    make_aligned(folder / "pairs", count=6, side=64)
    make_unaligned(folder / "two", count_A=6, count_B=5, side=64)
    return folder


@pytest.mark.usefixtures("exact")
@pytest.mark.parametrize(("words", "sizes"), MODELS)
def test_captured_steps_are_eager_ones(words, sizes, tmp_path):
    words = f"{SMALL} {words} --batch_size {max(sizes)}"
    eager, captured = (make_model(f"{words} --name {name}", tmp_path) for name in ("eager", "captured"))
    torch.backends.cudnn.benchmark = False
    captured.captured_step = cuda_graphs.make_captured_step(captured)
    for mine, theirs in zip(train(eager, sizes), train(captured, sizes), strict=True):
        assert mine == pytest.approx(theirs, rel=1e-2, abs=1e-3)
    assert captured.captured_step.images  # it was recorded
    assert captured.guard.steps == eager.guard.steps


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
@pytest.mark.parametrize(("words", "sizes"), MODELS)
def test_everything_that_fast_does_trains_near_float32(words, sizes, precision, tmp_path):
    words = f"{SMALL} {words} --batch_size {max(sizes)}"
    plain = make_model(f"{words} --name plain", tmp_path)
    fast = make_model(f"{words} --name fast --fast --precision {precision}", tmp_path)
    first, *later = zip(train(plain, sizes), train(fast, sizes), strict=True)
    assert first[0] == pytest.approx(first[1], rel=0.03, abs=0.02)
    for mine, theirs in later:
        assert mine == pytest.approx(theirs, rel=0.3, abs=0.1)
    assert fast.captured_step.images


@pytest.mark.usefixtures("exact")
def test_recordings_outlive_freed_memory_and_steps_beside_them(tmp_path):
    """`empty_cache` frees memory that a recording must not read."""
    words = f"{SMALL} --model cycle_gan --netG resnet_6blocks --pool_size 2"
    eager, captured = (make_model(f"{words} --name {name}", tmp_path) for name in ("eager", "captured"))
    captured.captured_step = cuda_graphs.make_captured_step(captured)
    for _ in range(4):
        mine, theirs = train(eager, [1] * 4), train(captured, [1] * 4)
        torch.cuda.empty_cache()
        assert mine[-1] == pytest.approx(theirs[-1], rel=1e-2, abs=1e-3)


def test_a_bad_batch_of_a_captured_step_is_named_and_skipped(tmp_path):
    words = f"{SMALL} --model pix2pix --netG unet_64 --norm instance --batch_size 2 --name bad --fast"
    model = make_model(words, tmp_path)
    assert_a_bad_batch_is_named_and_skipped(model)


@pytest.mark.parametrize("flags", [{}, {"fast": True}, {"cache": True}, {"fast": True, "cache": True}])
def test_batches_on_the_device_are_those_on_the_cpu(data, flags):
    """Over three epochs, with the device kept busy meanwhile."""
    loaders = [
        create_dataset(data_options(data / "two", "unaligned", batch_size=2, num_threads=2, device=device, **flags))
        for device in (torch.device("cpu"), torch.device("cuda", 0))
    ]
    busy = torch.randn(2000, 2000, device="cuda")
    for _ in range(3):
        for on_cpu, on_gpu in zip(*loaders, strict=True):
            for _ in range(20):
                busy = busy @ busy / 100
            assert on_gpu["A"].is_cuda
            assert on_gpu["A_paths"] == on_cpu["A_paths"]
            for name in ("A", "B"):
                assert torch.equal(on_gpu[name].cpu(), on_cpu[name])


def test_checkpointed_stages_take_less_memory(tmp_path):
    peaks = []
    for flags in ("", "--grad_checkpoint"):
        words = f"--model pix2pix --netG resnet_9blocks --ngf 32 --name m{len(peaks)} {flags}"
        model = make_model(f"{SMALL} {words}", tmp_path)
        images = {name: torch.rand(1, 3, 512, 512) for name in ("A", "B")}
        torch.cuda.reset_peak_memory_stats()
        model.set_input({**images, "A_paths": ["a"], "B_paths": ["b"]})
        model.optimize_parameters()
        peaks.append(torch.cuda.max_memory_allocated())
        del model
    assert peaks[1] < 0.7 * peaks[0]


@pytest.mark.parametrize("model", ["pix2pix", "cycle_gan"])
def test_a_fast_run_trains_resumes_and_translates(data, tmp_path, model):
    folder = data / ("two" if model == "cycle_gan" else "pairs")
    net = "--netG resnet_6blocks" if model == "cycle_gan" else "--netG unet_64"
    line = f"--dataroot {folder} --name run --checkpoints_dir {tmp_path} --gpu_ids 0"
    size = "--ngf 8 --ndf 8 --load_size 72 --crop_size 64 --n_epochs_decay 0 --no_html --print_freq 1 --display_id -1"
    gpu = {"CUDA_VISIBLE_DEVICES": "0"}
    words = f"train.py {line} --model {model} {net} {size} --fast --cache --n_epochs 2"
    done = type_command(*words.split(), env=gpu)
    assert done.returncode == 0, done.stderr
    assert "; captured steps" in done.stdout
    done = type_command(*f"train.py {line} --continue_train --n_epochs 3".split(), env=gpu)
    assert done.returncode == 0, done.stderr
    assert json.loads((tmp_path / "run/train_opt.json").read_text())["speed"].endswith("capture cuda")
    words = f"test.py {line} --fast --results_dir {tmp_path / 'results'}"
    done = type_command(*words.split(), env=gpu)
    assert done.returncode == 0, done.stderr
    assert list((tmp_path / "results/run/test_latest/images").glob("*.png"))
