"""The studies: their arms are the papers', their tables are complete, and an interrupted study resumes."""

from __future__ import annotations

import importlib
import json
import shlex
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import ROOT, make_aligned, make_unaligned, type_command
from PIL import Image
from terminal import type_fast

from models import networks
from options.train_options import TrainOptions

sys.path.insert(0, str(ROOT / "scripts/studies"))  # as when a recipe is run
study, larger, noise = map(importlib.import_module, ("study", "larger", "noise"))
report, programs = map(importlib.import_module, ("report", "programs"))

RECIPES = ["losses", "generators", "patches", "larger", "cyclegan", "noise", "batch_statistics"]
TINY = "--ngf 2 --ndf 2 --n_epochs 1 --n_epochs_decay 0 --max_dataset_size 1 --no_html --gpu_ids -1"
LEVEL = 1 / 255  # test.py truncates pixels
ARMS = {  # of the studies that are run, with the rows of their tables after the baselines
    "losses": (["L1", "L1+cGAN"], ["L1", "L1+cGAN"]),
    "larger": (["L1+cGAN"], ["pieces of 32 (as in training)", "pieces of 64"]),
    "cyclegan": (["CycleGAN"], ["CycleGAN"]),
    "noise": (["L1+cGAN"], ["L1+cGAN"]),
    "batch_statistics": (["batches of 1"], ["batches of 1, its own", "batches of 1, --eval"]),
}


def recipe(name):
    return importlib.import_module(name).STUDY


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Two pairs of 64 pixels for training and testing, side by side and as two domains."""
    folder = make_aligned(tmp_path_factory.mktemp("data") / "tiny", count=2, side=64)
    for path in [*folder.glob("*/*.png")]:
        for side in "AB":
            image = Image.open(path).crop((64 * (side == "B"), 0, 64 + 64 * (side == "B"), 64))
            place = folder / f"{path.parent.name}{side}" / path.name
            place.parent.mkdir(exist_ok=True)
            image.save(place)
    return folder


@pytest.fixture
def typed(monkeypatch):
    """Run the studies' commands in a process that has imported PyTorch; return the commands."""
    commands = []

    def execute(words, log):
        commands.append(words)
        done = type_fast(" ".join(map(shlex.quote, [str((Path.cwd() / words[0]).resolve()), *words[1:]])), ROOT)
        with log.open("a", encoding="utf-8") as file:
            file.write(done.stdout + done.stderr)
        return done.returncode

    monkeypatch.setattr(programs, "execute", execute)
    monkeypatch.setattr(noise, "DRAWS", 2)
    monkeypatch.chdir(ROOT)
    return commands


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory):
    return tmp_path_factory.mktemp("checkpoints")


def run_study(name, data, checkpoints, out, *words, more=TINY, metrics=("l1", "psnr")):
    """Run a study at a tiny size; return its JSON document."""
    size = {"larger": 32, "cyclegan": 32}.get(name, 64)
    places = ["--dataroot", data, "--checkpoints_dir", checkpoints, "--out", out, "--metrics", *metrics]
    line = ["--quick", "--size", size, "--seeds", 3, *places, "--gpu_ids", -1, "--more", more, *words]
    study.main(recipe(name), list(map(str, line)))
    return json.loads((out / "table.json").read_text(encoding="utf-8"))


# ---- arms ----


def options_of(name, args, arm):
    """Parse the options of a study's arm as train.py does."""
    words = study.options_of(recipe(name), args, arm)
    assert "{" not in " ".join(words)
    return TrainOptions(["--dataroot", "D", "--gpu_ids", "-1", *words]).parse(begin=False)


@pytest.mark.parametrize("quick", [True, False])
@pytest.mark.parametrize("name", RECIPES)
def test_train_py_accepts_the_options_of_every_arm(name, quick, away):
    args = study.parse(recipe(name), ["--quick"] * quick)
    for arm in args.arms:
        opt = options_of(name, args, arm)
        assert (opt.model, opt.crop_size) == (recipe(name).model, args.size)
        total = opt.n_epochs + opt.n_epochs_decay
        assert total <= 10 if quick else total == 200


@pytest.mark.parametrize(
    ("name", "options", "expected"),
    [
        (
            "losses",
            ("lambda_L1", "lambda_GAN", "unconditional_D"),
            [(100, 0, False), (0, 1, True), (0, 1, False), (100, 1, True), (100, 1, False)],
        ),
        (
            "cyclegan",
            ("lambda_GAN", "lambda_A", "lambda_B", "lambda_identity"),
            [(0, 10, 10, 0), (1, 0, 0, 0), (1, 10, 0, 0), (1, 0, 10, 0), (1, 10, 10, 0), (1, 10, 10, 0.5)],
        ),
    ],
)
def test_the_arms_have_the_losses_of_the_paper(name, options, expected, away):
    args = study.parse(recipe(name), [])
    for arm, values in zip(args.arms, expected, strict=True):
        opt = options_of(name, args, arm)
        assert tuple(getattr(opt, option) for option in options) == values


