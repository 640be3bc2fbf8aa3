"""The doctor: faults of data, options, checkpoints and machines; forecasts compared with real runs."""

from __future__ import annotations

import argparse
import io
import os
import re
import shutil
import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from conftest import ROOT, make_image
from experiments import trained_copy
from PIL import Image
from terminal import type_fast

import train as program
import util.checkpoint.checkpointer
from data import template_dataset
from data.formats import pillow
from models import create_model
from models.pix2pix_model import Pix2PixModel
from options.train_options import TrainOptions
from scripts import doctor
from scripts.checks import device, files, networks, pixels
from scripts.checks.report import Report
from util.errors import UserError
from util.monitor import disk_forecast
from util.runtime.run_facts import with_values

TINY = (
    "--netG unet_32 --ngf 8 --ndf 8 --load_size 36 --crop_size 32 --num_threads 0 --display_id -1 --seed 7 --gpu_ids -1"
)
SIDE = 32


def picture(seed, width=SIDE, height=SIDE):
    """A smooth picture in colour."""
    small = np.random.default_rng(seed).integers(0, 256, (4, 4, 3), dtype=np.uint8)
    return Image.fromarray(small).resize((width, height), Image.Resampling.BICUBIC)


def pair(seed, side=SIDE):
    """Two pictures side by side."""
    whole = Image.new("RGB", (2 * side, side))
    whole.paste(picture(seed, side, side), (0, 0))
    whole.paste(picture(1000 + seed, side, side), (side, 0))
    return whole


@pytest.fixture
def pairs(tmp_path):
    """A folder of five training pairs and two test pairs."""
    for phase, seeds in (("train", range(5)), ("test", (50, 51))):
        folder = tmp_path / "pairs" / phase
        folder.mkdir(parents=True)
        for seed in seeds:
            pair(seed).save(folder / f"{seed}.png")
    return tmp_path / "pairs"


@pytest.fixture
def domains(tmp_path):
    """Five images in trainA, four in trainB."""
    for side, seeds in (("A", range(5)), ("B", range(100, 104))):
        for seed in seeds:
            make_image(tmp_path / "domains" / f"train{side}" / f"{seed}.png", 48, 40, seed=seed)
    return tmp_path / "domains"


class Examined:
    """The doctor's output and exit status."""

    def __init__(self, status, text):
        self.status, self.text = status, text
        found = (re.match(r"(ok|warn|FAIL) +(\w+) +(.*)", line) for line in text.splitlines())
        self.lines = [line.groups() for line in found if line]

    def of(self, level, subject=None):
        return [text for found, about, text in self.lines if found == level and subject in (None, about)]


@pytest.fixture
def examine(tmp_path, monkeypatch, capsys):
    """Type a doctor's command in this process, in an empty folder."""
    monkeypatch.chdir(tmp_path)

    def examine(line, more=TINY):
        status = doctor.main(f"{line} {more}".split())
        return Examined(status, capsys.readouterr().out)

    return examine


@pytest.fixture
def examine_data(capsys):
    """Run the checks of the data alone."""

    def examine_data(line, more=TINY):
        case, report = networks.Case(TrainOptions(f"{line} {more}").parse(begin=False)), Report()
        capsys.readouterr()
        report.show(doctor.check_data(case))
        report.show(doctor.check_items(case))
        return Examined(report.conclude("", 0), capsys.readouterr().out)

    return examine_data


# ---- sound data ----


