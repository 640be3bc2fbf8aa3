"""The built-in datasets: which files make an item, and which pixels."""

from __future__ import annotations

import argparse
import random

import numpy as np
import pytest
import torch
from conftest import make_aligned, make_image, make_unaligned, pixels
from data_options import data_options, to_floats
from PIL import Image
from torch.nn import functional as F

import data
from data import create_dataset, find_dataset_using_name, get_option_setter
from data.base_dataset import BaseDataset
from util.errors import UserError
from util.runtime.run_facts import RunFacts


def dataset(dataroot, mode="aligned", **changes):
    return find_dataset_using_name(mode)(data_options(dataroot, mode, **changes))


def grey(array):
    return np.asarray(Image.fromarray(array).convert("L"))


# ---- aligned ----


def test_aligned_halves_share_one_crop_and_flip(tmp_path):
    path = make_image(tmp_path / "train/a.png", 2 * 37, 53)
    paired = dataset(tmp_path, load_size=45)
    flips = set()
    for seed in range(6):
        random.seed(seed)
        item = paired[0]
        random.seed(seed)
        x, y, flip = random.randint(0, 13), random.randint(0, 13), random.random() > 0.5
        flips.add(flip)
        for key, half in (("A", pixels(path)[:, :37]), ("B", pixels(path)[:, 37:])):
            resized = np.asarray(Image.fromarray(half).resize((45, 45), Image.Resampling.BICUBIC))
            cut = resized[y : y + 32, x : x + 32]
            assert torch.equal(item[key], to_floats(cut[:, ::-1] if flip else cut))
        assert item["A_paths"] == item["B_paths"] == str(path)
    assert flips == {True, False}
    assert (paired.dir_AB, paired.AB_paths) == (str(tmp_path / "train"), [str(path)])
    assert (paired.root, paired.input_nc, paired.output_nc) == (str(tmp_path), 3, 3)


def test_an_odd_width_loses_its_last_column_unless_resized_and_a_notice_comes_once(tmp_path, capsys):
    path = make_image(tmp_path / "train/a.png", 41, 17)
    paired = dataset(tmp_path, preprocess="none", no_flip=True)
    for _ in range(2):
        item = paired[0]
        assert torch.equal(item["A"], to_floats(pixels(path)[:, :20]))
        assert torch.equal(item["B"], to_floats(pixels(path)[:, 20:40]))
    out = capsys.readouterr().out
    assert out == f"{path} is 41 pixels wide, an odd number: the last column is dropped. (said once)\n"
    item = dataset(tmp_path, preprocess="resize", load_size=24, no_flip=True)[0]  # makes both halves equal
    wide = Image.fromarray(pixels(path)[:, 20:]).resize((24, 24), Image.Resampling.BICUBIC)
    assert torch.equal(item["B"], to_floats(wide))


def test_two_folders_are_matched_by_name_and_the_rest_is_listed(tmp_path, capsys):
    for name in ("a.png", "x/b.jpg", "x/c.png", "lone1.png", "lone2.png"):
        make_image(tmp_path / "trainA" / name, 21, 13, seed=1)
    for name in ("x/c.png", "x/b.png", "a.jpg", "b.png"):
        make_image(tmp_path / "trainB" / name, 21, 13, seed=2)
    pairs = dataset(tmp_path, preprocess="none", no_flip=True)
    assert capsys.readouterr().out == (
        f"3 pairs of equal names, such as {tmp_path}/trainA/a.png and {tmp_path}/trainB/a.jpg\n"
        "left out, having no partner of the same name: "
        f"2 in {tmp_path}/trainA: lone1, lone2; 1 in {tmp_path}/trainB: b\n"
    )
    assert len(pairs) == 3
    for i, (A, B) in enumerate((("a.png", "a.jpg"), ("x/b.jpg", "x/b.png"), ("x/c.png", "x/c.png"))):
        item = pairs[i]
        assert (item["A_paths"], item["B_paths"]) == (str(tmp_path / "trainA" / A), str(tmp_path / "trainB" / B))
        assert torch.equal(item["A"], to_floats(pixels(item["A_paths"])))
        assert torch.equal(item["B"], to_floats(pixels(item["B_paths"])))
    assert len(dataset(tmp_path, max_dataset_size=2)) == 2


