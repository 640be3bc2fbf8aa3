"""The commands of README, docs and notebooks, typed on small data: output, files and their places."""

from __future__ import annotations

import re

import numpy as np
import pytest
import torch
from conftest import make_aligned, make_image, make_unaligned, names, pixels
from PIL import Image
from state_dicts import with_old_statistics
from terminal import TINY, copy_tree, loss_lines, shown_rows, type_well, weights

from models import networks
from util.util import tensor2im

SMALL = "--ngf 4 --load_size 32 --crop_size 32 --gpu_ids -1"
ONE = f"{TINY} --n_epochs 1 --n_epochs_decay 0 --print_freq 1"


@pytest.fixture(scope="module")
def tree(tmp_path_factory):
    """A clone of the project with small datasets, where `import wandb` would end the command."""
    tree = copy_tree(tmp_path_factory.mktemp("commands"))
    (tree / "wandb.py").write_text("raise SystemExit('wandb was imported, which nobody asked for')\n")
    make_unaligned(tree / "datasets/horse2zebra", phases=("train",))
    for name in ("testA/horse.png", "testA/n02381460_1010.jpg", "testB/zebra.png", "testB/zebras.png"):
        make_image(tree / "datasets/horse2zebra" / name, 32, 32, seed=len(name))
    make_aligned(tree / "datasets/facades")
    make_image(tree / "datasets/facades/test/100.png", 64, 32, seed=9)
    for i, (width, height) in enumerate([(45, 37), (64, 48)]):
        make_image(tree / f"datasets/odd/{i}.png", width, height, seed=i)
    for phase in ("train", "test"):
        make_image(tree / f"datasets/colorization/{phase}/photo.png", 40, 40, seed=3)
    return tree


def tensor(picture):
    """Turn an array (H, W, 3) into what a network gets, (1, 3, H, W) in [-1, 1]."""
    return (torch.from_numpy(picture.copy()).permute(2, 0, 1)[None].float() / 255 - 0.5) / 0.5


def kept(picture):
    """Return a picture (H, W, 3) as it is saved after having been a tensor: truncated, so a few values are 1 less."""
    saved = tensor2im(tensor(picture))
    assert np.abs(saved.astype(int) - picture).max() <= 1
    return saved


# ---- README: CycleGAN ----


@pytest.fixture(scope="module")
def horse2zebra(tree):
    """The text that training CycleGAN as in README printed."""
    command = "train.py --dataroot ./datasets/horse2zebra --name horse2zebra --model cycle_gan --display_id -1"
    return type_well(f"{command} {ONE} --display_freq 2", tree)


def test_readmes_cyclegan_training_leaves_networks_log_options_and_page(tree, horse2zebra):
    folder = tree / "checkpoints/horse2zebra"
    nets = {f"{prefix}_net_{net}.pth" for prefix in ("1", "latest") for net in ("G_A", "G_B", "D_A", "D_B")}
    assert {name for name in names(folder) if "_net_" in name} == nets
    saved = weights(folder)
    assert saved["G_A.model.18.conv_block.5.weight"].shape == (16, 16, 3, 3)  # the last of 9 blocks
    assert {key.split(".")[1] for key in saved} == {"model"}

    header, *lines = (folder / "loss_log.txt").read_text().splitlines()
    assert re.fullmatch(r"={16} Training Loss \(.+\) ={16}", header)
    loss = r"-?\d+\.\d{3} "
    order = "D_A G_A cycle_A idt_A D_B G_B cycle_B idt_B".split()
    pattern = r"\(epoch: 1, iters: \d, time: \d+\.\d{3}, data: \d+\.\d{3}\) " + "".join(f"{n}: {loss}" for n in order)
    assert len(lines) == 4
    assert all(re.fullmatch(pattern, line) for line in lines)
    assert all(line in horse2zebra.splitlines() for line in lines)

    labels = ("real_A", "fake_B", "rec_A", "idt_B", "real_B", "fake_A", "rec_B", "idt_A")
    assert {f"epoch001_{label}.png" for label in labels} <= names(folder / "web/images")
    assert (folder / "web/index.html").is_file()
    assert "The number of training images = 4\n" in horse2zebra


def test_readmes_cyclegan_test_writes_both_directions(tree, horse2zebra):
    type_well(f"test.py --dataroot ./datasets/horse2zebra --name horse2zebra --model cycle_gan {SMALL}", tree)
    folder = tree / "results/horse2zebra/test_latest"
    labels = ("real_A", "fake_B", "rec_A", "real_B", "fake_A", "rec_B")
    stems = ("horse", "n02381460_1010")
    assert names(folder / "images") == {f"{stem}_{label}.png" for stem in stems for label in labels}
    assert [images[0] for _, images in shown_rows(folder)] == [f"images/{stem}_real_A.png" for stem in stems]
    assert "Experiment = horse2zebra, Phase = test, Epoch = latest" in (folder / "index.html").read_text()