def test_good_pairs_pass_and_only_the_picture_is_written(examine, pairs, tmp_path):
    before = set(tmp_path.rglob("*"))
    seen = examine(f"--dataroot {pairs} --name s --model pix2pix --direction BtoA --preprocess none --no_flip")
    assert seen.status == 0, seen.text
    assert [line for line in seen.lines if line[0] != "ok"] == []
    written = {path.relative_to(tmp_path).as_posix() for path in set(tmp_path.rglob("*")) - before}
    assert written == {"checkpoints", "checkpoints/s_doctor.png"}
    assert seen.of("ok", "data") == [f"5 pairs in {pairs}/train"]
    assert seen.of("ok", "sizes") == ["A and B side by side, each 32x32; the network gets 32x32 (none)"]
    assert seen.of("ok", "pixels") == ["all 5 pairs decoded, all are whole"]
    assert seen.of("ok", "copies") == ["no two are equal; compared with 2 of test"]
    assert seen.of("ok", "epochs") == ["1 to 200 are left to train; 5 images, 5 batches in each"]
    (line,) = seen.of("ok", "direction")
    assert line.startswith("the network reads B, the right half, and draws A, the left half.")
    command = (
        f"python train.py --dataroot {pairs} --name s --model pix2pix --direction BtoA --preprocess none --no_flip"
    )
    assert seen.text.endswith(f"Next:\n  {command} {TINY}\n")
    # The sheet shows what the network gets, the input B on the left.
    sheet = np.asarray(Image.open(tmp_path / "checkpoints/s_doctor.png")).astype(int)[..., 0]
    whole = np.asarray(pair(0)).astype(int)[..., 0]
    columns = []
    for half in (whole[:, SIDE:], whole[:, :SIDE]):
        distance = np.abs(np.lib.stride_tricks.sliding_window_view(sheet, half.shape) - half).max(axis=(2, 3))
        assert distance.min() <= 1  # tensor2im truncates
        columns.append(np.unravel_index(distance.argmin(), distance.shape)[1])
    assert columns[0] < columns[1]


def test_every_built_in_model_is_examined_without_a_complaint_about_itself(examine, pairs, domains):
    for model, root in (("pix2pix", pairs), ("template", pairs), ("colorization", pairs), ("cycle_gan", domains)):
        seen = examine(f"--dataroot {root} --model {model} --gan_mode lsgan --ema 0.9 --grad_accum 2")
        assert seen.status == 0, seen.text
        assert seen.of("ok", "memory"), seen.text
        assert seen.of("ok", "disk"), seen.text
    assert seen.of("ok", "data") == [f"5 images A, 4 images B in {domains}/trainA, {domains}/trainB; an epoch has 5"]
    assert seen.of("ok", "direction")[0].startswith("G_A turns A, trainA/")


# ---- faults of the data ----


def test_faulty_files_are_reported_with_their_names(examine_data, pairs):
    folder, rng = pairs / "train", np.random.default_rng(0)
    (folder / "no.png").write_text("no")
    pair(70).save(folder / "cut.png")
    (folder / "cut.png").write_bytes((folder / "cut.png").read_bytes()[:1000])
    Image.fromarray(rng.integers(0, 65535, (SIDE, 2 * SIDE), dtype=np.uint16)).save(folder / "deep.png")
    exif = Image.Exif()
    exif[pillow.ORIENTATION] = 6
    pair(71).save(folder / "turned.jpg", exif=exif)
    flat, same = pair(72), pair(73)
    flat.paste((7, 7, 7), (SIDE, 0, 2 * SIDE, SIDE))
    flat.save(folder / "flat.png")
    same.paste(same.crop((0, 0, SIDE, SIDE)), (SIDE, 0))
    same.save(folder / "same.png")
    shutil.copy(folder / "0.png", folder / "copy.png")
    shutil.copy(pairs / "test/50.png", folder / "leak.png")
    seen = examine_data(f"--dataroot {pairs} --model pix2pix")
    for level, subject, pattern in (
        ("FAIL", "pixels", r"all 13 pairs decoded, 2 can't be read: replace"),
        ("FAIL", "pixels", r"^cannot read .*cut\.png: .*truncated"),
        ("warn", "files", r"1 with more than 8 bits.*deep\.png"),
        ("ok", "files", r"1 with a rotation \(EXIF\), which is applied .*turned\.jpg"),
        ("warn", "flat", r"1 of a single colour.*flat\.png B"),
        ("warn", "pairs", r"same image in 1 of 11 pairs \(.*same\.png"),
        ("warn", "copies", r"1 too many of equal files \(.*0\.png, .*copy\.png\)"),
        ("warn", "leak", r"1 also in test \(.*leak\.png\)"),
    ):
        assert any(re.search(pattern, text) for text in seen.of(level, subject)), seen.text
    assert seen.status == 1