def test_files_that_make_no_pair_are_an_error_that_names_both(tmp_path):
    A, B = (make_image(tmp_path / f"train{side}/a.png", 21, 13 + (side == "B")) for side in "AB")
    with pytest.raises(UserError, match=f"must have one size: {A} is 21x13, {B} is 21x14"):
        dataset(tmp_path)[0]
    make_image(tmp_path / "trainA/a.jpg")
    with pytest.raises(UserError, match=r"trainA/a.jpg and .*trainA/a.png have one name"):
        dataset(tmp_path)


def test_a_subclass_may_fill_the_attributes_itself(tmp_path):
    path = make_image(tmp_path / "elsewhere.png", 40, 20)

    class Mine(find_dataset_using_name("aligned")):
        def __init__(self, opt):
            BaseDataset.__init__(self, opt)
            self.AB_paths = [str(path)]
            self.input_nc, self.output_nc = 1, 3

    item = Mine(data_options(tmp_path, preprocess="none", no_flip=True))[0]
    assert torch.equal(item["A"], to_floats(grey(pixels(path)[:, :20])))
    assert torch.equal(item["B"], to_floats(pixels(path)[:, 20:]))


# ---- channels ----


@pytest.mark.parametrize("mode", ["aligned", "unaligned"])
@pytest.mark.parametrize(
    ("direction", "input_nc", "output_nc", "expected"), [("AtoB", 1, 3, (1, 3)), ("BtoA", 1, 3, (3, 1))]
)
def test_the_models_input_and_output_are_grey_where_they_have_one_channel(
    tmp_path, mode, direction, input_nc, output_nc, expected
):
    make_aligned(tmp_path, count=1)
    make_unaligned(tmp_path, count_A=1, count_B=1)
    changes = {"direction": direction, "input_nc": input_nc, "output_nc": output_nc}
    item = dataset(tmp_path, mode, preprocess="none", no_flip=True, **changes)[0]
    assert (item["A"].shape[0], item["B"].shape[0]) == expected
    A = pixels(item["A_paths"])
    A = A[:, :32] if mode == "aligned" else A
    assert torch.equal(item["A"], to_floats(grey(A) if expected[0] == 1 else A))


@pytest.mark.parametrize("mode", ["aligned", "unaligned", "single"])
def test_photos_do_not_have_other_numbers_of_channels(tmp_path, mode):
    make_aligned(tmp_path, count=1)
    make_unaligned(tmp_path)
    opt = data_options(tmp_path, mode, input_nc=4)
    opt._facts = RunFacts(typed=frozenset({"input_nc"}))
    with pytest.raises(UserError, match=r"has 3 channels, and --input_nc 4 is expected: type --input_nc 3"):
        create_dataset(opt)


# ---- unaligned, single ----


def test_unaligned_goes_through_the_larger_domain_and_draws_the_other(tmp_path):
    make_unaligned(tmp_path, count_A=3, count_B=5)
    two = dataset(tmp_path, "unaligned", preprocess="none", no_flip=True)
    assert (len(two), two.A_size, two.B_size) == (5, 3, 5)
    assert (two.dir_A, two.dir_B) == (str(tmp_path / "trainA"), str(tmp_path / "trainB"))
    random.seed(0)
    items = [two[i] for i in range(5)]
    random.seed(0)
    for i, item in enumerate(items):
        A, B = two.A_paths[i % 3], two.B_paths[random.randint(0, 4)]
        assert (item["A_paths"], item["B_paths"]) == (A, B)
        assert torch.equal(item["A"], to_floats(pixels(A)))
        assert torch.equal(item["B"], to_floats(pixels(B)))
    serial = dataset(tmp_path, "unaligned", serial_batches=True)
    assert [serial[i]["B_paths"] for i in range(5)] == two.B_paths
    assert [serial[i]["A_paths"] for i in range(5)] == [two.A_paths[i] for i in (0, 1, 2, 0, 1)]


def test_unaligned_crops_and_flips_its_images_each_on_its_own(tmp_path):
    make_unaligned(tmp_path, count_A=1, count_B=1)
    two = dataset(tmp_path, "unaligned", load_size=48)
    torch.manual_seed(5)
    items = [two[0] for _ in range(4)]
    torch.manual_seed(5)
    draws = []
    for item in items:
        for key in "AB":
            y, x = (int(torch.randint(0, 17, (1,))) for _ in range(2))
            draws.append((x, y, bool(torch.rand(1) < 0.5)))
            image = Image.open(item[f"{key}_paths"]).resize((48, 48), Image.Resampling.BICUBIC)
            cut = np.asarray(image)[y : y + 32, x : x + 32]
            assert torch.equal(item[key], to_floats(cut[:, ::-1] if draws[-1][2] else cut))
    assert (len(set(draws)), {flip for _, _, flip in draws}) == (8, {True, False})


