"""Transforms: draws, sizes and pixels, computed again here with PIL and NumPy alone."""

from __future__ import annotations

import random

import numpy as np
import pytest
import torch
from conftest import make_image
from data_options import data_options, to_floats
from PIL import Image
from torchvision.transforms import InterpolationMode

from data.base_dataset import get_params, get_transform
from data.transforms import PREPROCESS
from util.errors import UserError


def picture(width, height, seed=0):
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(pixels)


@pytest.mark.parametrize(
    ("preprocess", "size", "expected"),
    [
        ("resize_and_crop", (400, 600), [(27, 12, True), (13, 1, False), (16, 15, False), (25, 26, False)]),
        ("scale_width_and_crop", (400, 600), [(27, 98, True), (13, 10, False), (16, 124, False)]),
        ("crop", (400, 600), [(98, 215, False), (130, 248, False), (77, 244, False)]),
        ("none", (400, 600), [(98, 215, False), (130, 248, False), (77, 244, False)]),
    ],
)
def test_get_params_draws_the_golden_crops_and_flips(preprocess, size, expected):
    opt = data_options("", preprocess=preprocess, load_size=286, crop_size=256)
    random.seed(0)
    drawn = [get_params(opt, size) for _ in expected]
    assert drawn == [{"crop_pos": (x, y), "flip": flip} for x, y, flip in expected]


@pytest.mark.parametrize(
    ("preprocess", "size", "expected"),
    [
        ("none", (70, 66), (70, 66)),
        ("scale_width", (70, 66), (80, 75)),
        ("scale_width", (300, 200), (80, 64)),
        ("scale_width", (80, 65), (80, 65)),
        ("resize", (70, 66), (80, 80)),
        ("resize_and_crop", (3, 5), (64, 64)),
        ("scale_width_and_crop", (300, 20), (64, 64)),
        ("crop", (65, 64), (64, 64)),
    ],
)
@pytest.mark.parametrize("drawn", [False, True])
def test_output_sizes_are_the_golden_ones(preprocess, size, expected, drawn):
    opt = data_options("", preprocess=preprocess, load_size=80, crop_size=64)
    image = get_transform(opt, get_params(opt, size) if drawn else None)(picture(*size))
    assert tuple(image.shape) == (3, expected[1], expected[0])
    assert image.dtype == torch.float32


@pytest.mark.parametrize("flip", [False, True])
@pytest.mark.parametrize(
    ("preprocess", "resized"), [("resize_and_crop", (40, 40)), ("scale_width_and_crop", (40, 50)), ("crop", (53, 67))]
)
def test_a_given_crop_and_flip_cut_exactly_these_pixels(preprocess, resized, flip):
    opt = data_options("", preprocess=preprocess, load_size=40, crop_size=32)
    image = picture(53, 67)
    result = get_transform(opt, {"crop_pos": (5, 8), "flip": flip})(image)
    pixels = np.asarray(image.resize(resized, Image.Resampling.BICUBIC))[8:40, 5:37]
    assert torch.equal(result, to_floats(pixels[:, ::-1] if flip else pixels))


def test_convert_false_leaves_a_picture():
    image = picture(21, 33)
    opt = data_options("", preprocess="none", no_flip=True)
    assert get_transform(opt, convert=False)(image).tobytes() == image.tobytes()


@pytest.mark.parametrize("name", ["NEAREST", "BILINEAR", "BICUBIC", "LANCZOS"])
@pytest.mark.parametrize(("preprocess", "size"), [("resize", (40, 40)), ("scale_width", (40, 51))])
def test_method_may_be_torchvisions_or_pils(preprocess, size, name):
    opt = data_options("", preprocess=preprocess, no_flip=True)
    image = picture(53, 68)
    pixels = to_floats(image.resize(size, Image.Resampling[name]))
    assert torch.equal(get_transform(opt, method=InterpolationMode[name])(image), pixels)
    assert torch.equal(get_transform(opt, method=Image.Resampling[name])(image), pixels)
    assert torch.equal(get_transform(opt, method=int(Image.Resampling[name]))(image), pixels)


def test_load_size_below_crop_size_matters_only_where_both_are_used():
    for preprocess in PREPROCESS:
        opt = data_options("", preprocess=preprocess, load_size=30, crop_size=32)
        if preprocess in ("resize_and_crop", "scale_width_and_crop"):
            with pytest.raises(UserError, match=r"--load_size 30 is smaller than --crop_size 32.*--load_size 32 or"):
                get_transform(opt)
        else:
            get_transform(opt)


def test_a_plug_ins_own_preprocess_is_allowed_by_its_entry(monkeypatch, tmp_path):
    monkeypatch.setitem(PREPROCESS, "crop_mine", "cut out, and then what the plug-in does itself")
    image = Image.open(make_image(tmp_path / "a.png", 50, 40))
    assert get_transform(data_options("", preprocess="crop_mine"))(image).shape == (3, 32, 32)