def test_data_that_do_not_fit_the_options_are_reported_with_options_that_do(examine_data, pairs):
    def check(options, level, subject, pattern):
        seen = examine_data(f"--dataroot {pairs} --model pix2pix", f"{TINY} {options}")
        assert any(re.search(pattern, text) for text in seen.of(level, subject)), seen.text
        assert seen.status == (level == "FAIL")

    check("--preprocess crop --crop_size 64", "FAIL", "sizes", r"5 smaller than --crop_size 64 .*--crop_size 32")
    check("--output_nc 1", "warn", "channels", r"images B: colour.*read as 1: --output_nc 3")
    folder = pairs / "train"
    pair(77, 40).save(folder / "5.png")
    text = r"several sizes can't be one batch.*--batch_size 1"
    check("--preprocess none --batch_size 2", "FAIL", "sizes", text)
    for path in folder.iterdir():
        Image.open(path).convert("L").save(path)
    check("", "warn", "channels", r"images A: all 6 grey.*--input_nc 1")
    check("--model colorization", "FAIL", "channels", "take colour photos")
    for seed in range(6):
        picture(seed, 96, 64).save(folder / f"{seed}.png")
    check("", "warn", "sizes", r"all 6 images not square.*--preprocess scale_width_and_crop")
    check("", "warn", "pairs", r"6 files look like one picture cut in two")
    shutil.rmtree(folder)
    check("", "FAIL", "data", r"train is not there")


def test_pairs_in_two_folders_need_partners_of_their_size(examine_data, tmp_path):
    for seed in range(3):
        make_image(tmp_path / "two/trainA" / f"{seed}.png", 32, 32, seed=seed)
        make_image(tmp_path / "two/trainB" / f"{seed}.jpg", 32 + (seed == 2), 32, seed=10 + seed)
    make_image(tmp_path / "two/trainA/alone.png", 32, 32)
    seen = examine_data(f"--dataroot {tmp_path}/two --model pix2pix")
    assert any("alone" in text for text in seen.of("warn", "data"))
    assert re.search(r"1 of 3 pairs of two sizes \(.*2.png 32x32, .*2.jpg 33x32\)", seen.of("FAIL", "pairs")[0])


def test_images_in_both_domains_are_a_warning_and_equal_domains_fail(examine_data, domains):
    (domains / "trainA/4.png").unlink()
    for shared, level in ((1, "warn"), (4, "FAIL")):
        for seed in range(shared):
            shutil.copy(domains / f"trainA/{seed}.png", domains / f"trainB/{100 + seed}.png")
        seen = examine_data(f"--dataroot {domains} --model cycle_gan")
        assert re.match(rf"{shared} both in A and in B \(.*trainA/0.png", seen.of(level, "copies")[0])


def test_only_a_part_is_read_if_there_are_many_files_or_time_is_short(examine_data, pairs, monkeypatch):
    monkeypatch.setattr(pixels, "MOST_ITEMS", 3)
    line = f"--dataroot {pairs} --model pix2pix"
    assert examine_data(line).of("ok", "pixels") == ["3 of 5 pairs decoded, all are whole"]
    monkeypatch.setattr(files, "MOST_SECONDS", -1)
    monkeypatch.setattr(files, "core_count", lambda: 1)
    assert examine_data(line).of("ok", "files")[0].startswith("4 of 5 files")


def test_file_names_cannot_send_codes_to_the_terminal(examine_data, pairs):
    hostile = "a\x1b[31m\n\u202eFAIL  data"
    (pairs / "train" / f"{hostile}.png").write_text("no")
    with open(os.fsencode(pairs / "train") + b"/\xe9.png", "wb") as file:  # noqa: PTH123 - a name that is no UTF-8
        file.write(b"no")
    text = examine_data(f"--dataroot {pairs} --model pix2pix").text
    assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f\u202e\udc00-\udfff]", text)
    assert r"a\x1b[31m\n" in text
    assert r"\udce9.png" in text


def test_one_picture_is_distinguished_from_two_side_by_side():
    def stored(image):
        file = io.BytesIO()
        image.save(file, format="JPEG", quality=75)
        return Image.open(file).convert("RGB")

    def textured(seed):
        noise = np.random.default_rng(seed).normal(0, 4, (128, 256, 3))
        return Image.fromarray((np.asarray(picture(seed, 256, 128)) + noise).clip(0, 255).astype(np.uint8))

    one = [pixels.continues_across(stored(textured(seed)), 128) for seed in range(20)]
    two = [pixels.continues_across(stored(pair(seed, 128)), 128) for seed in range(20)]
    assert (one.count(True) >= 18, one.count(False)) == (True, 0)
    assert (two.count(False) >= 18, two.count(True)) == (True, 0)
    assert pixels.continues_across(Image.new("RGB", (256, 128), "white"), 128) is None


