"""Models, datasets and loops as users wrote them for the reference: they train, resume and translate unmodified."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import make_aligned, make_unaligned
from PIL import Image
from terminal import TINY, copy_tree, equal, loss_lines, type_fast, type_well, weights
from training_steps import make_model

from util.runtime import processes

PLUGINS = Path(__file__).resolve().parents[1] / "plugins"
EVERY = "--print_freq 1 --no_html --n_epochs_decay 0"


@pytest.fixture(scope="module")
def tree(tmp_path_factory):
    """A clone of the project into which a user has dropped files, and their data."""
    tree = copy_tree(tmp_path_factory.mktemp("plugins"))
    for package in ("models", "data"):
        for file in (PLUGINS / package).glob("*.py"):
            shutil.copy(file, tree / package)
    for file in (PLUGINS / "loops").glob("*.py"):
        shutil.copy(file, tree)
    make_aligned(tree / "pairs")
    make_unaligned(tree / "two")
    return tree


def refused(command, tree):
    """Return what a command that must fail says; a user's mistake shows no traceback."""
    done = type_fast(command, tree)
    assert done.returncode != 0
    assert "Traceback" not in done.stderr
    return done.stderr


def without(losses, *names):
    """Leave out losses that a plug-in alone has."""
    return [(epoch, i, {k: v for k, v in values.items() if k not in names}) for epoch, i, values in losses]


# ---- models and datasets ----


def test_a_model_and_a_dataset_in_the_old_style_train_resume_and_translate(tree):
    train = f"train.py --dataroot pairs --model foo_old --extra_blocks 2 --max_gain 3 {TINY} {EVERY}"
    whole = type_well(f"{train} --name old_whole --n_epochs 4", tree)
    type_well(f"{train} --name old --n_epochs 2 --num_threads 2", tree)  # workers draw what one process would draw
    rest = type_well(f"{train} --name old --n_epochs 4 --continue_train", tree)

    lines = loss_lines(whole)
    assert [(epoch, i) for epoch, i, _ in lines] == [(e, i) for e in (1, 2, 3, 4) for i in (1, 2, 3, 4)]
    assert list(lines[0][2]) == ["G_GAN", "G_rec", "G_TV", "D_real", "D_fake", "D_steps"]
    assert [values["D_steps"] for _, _, values in lines] == list(range(1, 17))
    # Gains, the pool, both optimizers: all continue as if never stopped (the plug-in's own counter does not).
    assert without(loss_lines(rest), "D_steps") == without(lines[8:], "D_steps")
    assert equal(weights(tree / "checkpoints/old"), weights(tree / "checkpoints/old_whole"))
    assert (tree / "checkpoints/old/notes").is_dir()
    assert "lambda_tv: 0.5" in (tree / "checkpoints/old/train_opt.txt").read_text()

    type_well("test.py --dataroot pairs --name old --num_test 2", tree)  # --extra_blocks 2 is known from training
    images = {path.name for path in (tree / "results/old/test_latest/images").iterdir()}
    labels = ("real_A", "coarse_B", "fake_B", "real_B")
    assert images == {f"{stem}_{label}.png" for stem in ("00", "01") for label in labels}


def test_a_model_and_a_dataset_in_the_new_style_train_resume_and_translate(tree):
    train = f"train.py --dataroot pairs --name new --model foo_new --code_nc 5 --preprocess resize {TINY} {EVERY}"
    first = type_well(f"{train} --n_epochs 4", tree)
    rest = type_well(f"{train} --n_epochs 8 --continue_train", tree)

    assert [list(values) for _, _, values in loss_lines(first)] == [["G", "E", "metric"]] * 16
    assert [values["metric"] for _, _, values in loss_lines(first)] == list(range(2, 18))
    assert [epoch for epoch, _, _ in loss_lines(rest)] == [e for e in (5, 6, 7, 8) for _ in range(4)]
    # The metric does not fall: the rate does, after the best epoch and 5 of patience and one, across the stop.
    rates = [line.split()[2:] for line in (first + rest).splitlines() if line.startswith("learning rate")]
    assert rates == [["0.0002000", "->", "0.0002000"]] * 6 + [["0.0002000", "->", "0.0000400"]] + [
        ["0.0000400", "->", "0.0000400"]
    ]

    folder = tree / "checkpoints/new"
    assert "G.model.10.conv_block.5.weight" in weights(folder)  # without dropout, since --code_nc is above 4
    bias = torch.load(folder / "4_net_E.pth", weights_only=True)["0.bias"]
    assert bias.shape == (5,)
    assert f"loaded E, bias {bias.abs().sum():.6f}\n" in rest  # by the overridden load_networks
    out = type_well("test.py --dataroot pairs --name new", tree)
    bias = torch.load(folder / "latest_net_E.pth", weights_only=True)["0.bias"]
    assert f"loaded E, bias {bias.abs().sum():.6f}\n" in out
    assert len(list((tree / "results/new/test_latest/images").glob("*_output.png"))) == 4


