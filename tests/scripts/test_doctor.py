"""The doctor: what it finds in data, options, checkpoints and machines, and figures that hold against real runs."""

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
from scripts.checks import dataset, device, image_files, memory, pixels
from scripts.checks.findings import Finding
from util.errors import UserError
from util.monitor import disk_forecast, first_batch
from util.runtime import machine

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
    """What the doctor printed, and its exit status."""

    def __init__(self, status, text):
        self.status, self.text = status, text
        found = (re.match(r"(ok|warn|FAIL) +(\w+) +(.*)", line) for line in text.splitlines())
        self.lines = [line.groups() for line in found if line]

    def of(self, level, subject=None):
        return [text for found, about, text in self.lines if found == level and subject in (None, about)]


@pytest.fixture
def examine_(tmp_path, monkeypatch, capsys):
    """Type a doctor's command in this process, in an empty folder."""
    monkeypatch.chdir(tmp_path)

    def examine_(line, more=TINY):
        status = doctor.main(f"{line} {more}".split())
        return Examined(status, capsys.readouterr().out)

    return examine_


# ---- data that are as they should be ----


def test_good_pairs_pass_and_nothing_is_written_but_the_picture(examine_, pairs, tmp_path):
    before = set(tmp_path.rglob("*"))
    seen = examine_(f"--dataroot {pairs} --name good --model pix2pix")
    assert seen.status == 0, seen.text
    assert [line for line in seen.lines if line[0] != "ok"] == []
    assert {path.relative_to(tmp_path).as_posix() for path in set(tmp_path.rglob("*")) - before} == {
        "checkpoints",
        "checkpoints/good_doctor.png",
    }
    assert seen.of("ok", "data") == [f"5 pairs in {pairs}/train"]
    assert seen.of("ok", "sizes") == ["A and B side by side, each 32x32; the network gets 32x32 (resize_and_crop)"]
    assert seen.of("ok", "pixels") == ["all 5 pairs decoded, all are whole"]
    assert seen.of("ok", "copies") == ["no two are equal; compared with 2 of test"]
    assert seen.of("ok", "epochs") == ["1 to 200 are left to train; 5 images, 5 batches in each"]
    assert seen.text.endswith(f"Next:\n  python train.py --dataroot {pairs} --name good --model pix2pix {TINY}\n")


def test_the_picture_shows_what_goes_in_on_the_left_as_the_network_gets_it(examine_, pairs, tmp_path):
    examine_(f"--dataroot {pairs} --name s --model pix2pix --direction BtoA --preprocess none --no_flip")
    sheet = np.asarray(Image.open(tmp_path / "checkpoints/s_doctor.png")).astype(int)
    for seed in (0, 4):
        whole = np.asarray(pair(seed)).astype(int)
        shown = np.concatenate([whole[:, SIDE:], np.full((SIDE, 2, 3), 255), whole[:, :SIDE]], axis=1)
        windows = np.lib.stride_tricks.sliding_window_view(sheet[..., 0], shown.shape[:2])
        assert np.abs(windows - shown[..., 0]).max(axis=(2, 3)).min() <= 1  # tensor2im truncates


@pytest.mark.parametrize(
    ("direction", "reads", "draws"),
    [("AtoB", "A, the left half", "B, the right"), ("BtoA", "B, the right", "A, the left")],
)
def test_a_line_says_which_half_is_read_and_which_is_drawn(examine_, pairs, direction, reads, draws):
    (line,) = examine_(f"--dataroot {pairs} --model pix2pix --direction {direction}").of("ok", "direction")
    assert re.match(rf"the network reads {reads}.*, and draws {draws}", line)


def test_two_domains_and_single_images_pass(examine_, domains):
    tiny = TINY.replace("unet_32", "resnet_6blocks")
    seen = examine_(f"--dataroot {domains} --model cycle_gan --direction BtoA", tiny)
    assert seen.status == 0
    assert seen.of("ok", "data") == [f"5 images A, 4 images B in {domains}/trainA, {domains}/trainB; an epoch has 5"]
    assert seen.of("ok", "direction")[0].startswith("G_A turns B, trainB/")


def test_every_built_in_model_is_examined_without_a_complaint_about_itself(examine_, pairs, domains):
    for model, root in (("pix2pix", pairs), ("template", pairs), ("colorization", pairs), ("cycle_gan", domains)):
        seen = examine_(f"--dataroot {root} --model {model} --gan_mode lsgan --ema 0.9 --grad_accum 2")
        assert seen.status == 0, seen.text
        assert seen.of("ok", "memory"), seen.text
        assert seen.of("ok", "disk"), seen.text