# ---- disk and memory ----


def disk_used(folder):
    """Add up networks and states; a hard link takes nothing."""
    stats = [path.stat() for path in folder.iterdir() if re.search(r"\.pth(\.new)?$", path.name)]
    return sum({stat.st_ino: stat.st_size for stat in stats}.values())


def on_meta(opt):
    """Create a model that takes no memory."""
    changed = with_values(opt, device=torch.device("meta"), continue_train=False)
    with torch.device("meta"):
        model = create_model(changed)
    model.setup(model.opt)
    return model


def test_the_disk_space_forecast_is_what_a_run_takes(domains, tmp_path, monkeypatch):
    words = "--model cycle_gan --netG resnet_6blocks --pool_size 4 --ema 0.9 --save_latest_freq 3"
    line = f"--dataroot {domains} --name run --checkpoints_dir {tmp_path} {TINY} {words} --no_html"
    opt = TrainOptions(f"{line} --n_epochs 2 --n_epochs_decay 1 --save_epoch_freq 2 --max_dataset_size 4").parse()
    used, rename = [], util.checkpoint.checkpointer.publish
    monkeypatch.setattr(
        util.checkpoint.checkpointer, "publish", lambda path: (used.append(disk_used(path.parent)), rename(path))
    )
    program.train(opt)
    one = disk_forecast.checkpoint_size(on_meta(opt), opt.crop_size)
    assert disk_forecast.count_checkpoints(1, 5, 2, images=4, step=1, every_iters=3) == 3 + 6  # epochs and iterations
    sets = disk_forecast.count_checkpoints(1, 3, 2)
    assert sets == 2  # epochs 2 and 3
    assert disk_forecast.size_at_end(one, sets) == pytest.approx(disk_used(tmp_path / "run"), rel=0.02)
    assert disk_forecast.largest_size(one, sets) == pytest.approx(max(used), rel=0.1)
    assert disk_forecast.forecast_disk(opt, on_meta(opt), 4).text.startswith(f"{sets} numbered checkpoints")


def test_a_full_disk_is_reported_before_training_with_a_frequency_that_fits(pairs, monkeypatch, capsys):
    one = disk_forecast.CheckpointSize(1000, 2000)

    def compare(free):
        monkeypatch.setattr(disk_forecast, "free_space", lambda _: free)
        return disk_forecast.compare_disk(
            "checkpoints/x", one, lambda every: disk_forecast.count_checkpoints(1, 200, every), 5
        )

    need = disk_forecast.largest_size(one, 40)
    assert need == 2 * 3000 + 39 * 1000 + 38 * 3000 + 2000
    assert compare(need).level == "ok"
    assert (compare(need - 1).level, compare(need - 1).advice.split(",")[0]) == ("warn", "--save_epoch_freq 10")
    assert compare(41000).advice.startswith("--save_epoch_freq 20,")
    assert compare(2999).level == "FAIL"
    opt = TrainOptions(f"--dataroot {pairs} --model pix2pix {TINY}").parse(begin=False)
    model = on_meta(opt)
    with pytest.raises(UserError, match="not even one fits; free some space"):
        disk_forecast.check_disk(opt, model, images=4)
    monkeypatch.setattr(disk_forecast, "free_space", lambda _: disk_forecast.checkpoint_size(model, 32).total + 1)
    disk_forecast.check_disk(opt, model, images=4)
    assert re.match("warning: .* numbered checkpoints .* need up to .*; free some space", capsys.readouterr().err)


def test_the_memory_forecast_is_what_the_tensors_of_a_step_take():
    words = "--model cycle_gan --netG resnet_6blocks --pool_size 0 --crop_size 64 --load_size 64 --batch_size 2"
    opt = TrainOptions(f"--dataroot x {TINY} {words}").parse(begin=False)
    batch = {"A": torch.rand(2, 3, 64, 64), "B": torch.rand(2, 3, 64, 64), "A_paths": ["a"] * 2, "B_paths": ["b"] * 2}
    need = networks.measure_step(on_meta(opt), batch, training=True)
    model = create_model(opt)
    model.setup(opt)
    with networks.TensorBytes() as seen:
        for _ in range(2):
            model.set_input(batch)
            model.optimize_parameters()
    weights = sum(p.nbytes for net in model.networks().values() for p in net.parameters())
    assert need.least == pytest.approx(weights + seen.peak, rel=0.1)