def test_a_subclass_of_the_aligned_dataset_feeds_pix2pix(tree):
    out = type_well(
        f"train.py --dataroot pairs --name upside --model pix2pix --dataset_mode foo_aligned --netG unet_32 "
        f"--direction BtoA --n_epochs 1 {TINY} {EVERY}",
        tree,
    )
    assert "aligned in pairs/train, 3 of them, 3 to 3 channels" in out
    assert "The number of training images = 3" in out
    type_well("test.py --dataroot pairs --name upside", tree)
    folder = tree / "results/upside/test_latest/images"
    A, B = (np.asarray(Image.open(folder / f"02_{name}.png")) for name in ("real_A", "real_B"))
    assert np.array_equal(B, A[::-1])


# ---- subclasses of the shipped models ----


@pytest.fixture(scope="module")
def pix2pix(tree):
    """The losses of a run of pix2pix itself."""
    train = f"train.py --dataroot pairs --name pix2pix --model pix2pix --netG unet_32 --n_epochs 2 {TINY} {EVERY}"
    return loss_lines(type_well(train, tree))


def test_a_subclass_of_pix2pix_with_an_added_loss_of_weight_0_trains_as_its_base_and_translates(tree, pix2pix):
    train = f"train.py --dataroot pairs --model foo_pix2pix --netG unet_32 --n_epochs 2 {TINY} {EVERY}"
    own = loss_lines(type_well(f"{train} --name neutral --lambda_tv 0", tree))
    assert without(own, "G_TV") == pix2pix
    assert equal(weights(tree / "checkpoints/neutral"), weights(tree / "checkpoints/pix2pix"))
    smooth = [values["G_TV"] for _, _, values in loss_lines(type_well(f"{train} --name tv --lambda_tv 2000", tree))]
    assert 0 < smooth[-1] < smooth[0]
    type_well("test.py --dataroot pairs --name tv", tree)
    assert len(list((tree / "results/tv/test_latest/images").glob("*.png"))) == 3 * 4


def test_a_subclass_of_cyclegan_with_overridden_backward_passes_trains_as_its_base(tree):
    train = f"train.py --dataroot two --netG resnet_6blocks --pool_size 2 --n_epochs 2 {TINY} {EVERY}"
    own = loss_lines(type_well(f"{train} --name foo_cycle --model foo_cycle --weight_D 0.5", tree))
    plain = loss_lines(type_well(f"{train} --name cycle_gan --model cycle_gan", tree))
    calls = {"calls_D": 16, "calls_D_A": 8, "calls_D_B": 8, "calls_G": 8}
    assert {name: own[-1][2][name] for name in calls} == calls
    # The base takes several images through a network at once: the order of its sums differs.
    for (_, _, mine), (_, _, theirs) in zip(without(own, *calls), plain, strict=True):
        assert mine == pytest.approx(theirs, abs=2e-3)


def test_a_subclass_of_pix2pix_that_defines_its_options_alone_trains_and_translates(tree):
    out = type_well(f"train.py --dataroot pairs --name half --model foo_half --n_epochs 1 {TINY} {EVERY}", tree)
    assert list(loss_lines(out)[0][2]) == ["G_GAN", "G_L1", "D_real", "D_fake"]
    assert "lambda_L1: 50.0" in (tree / "checkpoints/half/train_opt.txt").read_text()
    type_well("test.py --dataroot pairs --name half", tree)