def test_single_reads_the_folder_itself_for_the_networks_input(tmp_path):
    path = make_image(tmp_path / "x/a.png", 37, 21)
    for direction in ("AtoB", "BtoA"):
        one = dataset(tmp_path, "single", preprocess="none", no_flip=True, input_nc=1, direction=direction)
        assert one.A_paths == [str(path)]
        assert one[0].keys() == {"A", "A_paths"}
        assert torch.equal(one[0]["A"], to_floats(grey(pixels(path))))


# ---- colorization, template ----


@pytest.mark.parametrize(
    ("colour", "L", "ab"),
    [
        ((255, 0, 0), 0.06481, (0.72811, 0.61093)),
        ((0, 0, 255), -0.35409, (0.71987, -0.98052)),
        ((128, 128, 128), 0.07170, (0, 0)),
    ],
)
def test_colorization_splits_golden_colours_into_L_and_ab(tmp_path, colour, L, ab):
    path = tmp_path / "train/a.png"
    path.parent.mkdir()
    Image.new("RGB", (20, 10), colour).save(path)
    item = dataset(tmp_path, "colorization", input_nc=1, output_nc=2, preprocess="none")[0]
    assert (item["A"].shape, item["B"].shape) == ((1, 10, 20), (2, 10, 20))
    assert item["A"].dtype == item["B"].dtype == torch.float32
    assert torch.allclose(item["A"], torch.full((1, 10, 20), float(L)), atol=2e-5)
    assert torch.allclose(item["B"], torch.tensor(ab).view(2, 1, 1).expand(2, 10, 20).float(), atol=5e-5)
    assert item["A_paths"] == item["B_paths"] == str(path)


def test_colorization_sets_its_channels_and_takes_no_others(tmp_path):
    parser = argparse.ArgumentParser()
    for option, default in (("--input_nc", 3), ("--output_nc", 3), ("--direction", "BtoA")):
        parser.add_argument(option, default=default)
    assert vars(get_option_setter("colorization")(parser, True).parse_args([])) == {
        "input_nc": 1,
        "output_nc": 2,
        "direction": "AtoB",
    }
    make_aligned(tmp_path, count=1)
    with pytest.raises(UserError, match="needs --input_nc 1 --output_nc 2 --direction AtoB, not 3, 3 and AtoB"):
        dataset(tmp_path, "colorization")


def test_the_template_blurs_and_has_its_option(tmp_path):
    path = make_image(tmp_path / "train/a.png", 40, 24)
    parser = argparse.ArgumentParser()
    parser.add_argument("--max_dataset_size", type=int, default=0)
    parser = get_option_setter("template")(parser, True)
    assert vars(parser.parse_args([])) == {"max_dataset_size": 10, "new_dataset_option": 2.0}
    template = dataset(tmp_path, "template", preprocess="none", no_flip=True)
    item = template[0]
    assert template.image_paths == [item["path"]] == [str(path)]
    assert torch.equal(item["data_B"], to_floats(pixels(path)))
    small = F.interpolate(item["data_B"][None], (12, 20), mode="bilinear", antialias=True)
    assert torch.equal(item["data_A"], F.interpolate(small, (24, 40), mode="bilinear")[0])
    assert item["A"] is item["data_A"]
    assert item["B"] is item["data_B"]


# ---- all of them ----


@pytest.mark.parametrize("mode", data.BUILT_IN)
def test_every_dataset_names_the_file_that_is_broken_or_too_small(tmp_path, mode):
    channels = {"input_nc": 1, "output_nc": 2} if mode == "colorization" else {}
    folder = {"unaligned": "trainA", "single": "train"}.get(mode, "train")
    path = make_image(tmp_path / folder / "a.png", 40, 20)
    make_image(tmp_path / "trainB" / "b.png", 40, 40)
    root = tmp_path / "train" if mode == "single" else tmp_path
    with pytest.raises(UserError, match=f"^{path}: the image is (40|20)x20, smaller than --crop_size 32"):
        dataset(root, mode, preprocess="crop", **channels)[0]
    path.write_bytes(b"")
    with pytest.raises(UserError, match=f"^cannot read {path}: it is empty"):
        dataset(root, mode, **channels)[0]