def test_too_little_memory_is_reported_with_a_batch_or_a_crop_that_fits():
    need = networks.StepMemory(images=800, fixed=200)

    def compare(total, free, batch_size):
        return networks.compare_memory(need, total, free, "the GPU", batch_size, 256)

    assert need.likely == 200 + 1.6 * 800
    assert compare(2000, need.likely, 8).level == "ok"
    assert compare(0, 0, 8).level == "ok"  # a system that reports no memory
    found = compare(2000, 850, 8)  # half of the images' part is there
    assert (found.level, found.fix.split(" or ")[0]) == ("warn", "--batch_size 4")
    assert compare(2000, 850, 1).fix.startswith("--crop_size 160 or")  # 256 * sqrt(0.51) = 182, a multiple of 32
    assert compare(999, 900, 1).level == "FAIL"  # less in all than the tensors alone


# ---- checkpoints ----


@pytest.fixture
def ran(tmp_path, examine):
    """A finished run; examining it changes nothing in its folder."""
    trained_copy("pix2pix", tmp_path)
    folder = tmp_path / "checkpoints/toy"

    def ran(words, first="train.py"):
        before = {path.name: path.stat().st_mtime_ns for path in folder.iterdir()}
        seen = examine(f"{first} --dataroot data --name toy {words}", "--gpu_ids -1 --num_threads 0")
        assert {path.name: path.stat().st_mtime_ns for path in folder.iterdir()} == before
        return seen

    ran.folder = folder
    return ran


def test_a_resumed_run_is_examined_with_the_epochs_that_are_left(ran):
    seen = ran("--continue_train --n_epochs 9")
    assert seen.status == 0
    assert seen.of("ok", "epochs") == ["3 to 10 are left to train; 4 images, 4 batches in each"]
    assert "fit" in seen.of("ok", "checkpoint")[0]
    assert seen.of("ok", "memory")
    seen = ran("--continue_train")
    assert "nothing is left to train" in seen.of("FAIL", "epochs")[0]
    assert "--n_epochs" in seen.of("FAIL", "epochs")[0]
    assert "this run would move them" in ran("--model pix2pix --netG unet_32").of("warn", "epochs")[0]


def test_faults_of_a_checkpoint_are_reported(ran):
    line = "--continue_train --n_epochs 9"
    (ran.folder / "latest_net_D.pth").unlink()
    assert ran(line).of("FAIL", "checkpoint")
    (ran.folder / "latest_net_D.pth").write_bytes(b"x")
    assert ran(line).of("FAIL", "checkpoint")


def test_a_test_is_examined_with_test_pys_arguments(ran, examine, pairs):
    seen = ran("--phase train --num_test 3", first="some/where/test.py")
    assert seen.status == 0
    assert "the first 3 are translated (--num_test inf: all)" in seen.of("ok", "data")[0]
    assert seen.of("ok", "files")[0].startswith("all 3 files")
    assert seen.of("ok", "memory")
    assert seen.of("ok", "epochs") == []
    assert "\n  python test.py --dataroot" in seen.text
    seen = examine(f"test.py --dataroot {pairs} --name no_such", "--gpu_ids -1")
    assert seen.status == 1
    assert "no folder" in seen.of("FAIL", "checkpoint")[0]


# ---- plug-ins ----


def test_faults_of_plug_ins_are_reported(examine, pairs, monkeypatch):
    line = f"--dataroot {pairs} --model pix2pix"
    for name, method, level, subject in (
        ("forward", lambda self: self.real_A.numpy(), "warn", "memory"),
        ("forward", lambda self: self.netG(self.real_A[:, :2]), "FAIL", "step"),
        ("__init__", lambda self, opt: self.no_such, "FAIL", "networks"),
    ):
        with monkeypatch.context() as patch:
            patch.setattr(Pix2PixModel, name, method)
            assert len(examine(line).of(level, subject)) == 1
    monkeypatch.setattr(template_dataset.TemplateDataset, "__getitem__", lambda self, index: {}["A"])
    seen = examine(f"{line} --dataset_mode template")
    assert "5 items can't be loaded, the first as item 0: KeyError" in seen.of("FAIL", "loading")[0]


# ---- the machine ----