@pytest.mark.parametrize(("arm", "field"), [("1 x 1", 1), ("16 x 16", 16), ("70 x 70", 70), ("286 x 286", 286)])
def test_each_discriminator_of_patches_sees_the_pixels_in_its_name(arm, field, away):
    opt = options_of("patches", study.parse(recipe("patches"), []), arm)
    net = networks.define_D(1, 1, opt.netD, opt.n_layers_D, "none")
    for p in net.parameters():
        p.data.fill_(0.1)  # nothing cancels out
    x = torch.zeros(1, 1, 640, 640, requires_grad=True)
    logits = net(x)
    logits[0, 0, logits.shape[2] // 2, logits.shape[3] // 2].backward()
    rows = x.grad[0, 0].abs().sum(1).nonzero()
    assert rows.max() - rows.min() + 1 == field


# ---- a whole study ----


@pytest.mark.parametrize("name", ARMS)
def test_a_study_trains_its_arms_and_writes_table_and_sheet(name, data, checkpoints, typed, tmp_path, monkeypatch):
    cells = []
    sheet = report.contact_sheet
    monkeypatch.setattr(report, "contact_sheet", lambda rows, side: cells.append(rows) or sheet(rows, side))
    arms, rows = ARMS[name]
    found = run_study(name, data, checkpoints, tmp_path / "out", "--arms", *arms)
    titles = ["A → B", "B → A"] if name == "cyclegan" else ["A → B"]
    assert list(found["tables"]) == titles
    trivial = [] if name == "noise" else ["the input itself", "the mean target"]
    for title in titles:
        assert list(found["tables"][title]) == [*trivial, *rows]
        for row in found["tables"][title].values():
            assert row.keys() == {"3"}
    assert found["images"] == 2
    assert len({len(row) for row in cells[0]}) == 1  # as many columns in each row
    labels = [label for label, _ in cells[0][0]]
    if name == "noise":
        assert labels == ["input", "L1+cGAN, draw 1", "L1+cGAN, draw 2", "spread of 2, times 10", "ground truth"]
    else:
        assert labels == ["A to B: input", *rows, "ground truth"]
    assert len(cells[0]) == 2 * len(titles)
    assert Image.open(tmp_path / "out/sheet.png").size == sheet(cells[0], 256).size
    text = (tmp_path / "out/table.md").read_text(encoding="utf-8")
    lines = [line for line in text.splitlines() if line.startswith("|")]
    extra = {"losses": 1}.get(name, 0)  # the paper's ground truth
    assert len(lines) == len(titles) * (2 + len(trivial) + len(rows)) + extra
    assert len({line.count("|") for line in lines}) == 1
    assert "python train.py" in text
    for seeds in (seeds for rows in found["folders"].values() for seeds in rows.values()):
        assert list(Path(seeds["3"]).rglob("*_fake_*.png"))


def test_arms_that_another_study_has_trained_are_not_trained_again(data, checkpoints, typed, tmp_path):
    run_study("losses", data, checkpoints, tmp_path / "losses", "--arms", "L1+cGAN")
    typed.clear()
    run_study("patches", data, checkpoints, tmp_path / "patches", "--arms", "70 x 70")
    assert [words[0] for words in typed] == ["test.py"]


def test_two_baselines_that_need_no_training_are_measured(data, tmp_path, typed, checkpoints):
    images = [[np.asarray(Image.open(data / f"test{side}/{i:02}.png"), float) for i in range(2)] for side in "AB"]
    words = ["--arms", "L1", "--direction", "BtoA"]
    (found,) = run_study("losses", data, checkpoints, tmp_path, *words)["tables"].values()
    distance = np.mean([abs(a - b).mean() for a, b in zip(*images, strict=True)]) / 255
    assert found["the input itself"]["3"]["l1"] == pytest.approx(distance, abs=LEVEL)
    mean = np.mean([np.asarray(Image.open(path), float) for path in (data / "trainA").glob("*")], axis=0).round()
    distance = np.mean([abs(mean - image).mean() for image in images[0]]) / 255
    assert found["the mean target"]["3"]["l1"] == pytest.approx(distance, abs=LEVEL)


def test_images_that_are_no_pairs_are_compared_as_sets(tmp_path, typed):
    data = make_unaligned(tmp_path / "two", count_A=2, count_B=2)
    words = ["--arms", "GAN alone"]
    found = run_study("cyclegan", data, tmp_path, tmp_path / "out", *words, metrics=("l1", "kid_lite0"))
    assert [list(found["tables"][title]["GAN alone"]["3"]) for title in ("A → B", "B → A")] == [["kid_lite0"]] * 2
    assert list(found["tables"]["A → B"]) == ["GAN alone"]  # no baselines without pairs


def test_a_cell_has_the_mean_and_range_over_seeds():
    cells = list(report.cells_of("x", {0: {"psnr": 20.0}, 1: {"psnr": 23.0}, 2: {"psnr": 20.0}}, ["psnr", "ssim"]))
    assert cells == ["x", "21.00 (20.00 to 23.00)", "-"]


def test_joined_tiles_are_the_image(data, tmp_path):
    args = study.parse(larger.STUDY, ["--quick", "--size", "16", "--out", str(tmp_path)])
    place = type("Place", (), {"args": args, "data": data, "out": tmp_path, "halves": True})
    pieces = larger.cut(place)
    assert list(pieces) == [16, 32, 64]
    assert [len(list(folder.glob("test/*"))) for folder in pieces.values()] == [32, 8, 2]
    for path in pieces[16].glob("test/*.png"):
        for side, label in enumerate(("real_A", "real_B")):
            (tmp_path / "cut").mkdir(exist_ok=True)
            Image.open(path).crop((16 * side, 0, 16 + 16 * side, 16)).save(tmp_path / f"cut/{path.stem}_{label}.png")
    whole = larger.join(tmp_path / "cut", tmp_path / "whole")
    for name, side in (("00_real_A.png", "A"), ("01_real_B.png", "B")):
        assert np.array_equal(Image.open(whole / name), Image.open(data / f"test{side}/{name[:2]}.png"))


def test_diversity_is_spread_and_distance_of_draws(tmp_path):
    draws = []
    for i, level in enumerate((100, 110, 130)):
        path = tmp_path / f"{i}.png"
        Image.new("RGB", (4, 4), (level,) * 3).save(path)
        draws.append([(path, path)])
    found = noise.diversity(draws)
    assert found["spread"] == pytest.approx(np.std([100, 110, 130], ddof=1) / 255)
    assert found["distance"] == pytest.approx((10 + 30 + 20) / 3 / 255)


# ---- interrupted and resumed ----


def test_an_interrupted_arm_resumes(data, tmp_path, typed):
    run_study("losses", data, tmp_path, tmp_path / "out", "--arms", "L1")
    typed.clear()
    (folder,) = tmp_path.glob("pix2pix_*")
    (folder / ".trained").unlink()
    with pytest.raises(SystemExit):  # its one epoch is trained: train.py says so
        run_study("losses", data, tmp_path, tmp_path / "out", "--arms", "L1")
    assert (typed[0][0], typed[0][-1]) == ("train.py", "--continue_train")


def test_a_failing_command_ends_the_study_with_its_output(data, tmp_path, typed, capsys):
    with pytest.raises(SystemExit) as end:
        run_study("losses", data, tmp_path, tmp_path / "out", "--arms", "L1", more=f"{TINY} --norm bach")
    assert "failed with status 2" in str(end.value)
    assert "Did you mean 'batch'?" in str(end.value)
    assert str(tmp_path / "out/log.txt") in str(end.value)


def test_an_interruption_is_passed_on_and_waited_for(tmp_path):
    code = (
        "import pathlib, signal, sys, time\n"
        "signal.signal(signal.SIGTERM, lambda *_: (pathlib.Path('saved').touch(), sys.exit(3)))\n"
        "print('ready', flush=True); time.sleep(60)"
    )
    pipes = {"stdout": subprocess.PIPE, "start_new_session": True, "cwd": tmp_path}
    with subprocess.Popen([sys.executable, "-c", code], **pipes) as process:
        process.stdout.readline()
        former = signal.signal(signal.SIGALRM, lambda *_: sys.exit())
        signal.setitimer(signal.ITIMER_REAL, 0.2)
        try:
            with pytest.raises(SystemExit):
                programs.wait_for(process)
        finally:
            signal.signal(signal.SIGALRM, former)
    assert process.returncode == 3
    assert (tmp_path / "saved").exists()


# ---- errors ----


def error_of(name, *words):
    """Return the error of a study's command line."""
    with pytest.raises(SystemExit) as end:
        study.main(recipe(name), list(map(str, words)))
    return str(end.value)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_full_size_without_a_gpu_is_an_error(data, tmp_path):
    text = error_of("losses", "--dataroot", data, "--out", tmp_path / "out")
    assert "5 arms of 3 seeds train on 2 images for 200 epochs each: days on a CPU" in text
    assert "--quick" in text
    assert "--cpu" in text
    assert not (tmp_path / "out").exists()


def test_data_without_a_test_set_are_an_error(tmp_path, typed):
    make_aligned(tmp_path / "half", phases=("train",), count=1)
    assert str(tmp_path / "half/test") in error_of("losses", "--quick", "--dataroot", tmp_path / "half")
    assert str(tmp_path / "half/testA") in error_of("cyclegan", "--quick", "--dataroot", tmp_path / "half")


def test_a_missing_dataset_is_an_error_with_its_download_command(tmp_path, typed):
    assert "bash datasets/download_pix2pix_dataset.sh maps" in error_of("larger", "--out", tmp_path / "out")
    assert typed == []


def test_help_does_not_import_torch():
    code = "import runpy, sys; sys.argv = ['x', '--help']; sys.path.insert(0, 'scripts/studies')\n"
    code += "try: runpy.run_path('scripts/studies/losses.py', run_name='__main__')\n"
    code += "except SystemExit: print('torch' in sys.modules)"
    done = type_command("-c", code)
    assert done.stdout.rstrip().endswith("False")
    assert "--quick" in done.stdout
    assert "section" in done.stdout