def test_a_model_that_saves_and_loads_on_its_own_resumes_with_epoch_count_and_translates(tree):
    train = f"train.py --dataroot pairs --name saver --model foo_saver --netG unet_32 {TINY} {EVERY}"
    type_well(f"{train} --n_epochs 1", tree)
    folder = tree / "checkpoints/saver"
    assert {path.name for path in folder.glob("*.pth")} == {"1_net_G.pth", "latest_net_G.pth"}
    error = refused(f"{train} --n_epochs 2 --continue_train", tree)
    assert "--epoch_count 2" in error  # as for networks that the reference saved
    before = weights(folder, "1")
    out = type_well(f"{train} --n_epochs 2 --continue_train --epoch_count 2", tree)
    assert "own loading from checkpoints/saver/latest_net_G.pth" in out
    assert [epoch for epoch, _, _ in loss_lines(out)] == [2, 2, 2, 2]
    assert equal(weights(folder, "1"), before)
    assert not equal(weights(folder, "2"), before)
    assert "own loading" in type_well("test.py --dataroot pairs --name saver", tree)


# ---- options and networks ----


def test_a_generator_of_ones_own_under_its_own_netG_and_options_that_meet_ours(tree):
    train = f"train.py --dataroot pairs --model foo_net --n_epochs 1 {EVERY} {TINY}"
    train += " --seed pear --load boat --load_s 48 --lambda_reg 2 --widths 6 7"
    out = type_well(f"{train} --name net", tree)
    assert "seed 'pear' load 'boat' lambda 2 widths [6, 7]\n" in out
    assert "load_size: 48 " in out
    assert weights(tree / "checkpoints/net")["G.model.0.weight"].shape == (6, 3, 5, 5)
    same, other = (loss_lines(type_well(f"{train} --name {seed} --seed {seed}", tree)) for seed in ("pear", "fig"))
    assert loss_lines(out) == same != other  # a seed of another type decides all draws
    out = type_well("test.py --dataroot pairs --name net", tree)
    assert "widths [6, 7]\n" in out
    assert len(list((tree / "results/net/test_latest/images").glob("*_output.png"))) == 4


def test_a_generator_that_a_plugin_adds_to_the_table_is_allowed_and_listed(tree):
    train = f"train.py --dataroot pairs --name table --model foo_net --n_epochs 1 {EVERY} {TINY}"
    type_well(f"{train} --netG small_in_table", tree)
    assert weights(tree / "checkpoints/table")["G.model.0.weight"].shape == (4, 3, 5, 5)
    type_well("test.py --dataroot pairs --name table", tree)
    error = refused(f"{train} --netG small_in_tabel", tree)
    for part in ("--netG small_in_tabel", "unet_256", "Did you mean 'small_in_table'?"):
        assert part in error


# ---- plug-ins that are not found ----


@pytest.mark.parametrize(
    ("kind", "name", "text", "said"),
    [
        ("model", "foo_odl", None, ["models/foo_odl_model.py", "foo_old", "Did you mean 'foo_old'?"]),
        ("model", "bad_name", "BadNaemModel", ["models/bad_name_model.py", "BadNaemModel"]),
        ("model", "bad_base", "BadBaseModel", ["models/bad_base_model.py", "BadBaseModel"]),
        ("model", "bad_empty", "", ["models/bad_empty_model.py", "bademptymodel", "none"]),
        ("dataset", "foo_nwe", None, ["data/foo_nwe_dataset.py", "foo_new"]),
    ],
)
def test_a_plugin_that_is_not_found_says_which_file_and_class_was_looked_for(tree, kind, name, text, said):
    package, flags = ("models", "--model") if kind == "model" else ("data", "--model pix2pix --dataset_mode")
    if text is not None:  # a file whose class has another name or another base
        base = "(BaseModel)" if text == "BadNaemModel" else ""
        lines = ["from models.base_model import BaseModel"] + [f"class {text}{base}: pass"] * bool(text)
        (tree / package / f"{name}_{kind}.py").write_text("\n".join(lines))
    error = refused(f"train.py --dataroot pairs --name x {flags} {name} {TINY}", tree)
    assert error.startswith(f"error: {flags.split()[-1]} {name}")
    for part in said + ([f"subclass of Base{kind.capitalize()}"] if text is not None else []):
        assert part in error
    assert not (tree / "checkpoints/x").exists()


def test_an_import_that_fails_inside_a_plugin_shows_the_plugins_own_line(tree):
    file = tree / "models/broken_model.py"
    file.write_text("import torch\nimport not_installed_here\n")
    done = type_fast(f"train.py --dataroot pairs --name x --model broken {TINY}", tree)
    assert done.returncode == 1
    assert f'{file}", line 2' in done.stderr
    assert "No module named 'not_installed_here'" in done.stderr