def test_a_gpu_is_named_and_has_to_compute(monkeypatch):
    properties = SimpleNamespace(name="GPU X", major=9, minor=0)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda _: properties)
    monkeypatch.setattr(torch.cuda, "get_arch_list", lambda: ["sm_70", "sm_80"])
    monkeypatch.setattr(device, "nvidia_smi", lambda _: "470.1")
    monkeypatch.setattr(torch, "ones", lambda *_, **__: torch.tensor([1.0, 1.0]))
    found = device.check_gpu(torch.device("cuda", 0))
    assert (found.level, "GPU X" in found.text, "470.1" in found.text) == ("ok", True, True)

    def fail(*_, **__):
        raise RuntimeError("CUDA error: no kernel image is available\nmore")

    monkeypatch.setattr(torch, "ones", fail)
    found = device.check_gpu(torch.device("cuda", 0))
    assert found.level == "FAIL"
    assert "no kernel image is available (it is sm_90; torch has sm_70 sm_80)" in found.text


def test_the_reason_why_there_is_no_gpu_is_reported(monkeypatch):
    opt = argparse.Namespace(device=torch.device("cpu"))
    for smi, cuda, hidden, reason in (
        ("", "13.0", None, "no NVIDIA driver answers"),
        ("GPU X", None, None, "built without CUDA"),
        ("GPU X", "13.0", "", "CUDA_VISIBLE_DEVICES= hides the GPU X"),
        ("GPU X", "13.0", None, "CUDA 13.0 of this torch does not work with the GPU X's driver"),
    ):
        monkeypatch.setattr(device, "nvidia_smi", lambda field, smi=smi: smi)
        monkeypatch.setattr(torch.version, "cuda", cuda)
        monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
        if hidden is not None:
            monkeypatch.setenv("CUDA_VISIBLE_DEVICES", hidden)
        (found,) = device.check_device(opt, "0")
        assert (found.level, reason in found.text, bool(found.fix)) == ("warn", True, True)
    (found,) = device.check_device(opt, "-1")
    assert found.level == "ok"


def test_workers_need_cores_and_shared_memory(monkeypatch):
    def level(num_threads, name="cpu", free=10**12):
        monkeypatch.setattr(device, "core_count", lambda: 2)
        monkeypatch.setattr(device.shutil, "disk_usage", lambda _: SimpleNamespace(free=free))
        opt = argparse.Namespace(num_threads=num_threads, batch_size=4, device=torch.device(name))
        return device.check_workers(opt, {"A": torch.zeros(3, 256, 256), "A_paths": "x"}).level

    assert [level(4), level(0), level(0, "cuda"), level(9)] == ["ok", "ok", "warn", "warn"]
    if os.path.isdir("/dev/shm"):  # noqa: PTH112
        need = 3 * 4 * 4 * 3 * 256 * 256 * 4
        assert [level(4, free=need), level(4, free=need - 1)] == ["ok", "FAIL"]


# ---- the command ----


def test_the_command_line_is_as_users_know_it(pairs, tmp_path):
    command = f"{ROOT}/scripts/doctor.py"
    done = type_fast(f"{command} train.py --dataroot {pairs} --model pix2pix {TINY}", tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert "\033" not in done.stdout
    assert type_fast(f"{command} --dataroot {pairs} --model pix2pix --crop_size 0", tmp_path).returncode == 2
    done = type_fast(f"{command} --dataroot {pairs} --model pix3pix", tmp_path)
    assert (done.returncode, "Did you mean 'pix2pix'" in done.stderr) == (1, True)
    words = [sys.executable, "-X", "importtime", command, "--help"]
    done = subprocess.run(words, capture_output=True, text=True, timeout=60, check=True)
    assert "python scripts/doctor.py test.py" in done.stdout
    assert "torch" not in done.stderr  # which would take seconds


@pytest.mark.parametrize(("version", "level"), [("2.5.1", "FAIL"), ("2.6.0+cpu", "ok"), ("2.14.1", "ok")])
def test_a_torch_that_runs_code_of_checkpoints_fails(monkeypatch, version, level):
    monkeypatch.setattr(doctor.torch, "__version__", torch.torch_version.TorchVersion(version))
    opt = SimpleNamespace(
        model="pix2pix", netG="unet_256", norm="batch", dataset_mode="aligned", batch_size=1, name="x"
    )
    *_, finding = doctor.check_options(opt, "train.py", [])
    assert (finding.level, finding.subject) == (level, "versions")