def test_one_side_of_a_trained_cyclegan_keeps_odd_sizes(tree, horse2zebra):
    flags = "--name horse2zebra --model test --model_suffix _A --preprocess none --no_dropout --gpu_ids -1 --ngf 4"
    type_well(f"test.py --dataroot datasets/odd --results_dir one_side {flags}", tree)
    folder = tree / "one_side/horse2zebra/test_latest/images"
    assert names(folder) == {"0_real.png", "0_fake.png", "1_real.png", "1_fake.png"}
    for i in "01":
        assert np.array_equal(pixels(folder / f"{i}_real.png"), kept(pixels(tree / f"datasets/odd/{i}.png")))
        assert pixels(folder / f"{i}_fake.png").shape == pixels(folder / f"{i}_real.png").shape


# ---- README: pix2pix ----


def test_readmes_pix2pix_commands_with_direction_BtoA_and_the_page_of_results(tree):
    name = "--dataroot ./datasets/facades --name facades_pix2pix --model pix2pix --direction BtoA"
    out = type_well(f"train.py {name} --display_id -1 {ONE} --netG unet_32", tree)
    assert [list(values) for _, _, values in loss_lines(out)] == [["G_GAN", "G_L1", "D_real", "D_fake"]] * 4
    folder = tree / "checkpoints/facades_pix2pix"
    assert {path for path in names(folder) if path.startswith("latest_net")} == {
        "latest_net_G.pth",
        "latest_net_D.pth",
    }
    type_well(f"test.py {name}", tree)
    folder = tree / "results/facades_pix2pix/test_latest/images"
    stems = ("00", "01", "02", "03", "100")
    assert names(folder) == {f"{stem}_{label}.png" for stem in stems for label in ("real_A", "fake_B", "real_B")}
    both = kept(pixels(tree / "datasets/facades/test/100.png"))
    assert np.array_equal(pixels(folder / "100_real_A.png"), both[:, 32:])
    assert np.array_equal(pixels(folder / "100_real_B.png"), both[:, :32])


# ---- pretrained networks ----


def test_a_generator_saved_before_pytorch_0_4_translates_exactly_as_the_network_does(tree):
    torch.manual_seed(5)
    net = networks.define_G(3, 3, 4, "resnet_9blocks", "instance", init_gain=0.2)
    path = tree / "checkpoints/old_pretrained/latest_net_G.pth"
    path.parent.mkdir(parents=True)
    state = {f"module.{key}": value for key, value in with_old_statistics(net).items()}
    torch.save(state, path, _use_new_zipfile_serialization=False)
    name = "old_pretrained"
    type_well(f"test.py --dataroot datasets/horse2zebra/testA --name {name} --model test --no_dropout {SMALL}", tree)
    with torch.no_grad():
        expected = tensor2im(net(tensor(pixels(tree / "datasets/horse2zebra/testA/horse.png")))).astype(int)
    got = pixels(tree / f"results/{name}/test_latest/images/horse_fake.png").astype(int)
    assert np.abs(got - expected).max() <= 1  # truncation may fall on either side
    assert expected.std() > 5


# ---- colorization ----


def test_colorization_trains_and_colours(tree):
    name = "--dataroot ./datasets/colorization --name color_pix2pix --model colorization"
    out = type_well(f"train.py {name} {ONE} --netG unet_32", tree)
    assert list(loss_lines(out)[0][2]) == ["G_GAN", "G_L1", "D_real", "D_fake"]
    state = weights(tree / "checkpoints/color_pix2pix")
    assert state["G.model.model.0.weight"].shape == (4, 1, 4, 4)
    assert state["G.model.model.3.weight"].shape == (8, 2, 4, 4)
    type_well(f"test.py {name} --netG unet_32 {SMALL}", tree)
    folder = tree / "results/color_pix2pix/test_latest/images"
    assert names(folder) == {"photo_real_A.png", "photo_real_B_rgb.png", "photo_fake_B_rgb.png"}
    small = Image.open(tree / "datasets/colorization/test/photo.png").resize((32, 32), Image.Resampling.BICUBIC)
    assert np.abs(pixels(folder / "photo_real_B_rgb.png").astype(int) - np.asarray(small).astype(int)).max() <= 1