def test_a_class_is_found_under_the_name_that_the_file_gives_it(tree):
    (tree / "models/foo_alias_model.py").write_text(
        "from models.template_model import TemplateModel as Foo_Alias\n"
        "class Mine(Foo_Alias):\n    pass\nFOOALIASModel = Mine\n"
    )
    out = type_well(
        f"train.py --dataroot pairs --name alias --model foo_alias --netG unet_32 --n_epochs 1 {TINY} {EVERY}", tree
    )
    assert "model [Mine] was created" in out


# ---- loops and notebooks ----


@pytest.mark.parametrize("script", ["train_old.py", "train_new.py"])
def test_a_training_loop_of_ones_own_logs_shows_saves_and_resumes(tree, script):
    name = script[:-3]
    flags = "--display_freq 2 --update_html_freq 4 --print_freq 2 --n_epochs 2 --n_epochs_decay 0 --save_epoch_freq 1"
    train = f"{script} --dataroot pairs --name {name} --model pix2pix --netG unet_32 {TINY} {flags}"
    out = type_well(f"{train} --save_latest_freq 3", tree)
    folder = tree / "checkpoints" / name
    assert [(epoch, i) for epoch, i, _ in loss_lines(out)] == [(1, 2), (1, 4), (2, 2), (2, 4)]
    assert [line for line in (folder / "loss_log.txt").read_text().splitlines() if line.startswith("(epoch")]
    assert (folder / "web/images/epoch002_fake_B.png").is_file()
    # The loop tells the model nothing of its progress: each save has to hold the weights of its time all the same.
    assert not equal(weights(folder, "1"), weights(folder, "2"))
    assert equal(weights(folder, "2"), weights(folder, "latest"))
    out = type_well(f"{train} --continue_train --epoch_count 2", tree)
    assert [epoch for epoch, _, _ in loss_lines(out)] == [2, 2]
    assert not equal(weights(folder, "2"), weights(folder, "1"))


@pytest.mark.usefixtures("pix2pix")
def test_a_testing_loop_of_ones_own_writes_the_same_results(tree):
    test = "--dataroot pairs --name pix2pix --num_test 2 --no_dropout --gpu_ids -1"
    type_well(f"translate_new.py {test} --results_dir mine", tree)
    type_well(f"test.py {test} --results_dir ours", tree)
    mine, ours = (tree / folder / "pix2pix/test_latest" for folder in ("mine", "ours"))
    files = sorted(path.name for path in (ours / "images").iterdir())
    assert len(files) == 6
    assert all((mine / "images" / name).read_bytes() == (ours / "images" / name).read_bytes() for name in files)
    assert (mine / "index.html").read_text().count("<img") == 6


def test_a_notebook_makes_models_from_parsed_and_from_handmade_options(tree):
    (tree / "notebook.py").write_text(
        "from argparse import Namespace\n"
        "from options.test_options import TestOptions\n"
        "from models import create_model\n"
        "opt = TestOptions().parse()\n"
        "model = create_model(opt)\n"
        "print(opt.device, opt.gpu_ids, model.device, model.gpu_ids)\n"
        "kept = {k: v for k, v in vars(opt).items() if k not in ('device', 'gpu_ids', 'seed')}\n"
        "model = create_model(Namespace(**kept, gpu_ids=[]))\n"
        "print('handmade', model.device, model.isTrain)\n"
    )
    out = type_well("notebook.py --dataroot pairs --model pix2pix --netG unet_32 --ngf 4 --name nb --gpu_ids -1", tree)
    assert "cpu [] cpu []\n" in out
    assert "handmade cpu False\n" in out


def test_under_torchrun_the_main_process_metric_decides_the_rate_of_all(tmp_path, monkeypatch):
    line = f"--dataroot nowhere --model template --netG unet_32 --lr_policy plateau --val_freq 1 --name ranks {TINY}"
    model = make_model(line, tmp_path)
    monkeypatch.setattr(processes, "from_main", lambda value: -value)  # it falls in the main process, and rises here
    for epoch in range(1, 9):
        model.metric = float(epoch)
        model.update_learning_rate()
    assert model.optimizers[0].param_groups[0]["lr"] == 0.0002