# ---- faults of the data ----


def spoil(pairs, name):
    """Put one fault into the training pairs; return options that go with it."""
    folder = pairs / "train"
    whole, rng = pair(77), np.random.default_rng(0)
    if name == "no image":
        (folder / "x.png").write_text("no")
    elif name == "cut short":
        data = (folder / "0.png").read_bytes()
        (folder / "0.png").write_bytes(data[: len(data) // 2])
    elif name == "deep":
        Image.fromarray(rng.integers(0, 65535, (SIDE, 2 * SIDE), dtype=np.uint16)).save(folder / "x.png")
    elif name == "turned":
        exif = Image.Exif()
        exif[pillow.ORIENTATION] = 6
        whole.save(folder / "x.jpg", exif=exif)
    elif name == "transparent":
        whole.putalpha(100)
        whole.save(folder / "x.png")
    elif name == "frames":
        whole.save(folder / "x.webp", save_all=True, append_images=[pair(78)])
    elif name == "flat":
        whole.paste((7, 7, 7), (SIDE, 0, 2 * SIDE, SIDE))
        whole.save(folder / "x.png")
    elif name == "same":
        whole.paste(whole.crop((0, 0, SIDE, SIDE)), (SIDE, 0))
        whole.save(folder / "x.png")
    elif name == "duplicate":
        shutil.copy(folder / "0.png", folder / "x.png")
    elif name == "leak":
        shutil.copy(pairs / "test/50.png", folder / "x.png")
    elif name == "narrow":
        picture(77).save(folder / "x.png")
    elif name == "odd":
        whole.resize((2 * SIDE + 1, SIDE)).save(folder / "x.png")
        return "--preprocess none"
    elif name == "small for the crop":
        picture(77, 40, 20).save(folder / "x.png")
        return "--preprocess crop"
    elif name == "sizes in a batch":
        pair(77, 40).save(folder / "x.png")
        return "--preprocess none --batch_size 2"
    elif name == "not square":
        for seed in range(5):
            pair(seed).resize((100, 32)).save(folder / f"{seed}.png")
    elif name == "enlarged":
        return "--load_size 143 --crop_size 128"
    elif name == "heic":
        (folder / "x.heic").write_text("x")
    elif name == "single pictures":
        for seed in range(5):
            picture(seed, 96, 64).save(folder / f"{seed}.png")
    elif name == "grey":
        for path in folder.iterdir():
            Image.open(path).convert("L").save(path)
    elif name == "colour as grey":
        return "--output_nc 1"
    elif name == "nothing":
        shutil.rmtree(folder)
    return ""


FAULTS = {
    "no image": ("FAIL", "pixels", r"all 6 pairs decoded, 1 can't be: .*x\.png.*: replace"),
    "cut short": ("FAIL", "pixels", r"1 can't be: .*0\.png.*truncated"),
    "deep": ("warn", "files", r"1 with more than 8 bits.*x\.png"),
    "turned": ("warn", "files", r"1 with a note to be rotated.*x\.jpg.*mogrify -auto-orient"),
    "transparent": ("warn", "pixels", r"1 transparent in parts.*x\.png"),
    "frames": ("warn", "files", r"1 with several frames.*x\.webp"),
    "flat": ("warn", "flat", r"1 have a single colour.*x\.png B"),
    "same": ("warn", "pairs", r"same image in 1 of 6 pairs \(.*x\.png"),
    "duplicate": ("warn", "copies", r"1 too many of equal files \(.*0\.png, .*x\.png\)"),
    "leak": ("warn", "leak", r"1 also in test \(.*x\.png\)"),
    "narrow": ("warn", "pairs", r"1 of 6 files too narrow for two images \(.*x\.png\)"),
    "odd": ("warn", "pairs", r"1 of an odd width"),
    "small for the crop": ("FAIL", "sizes", r"1 smaller than --crop_size 32 .*--crop_size 20"),
    "sizes in a batch": ("FAIL", "sizes", r"several sizes can't be one batch.*--batch_size 1"),
    "not square": ("warn", "sizes", r"all 5 images not square.*--preprocess scale_width_and_crop"),
    "enlarged": ("warn", "sizes", r"32 is enlarged to 143.*--load_size 32 --crop_size 32"),
    "heic": ("warn", "data", r"not read: 1 \.heic"),
    "single pictures": ("warn", "pairs", r"5 files look like one picture cut in two"),
    "grey": ("warn", "channels", r"images A: all 5 grey.*--input_nc 1"),
    "colour as grey": ("warn", "channels", r"images B: colour.*read as 1: --output_nc 3"),
    "nothing": ("FAIL", "data", r"train is not there"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_of_the_data_is_told_with_its_file_and_its_cure(examine_, pairs, fault):
    level, subject, pattern = FAULTS[fault]
    seen = examine_(f"--dataroot {pairs} --model pix2pix", f"{TINY} {spoil(pairs, fault)}")
    assert any(re.search(pattern, text) for text in seen.of(level, subject)), seen.text
    assert seen.status == (level == "FAIL")


def test_pairs_in_two_folders_need_partners_of_their_size(examine_, tmp_path):
    for seed in range(3):
        make_image(tmp_path / "two/trainA" / f"{seed}.png", 32, 32, seed=seed)
        make_image(tmp_path / "two/trainB" / f"{seed}.jpg", 32 + (seed == 2), 32, seed=10 + seed)
    make_image(tmp_path / "two/trainA/alone.png", 32, 32)
    seen = examine_(f"--dataroot {tmp_path}/two --model pix2pix")
    assert any("alone" in text for text in seen.of("warn", "data"))
    assert re.search(r"1 of 3 pairs of two sizes \(.*2.png 32x32, .*2.jpg 33x32\)", seen.of("FAIL", "pairs")[0])
    assert seen.status == 1


@pytest.mark.parametrize(("shared", "level"), [(1, "warn"), (4, "FAIL")])
def test_images_that_are_in_both_domains_are_told(examine_, domains, shared, level):
    (domains / "trainA/4.png").unlink()
    for seed in range(shared):
        shutil.copy(domains / f"trainA/{seed}.png", domains / f"trainB/{100 + seed}.png")
    seen = examine_(f"--dataroot {domains} --model cycle_gan")
    assert re.match(rf"{shared} both in A and in B \(.*trainA/0.png", seen.of(level, "copies")[0])


def test_pairs_that_are_fed_as_single_images_are_told(examine_, pairs, monkeypatch):
    for seed in range(5):
        pair(seed, 64).save(pairs / "train" / f"{seed}.png")
    seen = examine_(f"--dataroot {pairs} --model template --dataset_mode template")
    assert "all 5 files look like two images side by side" in seen.of("warn", "pairs")[0]


def test_colourless_photos_can_not_teach_colour(examine_, pairs):
    for path in (pairs / "train").iterdir():
        Image.open(path).convert("L").save(path)
    seen = examine_(f"--dataroot {pairs} --model colorization")
    assert seen.status == 1
    assert seen.of("FAIL", "channels")


def test_a_part_is_looked_at_when_time_or_number_are_short(examine_, pairs, monkeypatch):
    monkeypatch.setattr(dataset, "MOST_ITEMS", 3)
    assert examine_(f"--dataroot {pairs} --model pix2pix").of("ok", "pixels") == ["3 of 5 pairs decoded, all are whole"]
    monkeypatch.setattr(image_files, "MOST_SECONDS", -1)
    monkeypatch.setattr(image_files, "core_count", lambda: 1)
    seen = examine_(f"--dataroot {pairs} --model pix2pix --max_dataset_size 5")
    assert seen.of("ok", "files")[0].startswith("4 of 5 files")


def test_names_of_files_can_not_speak_to_the_terminal(examine_, pairs):
    hostile = "a\x1b[31m\n\u202eFAIL  data"
    pair(0).save(pairs / "train" / f"{hostile}.png")
    (pairs / "train" / f"{hostile}0.png").write_text("no")
    with open(os.fsencode(pairs / "train") + b"/\xe9.png", "wb") as file:  # noqa: PTH123 - a name that is no UTF-8
        file.write(b"no")
    text = examine_(f"--dataroot {pairs} --model pix2pix").text
    assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f\u202e\udc00-\udfff]", text)
    assert r"a\x1b[31m\n" in text
    assert r"\udce9.png" in text


@pytest.mark.parametrize("quality", [None, 75])
def test_a_picture_that_goes_on_is_told_from_two_side_by_side(quality):
    def stored(image):
        file = io.BytesIO()
        image.save(file, **({"format": "PNG"} if quality is None else {"format": "JPEG", "quality": quality}))
        return Image.open(file).convert("RGB")

    def textured(seed):
        noise = np.random.default_rng(seed).normal(0, 4, (128, 256, 3))
        return Image.fromarray((np.asarray(picture(seed, 256, 128)) + noise).clip(0, 255).astype(np.uint8))

    one = [pixels.is_cut_through(stored(textured(seed)), 128) for seed in range(20)]
    two = [pixels.is_cut_through(stored(pair(seed, 128)), 128) for seed in range(20)]
    assert one.count(True) >= 18
    assert one.count(False) == 0
    assert two.count(False) >= 18
    assert two.count(True) == 0
    assert pixels.is_cut_through(Image.new("RGB", (256, 128), "white"), 128) is None
    noise = np.random.default_rng(0).integers(0, 256, (128, 256, 3), dtype=np.uint8)
    assert pixels.is_cut_through(Image.fromarray(noise), 128) is None


def test_the_first_batch_is_searched_for_what_teaches_nothing():
    A = torch.rand(3, 3, 8, 8) * 2 - 1
    B = torch.rand(3, 3, 8, 8) * 2 - 1
    A[1] = torch.tensor([0.1, 0.5, -1])[:, None, None]
    B[2] = A[2]
    batch = {"A": A, "B": B, "A_paths": ["x.png", "y\n.png", "z.png"], "B_paths": ["p", "q", "r"]}
    assert first_batch.find_useless_items(batch) == [
        "y\\n.png has a single colour (A): instance norm can't scale it",
        "z.png: A and B are the same image",
    ]
    assert first_batch.find_useless_items({"A": B, "text": ["x"], "numbers": torch.ones(3)}) == []


# ---- disk ----


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Tiny runs: for each its options, what its files took in the end, and the most that they took at once."""
    folder = tmp_path_factory.mktemp("runs")
    for seed in range(4):
        for name in ("train", "trainA", "trainB"):
            (folder / name).mkdir(exist_ok=True)
            pair(seed).save(folder / name / f"{seed}.png")
    results = {}
    for name, words in (
        ("pix2pix", "--model pix2pix --save_latest_freq 3"),
        ("cycle_gan", "--model cycle_gan --netG resnet_6blocks --pool_size 4 --save_latest_freq 3"),
        ("iters", "--model pix2pix --ema 0.9 --save_by_iter --save_latest_freq 3"),
    ):
        line = f"--dataroot {folder} --name {name} --checkpoints_dir {folder} {TINY} {words} --no_html"
        line += " --n_epochs 3 --n_epochs_decay 2 --save_epoch_freq 2"
        opt = TrainOptions(line).parse()
        most, rename = [], util.checkpoint.checkpointer.publish

        def watch(path, rename=rename, most=most):
            most.append(disk_used(path.parent))
            rename(path)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(util.checkpoint.checkpointer, "publish", watch)
            program.train(opt)
        results[name] = SimpleNamespace(line=line, opt=opt, end=disk_used(folder / name), most=max(most))
    return results


def disk_used(folder):
    """Sum up networks and states; a hard link takes nothing."""
    stats = [path.stat() for path in folder.iterdir() if re.search(r"\.pth(\.new)?$", path.name)]
    return sum({stat.st_ino: stat.st_size for stat in stats}.values())


def on_meta(opt):
    """Make the model of some options without memory."""
    with torch.device("meta"):
        model = create_model(
            argparse.Namespace(**{**vars(opt), "device": torch.device("meta"), "continue_train": False})
        )
    model.setup(model.opt)
    return model


@pytest.mark.parametrize("name", ["pix2pix", "cycle_gan", "iters"])
def test_the_disk_space_foretold_is_what_a_run_takes(runs, name):
    run = runs[name]
    one = disk_forecast.checkpoint_size(on_meta(run.opt), run.opt.crop_size)
    every_iters = 3 if name == "iters" else 0
    sets = disk_forecast.count_checkpoints(1, 5, 2, images=4, step=1, every_iters=every_iters)
    assert sets == 3 + 6 * (name == "iters")  # epochs 2, 4, 5; of 20 images 3, 6, ... 18
    assert disk_forecast.size_at_end(one, sets) == pytest.approx(run.end, rel=0.02)
    assert disk_forecast.largest_size(one, sets) == pytest.approx(run.most, rel=0.1)
    assert disk_forecast.forecast_disk(run.opt, on_meta(run.opt), 4).text.startswith(f"{sets} numbered checkpoints")


def test_a_full_disk_is_reported_before_training_with_a_frequency_that_fits(runs, monkeypatch, capsys):
    opt, one = runs["pix2pix"].opt, disk_forecast.CheckpointSize(1000, 2000)

    def compare(free):
        monkeypatch.setattr(machine.shutil, "disk_usage", lambda _: SimpleNamespace(free=free))
        count = lambda freq: disk_forecast.count_checkpoints(1, 200, freq)  # noqa: E731
        return disk_forecast.compare_disk("checkpoints/x", one, count, 5)

    need = disk_forecast.largest_size(one, 40)
    assert need == 2 * 3000 + 39 * 1000 + 38 * 3000 + 2000
    assert compare(need).level == "ok"
    found = compare(need - 1)
    assert (found.level, found.advice.split(",")[0]) == ("warn", "--save_epoch_freq 10")
    assert compare(41000).advice.startswith("--save_epoch_freq 20,")
    assert compare(2999).level == "FAIL"

    model = on_meta(opt)
    with pytest.raises(UserError, match="not even one fits; free some space"):
        disk_forecast.check_disk(opt, model, images=4)
    compare(disk_forecast.checkpoint_size(model, 32).total + 1)
    disk_forecast.check_disk(opt, model, images=4)
    assert re.match("warning: 3 numbered checkpoints .* need up to .*; free some space", capsys.readouterr().err)
    compare(10**12)
    disk_forecast.check_disk(opt, model, images=4)
    assert capsys.readouterr().err == ""


def test_a_place_that_can_not_be_a_folder_is_told(examine_, pairs, tmp_path):
    (tmp_path / "file").write_text("")
    seen = examine_(f"--dataroot {pairs} --model pix2pix --checkpoints_dir {tmp_path}/file")
    assert seen.status == 1
    assert "is no folder" in seen.of("FAIL", "disk")[0]
    assert seen.of("warn", "picture")


# ---- memory ----


@pytest.mark.parametrize(
    "words", ["--model pix2pix --netG unet_64", "--model cycle_gan --netG resnet_6blocks --pool_size 0"]
)
def test_the_memory_foretold_is_what_the_tensors_of_a_step_take(runs, words):
    opt = TrainOptions(f"--dataroot x {TINY} {words} --crop_size 64 --load_size 64 --batch_size 2").parse(begin=False)
    batch = {"A": torch.rand(2, 3, 64, 64), "B": torch.rand(2, 3, 64, 64), "A_paths": ["a"] * 2, "B_paths": ["b"] * 2}
    foretold = memory.measure_step(on_meta(opt), batch, training=True)
    model = create_model(opt)
    model.setup(opt)
    with memory.TensorBytes() as seen:
        for _ in range(2):
            model.set_input(batch)
            model.optimize_parameters()
    weights = sum(p.nbytes for net in model.networks().values() for p in net.parameters())
    assert foretold.least == pytest.approx(weights + seen.peak, rel=0.1)


def test_too_little_memory_is_told_with_a_batch_or_a_crop_that_fits():
    need = memory.StepMemory(images=800, fixed=200)

    def about(total, free, batch_size):
        return memory.compare_memory(need, total, free, "the GPU", batch_size, 256)

    likely = need.likely
    assert likely == 200 + 1.6 * 800
    assert about(2000, likely, 8).level == "ok"
    assert about(0, 0, 8).level == "ok"  # a system that doesn't tell
    found = about(2000, 850, 8)  # half of the images' part is there
    assert (found.level, found.cure.split(" or ")[0]) == ("warn", "--batch_size 4")
    assert about(2000, 850, 1).cure.startswith("--crop_size 160 or")  # 256 * sqrt(0.51) = 182, a multiple of 32
    assert about(999, 900, 1).level == "FAIL"  # less in all than the tensors alone
    total, free = machine.main_memory()
    assert 0 < free <= total


# ---- checkpoints ----


@pytest.fixture
def ran(runs, tmp_path, examine_):
    """A finished run in a folder of its own; examining it changes nothing there."""
    source, folder = runs["pix2pix"].opt.checkpoints_dir, tmp_path / "checkpoints"
    shutil.copytree(f"{source}/pix2pix", folder / "pix2pix")

    def ran(words, first="train.py"):
        before = {path.name: path.stat().st_mtime_ns for path in (folder / "pix2pix").iterdir()}
        seen = examine_(f"{first} --dataroot {source} --name pix2pix {words}", "--gpu_ids -1 --num_threads 0")
        assert {path.name: path.stat().st_mtime_ns for path in (folder / "pix2pix").iterdir()} == before
        return seen

    ran.folder = folder / "pix2pix"
    return ran


def test_going_on_says_what_is_left_and_with_what(ran):
    seen = ran("--continue_train --n_epochs 9")
    assert seen.status == 0
    assert seen.of("ok", "epochs") == ["6 to 11 are left to train; 4 images, 4 batches in each"]
    assert "fit" in seen.of("ok", "checkpoint")[0]
    assert seen.of("ok", "memory")
    seen = ran("--continue_train --n_epochs 9 --epoch 2")
    assert seen.of("ok", "epochs") == ["3 to 11 are left to train; 4 images, 4 batches in each"]
    assert "only weights were saved" in seen.of("warn", "checkpoint")[0]


def test_a_run_that_has_nothing_left_fails_with_the_command_that_trains_on(ran):
    seen = ran("--continue_train")
    assert seen.status == 1
    assert "nothing is left to train" in seen.of("FAIL", "epochs")[0]
    assert "--continue_train --n_epochs 4" in seen.of("FAIL", "epochs")[0]


def test_beginning_where_networks_are_is_told(ran):
    seen = ran("--model pix2pix --netG unet_32")
    assert seen.status == 0
    assert "over which this run would write" in seen.of("warn", "epochs")[0]


@pytest.mark.parametrize("fault", ["missing", "damaged", "cut off", "running"])
def test_what_is_wrong_with_a_checkpoint_is_told(ran, fault):
    if fault == "missing":
        (ran.folder / "latest_net_D.pth").unlink()
    elif fault == "damaged":
        (ran.folder / "latest_net_D.pth").unlink()
        (ran.folder / "latest_net_D.pth").write_bytes(b"x")
    elif fault == "cut off":
        (ran.folder / "latest_net_D.pth.new").write_bytes(b"x")
    else:
        holder = "import fcntl, sys; f = open(sys.argv[1], 'w'); fcntl.flock(f, 2); print(1, flush=True); input()"
        command = [sys.executable, "-c", holder, str(ran.folder / ".lock")]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
            process.stdout.readline()
            seen = ran("--continue_train --n_epochs 9")
            process.stdin.close()
        assert "another run is training" in seen.of("FAIL", "checkpoint")[0]
        return
    seen = ran("--continue_train --n_epochs 9")
    assert seen.of("warn" if fault == "cut off" else "FAIL", "checkpoint")
    assert seen.status == (fault != "cut off")


def test_testing_is_examined_with_test_pys_arguments(ran, examine_, pairs):
    seen = ran("--phase train --num_test 3", first="some/where/test.py")
    assert seen.status == 0
    assert "the first 3 are translated (--num_test inf: all)" in seen.of("ok", "data")[0]
    assert seen.of("ok", "files")[0].startswith("all 3 files")
    assert seen.of("ok", "disk")[0].startswith("3 results need")
    assert seen.of("ok", "memory")
    assert seen.of("ok", "epochs") == []
    assert "\n  python test.py --dataroot" in seen.text
    seen = examine_(f"test.py --dataroot {pairs} --name no_such", "--gpu_ids -1")
    assert seen.status == 1
    assert "no folder" in seen.of("FAIL", "checkpoint")[0]


# ---- plug-ins ----


def test_faults_of_a_model_and_of_a_data_set_that_are_not_ours_are_told(examine_, pairs, monkeypatch):
    line = f"--dataroot {pairs} --model pix2pix"
    with monkeypatch.context() as patch:
        patch.setattr(Pix2PixModel, "forward", lambda self: self.real_A.numpy())
        seen = examine_(line)
        assert (seen.status, len(seen.of("warn", "memory"))) == (0, 1)
    with monkeypatch.context() as patch:
        patch.setattr(Pix2PixModel, "forward", lambda self: self.netG(self.real_A[:, :2]))
        seen = examine_(line)
        assert (seen.status, len(seen.of("FAIL", "step"))) == (1, 1)
    with monkeypatch.context() as patch:
        patch.setattr(Pix2PixModel, "__init__", lambda self, opt: self.no_such)
        assert "AttributeError" in examine_(line).of("FAIL", "networks")[0]
    monkeypatch.setattr(template_dataset.TemplateDataset, "__getitem__", lambda self, index: {}["A"])
    seen = examine_(f"{line} --dataset_mode template")
    assert "12 items can't be loaded, the first as item 0: KeyError" in seen.of("FAIL", "loading")[0]


# ---- the machine ----


def gpu(monkeypatch, compute):
    """Pretend that there is a GPU, on which `torch.ones` does what `compute` does."""
    properties = SimpleNamespace(name="GPU X", major=9, minor=0)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda _: properties)
    monkeypatch.setattr(torch.cuda, "get_arch_list", lambda: ["sm_70", "sm_80"])
    monkeypatch.setattr(device, "nvidia_smi", {"name": "GPU X", "driver_version": "470.1"}.get)
    monkeypatch.setattr(torch, "ones", lambda *_, **__: compute())
    return list(device.about_device(argparse.Namespace(device=torch.device("cuda", 0)), "0"))


def test_a_gpu_is_named_and_has_to_compute(monkeypatch):
    (found,) = gpu(monkeypatch, lambda: torch.tensor([1.0, 1.0]))
    assert (found.level, "GPU X" in found.text, "470.1" in found.text) == ("ok", True, True)

    def fail():
        raise RuntimeError("CUDA error: no kernel image is available\nmore")

    (found,) = gpu(monkeypatch, fail)
    assert found.level == "FAIL"
    assert "no kernel image is available (it is sm_90; torch has sm_70 sm_80)" in found.text


@pytest.mark.parametrize(
    ("smi", "cuda", "hidden", "reason"),
    [
        ("", "13.0", None, "no driver of NVIDIA's answers"),
        ("GPU X", None, None, "without CUDA"),
        ("GPU X", "13.0", "", "CUDA_VISIBLE_DEVICES= hides the GPU X"),
        ("GPU X", "13.0", None, "CUDA 13.0 of this torch does not work with the GPU X's driver"),
    ],
)
def test_why_there_is_no_gpu_is_told(monkeypatch, smi, cuda, hidden, reason):
    monkeypatch.setattr(device, "nvidia_smi", lambda field: smi)
    monkeypatch.setattr(torch.version, "cuda", cuda)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if hidden is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", hidden)
    opt = argparse.Namespace(device=torch.device("cpu"))
    (found,) = device.about_device(opt, "0")
    assert found.level == "warn"
    assert reason in found.text
    assert found.cure
    (found,) = device.about_device(opt, "-1")
    assert found.level == "ok"


def test_processes_that_load_images_need_cores_and_shared_memory(monkeypatch):
    def about(num_threads, kind="cpu", free=10**12, batch_size=4):
        monkeypatch.setattr(device, "core_count", lambda: 2)
        monkeypatch.setattr(device.shutil, "disk_usage", lambda _: SimpleNamespace(free=free))
        opt = argparse.Namespace(num_threads=num_threads, batch_size=batch_size, device=torch.device(kind))
        found = device.about_workers(opt, {"A": torch.zeros(3, 256, 256), "A_paths": "x"})
        return found.level, found.cure.split(";")[0]

    assert about(4) == ("ok", "")
    assert about(0) == ("ok", "")
    assert about(0, "cuda") == ("warn", "--num_threads 2")
    assert about(9) == ("warn", "--num_threads 2")
    if os.path.isdir("/dev/shm"):  # noqa: PTH112
        need = 3 * 4 * 4 * 3 * 256 * 256 * 4
        assert about(4, free=need) == ("ok", "")
        assert about(4, free=need - 1) == ("FAIL", "docker run --shm-size 8g, or --num_threads 0")


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


def test_colours_are_for_terminals(monkeypatch, capsys):
    findings = [Finding("FAIL", "data", "text.", "cure")]
    doctor.Report().show(findings)
    assert capsys.readouterr().out == "FAIL  data        text: cure\n"
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    monkeypatch.delenv("NO_COLOR", raising=False)
    doctor.Report().show(findings)
    assert capsys.readouterr().out == "\033[1;31mFAIL\033[0m  data        text: cure\n"
    monkeypatch.setenv("NO_COLOR", "1")
    doctor.Report().show(findings)
    assert "\033" not in capsys.readouterr().out
