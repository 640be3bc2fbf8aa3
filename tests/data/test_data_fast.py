"""`--fast`: nearly the default pixels, of exactly the default crops; batches brought to the device one ahead."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
import torch
from conftest import make_aligned, make_image
from data_options import data_options, epochs
from PIL import Image, ImageDraw

from data import create_dataset
from data.loading import loader, prefetch
from data.loading.byte_reader import resize_fast
from data.transforms import PREPROCESS
from util.errors import DataError

LEVEL = 2 / 255  # of images in [-1, 1]


def picture(kind, width, height, seed=0):
    rng = np.random.default_rng(seed)
    if kind == "white noise":
        return Image.fromarray(rng.integers(0, 256, (height, width, 3), dtype=np.uint8))
    image = Image.new("RGB", (width, height), (240, 235, 220))  # a map: areas and lines of full contrast
    draw = ImageDraw.Draw(image)
    for _ in range(60):
        x, y, a, b = (rng.random(4) * (width, height, width, height)).astype(int).tolist()
        draw.rectangle((x, y, x + width // 12, y + height // 20), fill=tuple(rng.integers(0, 256, 3).tolist()))
        draw.line((x, y, a, b), fill=tuple(rng.integers(0, 256, 3).tolist()), width=max(1, width // 100))
    return image


KINDS = ("map", "white noise")


def assert_close(batches, expected):
    """The bounds: 0.1 of 255 levels on average, 3 at most."""
    assert len(batches) == len(expected) > 0
    for batch, other in zip(batches, expected, strict=True):
        assert batch.keys() == other.keys()
        for key, value in batch.items():
            if not torch.is_tensor(value):
                assert value == other[key]
                continue
            assert (value.dtype, value.shape) == (torch.float32, other[key].shape)
            difference = (value - other[key]).abs() / LEVEL
            assert difference.max() < 3.01
            assert difference.mean() < 0.1


@pytest.mark.parametrize(("kind", "preprocess"), product(KINDS, PREPROCESS))
def test_fast_batches_have_the_default_crops_and_pixels_within_the_bounds(tmp_path, kind, preprocess):
    for i, suffix in enumerate(("png", "jpg", "jpg")):
        (tmp_path / "train").mkdir(exist_ok=True)
        picture(kind, 107 + 40, 41, seed=i).save(tmp_path / f"train/{i}.{suffix}")
        for side in "AB":
            make_image(tmp_path / f"unpaired/train{side}/{i}.{suffix}", 90, 70, seed=i)
    for root, mode in ((tmp_path, "aligned"), (tmp_path / "unpaired", "unaligned")):
        for changes in ({"load_size": 60, "crop_size": 37}, {"input_nc": 1}):
            opt = data_options(root, mode, preprocess=preprocess, **changes)
            expected = epochs(opt)
            opt.fast = True
            assert_close(epochs(opt), expected)
            opt.cache = True
            assert_close(epochs(opt), expected)


@pytest.mark.parametrize(("kind", "mode"), product(KINDS, ("RGB", "L")))
def test_images_are_resized_as_pillow_does_within_the_bounds(kind, mode):
    sides = (31, 190, 191, 320)
    for width, height in product(sides, sides):
        image = picture(kind, width, height).convert(mode)
        for size in ((190, 190), (77, 200), (320, 31), (1, 1)):
            expected = np.array(image.resize(size, Image.Resampling.BICUBIC)).astype(int)
            difference = np.abs(resize_fast(image, size).reshape(expected.shape) - expected)
            assert difference.max() <= 2
            assert difference.mean() < 0.1 or size == (1, 1)


# ---- one batch ahead ----


def load_ahead(batches, device):
    """Load one ahead, as on CUDA."""
    return prefetch.one_ahead(batches, lambda batch: prefetch.to_device(batch, device))


def places(opt):
    batches = create_dataset(opt)
    batches.set_epoch(1, start=2)
    return [(batch["A_paths"], batch["A"].tolist(), batches.step_part) for batch in batches]


@pytest.mark.parametrize("workers", [0, 2])
def test_loading_ahead_changes_neither_batches_nor_their_places(tmp_path, workers, monkeypatch):
    make_aligned(tmp_path, phases=("train",), count=9, side=8)
    opt = data_options(tmp_path, batch_size=2, num_threads=workers, grad_accum=3, load_size=8, crop_size=8)
    expected = places(opt)
    assert [place.last for _, _, place in expected] == [False, False, True, True]
    monkeypatch.setattr(loader, "prefetched", load_ahead)
    assert places(opt) == expected
    opt.cache = True
    assert places(opt) == expected


@pytest.mark.parametrize("workers", [0, 2])
def test_loading_ahead_a_broken_file_ends_the_epoch_in_its_turn(tmp_path, workers, monkeypatch):
    monkeypatch.setattr(loader, "prefetched", load_ahead)
    make_aligned(tmp_path, phases=("train",), count=5)
    (tmp_path / "train/03.png").write_bytes(b"no image")
    batches = create_dataset(data_options(tmp_path, num_threads=workers, serial_batches=True))
    seen, message = [], ""
    try:
        for batch in batches:
            seen.append(batch["A_paths"][0][-6:])
    except DataError as error:
        message = str(error)
    assert seen == ["00.png", "01.png", "02.png"]
    assert "03.png" in message
