"""`--cache`: the default batches, bit for bit, from memory that the workers share."""

from __future__ import annotations

import pickle
from collections import Counter

import pytest
import torch
from conftest import make_aligned, make_image, make_unaligned
from data_options import data_options, epochs, load
from terminal import identical

from data import create_dataset
from data.formats import pillow
from data.loading import cache
from data.loading.cache import create_cache
from data.transforms import PREPROCESS
from util.errors import DataError

pytestmark = pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
LAYOUTS = ("side by side", "two folders", "unaligned", "single")


@pytest.fixture
def layout(tmp_path):
    """`layout("two folders")` writes five images, of odd sizes, and returns their options."""

    def write(name, count=5, **changes):
        for i in range(count):
            if name == "side by side":
                make_image(tmp_path / f"train/{i}.png", 107, 41, seed=i)
            elif name == "single":
                make_image(tmp_path / f"{i}.png", 53, 41, seed=i)
            else:
                make_image(tmp_path / f"trainA/{i}.png", 53, 41, seed=i)
                make_image(tmp_path / f"trainB/{i}.png", 53, 41, seed=50 + i)
        mode = {"side by side": "aligned", "two folders": "aligned"}.get(name, name)
        return data_options(tmp_path, mode, **changes)

    return write


def assert_equal(batches, expected):
    for batch, other in zip(batches, expected, strict=True):
        assert batch.keys() <= {"A", "B", "A_paths", "B_paths"}
        assert batch["A"].dtype == torch.float32
        assert identical(sorted(batch.items()), sorted(other.items()))


@pytest.mark.parametrize("preprocess", PREPROCESS)
@pytest.mark.parametrize("name", LAYOUTS)
def test_cached_batches_are_the_default_ones_bit_for_bit(layout, name, preprocess):
    for grey in ({}, {"input_nc": 1}, {"output_nc": 1, "direction": "BtoA", "no_flip": True}):
        opt = layout(name, preprocess=preprocess, batch_size=2, **grey)
        expected = epochs(opt)
        opt.cache = True
        assert_equal(epochs(opt), expected)


@pytest.mark.parametrize("name", LAYOUTS)
def test_workers_fill_one_memory_and_give_the_default_batches(layout, name):
    opt = layout(name, batch_size=2, num_threads=2)
    expected = epochs(opt)
    opt.cache = True
    loader = create_dataset(opt)
    assert_equal(load(loader), expected)
    kept = loader.dataloader.dataset.reader.cache
    if cache.fork_context() and name != "unaligned":  # whose B are drawn, perhaps not all of them
        assert all(kept.get(key) for key in range(loader.dataset.image_count))


@pytest.mark.parametrize(("name", "files"), [("side by side", 5), ("two folders", 10), ("unaligned", 10)])
def test_each_file_is_read_once(layout, name, files, monkeypatch):
    read = Counter()

    def count(path, *more, original=pillow.read):
        read[path] += 1
        return original(path, *more)

    monkeypatch.setattr(pillow, "read", count)
    epochs(layout(name, cache=True, serial_batches=True), 3)
    assert (len(read), set(read.values())) == (files, {1})


# ---- the bounds of memory ----


def test_what_does_not_fit_is_read_each_time_and_nothing_exceeds_the_room(layout, monkeypatch):
    opt = layout("side by side")
    expected = epochs(opt)
    monkeypatch.setattr(cache, "main_memory", lambda: (10**6, 2 * 40 * 40 * 3 * 5 + 99))  # its half: 5 of 10 images
    opt.cache = True
    loader = create_dataset(opt)
    assert_equal(load(loader), expected)
    kept = loader.dataloader.dataset.reader.cache
    assert sum(kept.get(key) is not None for key in range(10)) == 5
    assert kept.used == 5 * 40 * 40 * 3 <= kept.room <= kept.memory.size


def test_the_room_is_half_of_what_is_free_shared_out_over_processes(monkeypatch, capsys):
    monkeypatch.setattr(cache, "main_memory", lambda: (64 * 10**9, 16 * 10**6))
    assert create_cache(10, 10**6, 2).room == 8 * 10**6
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "2")
    assert create_cache(3, 10**6, 2).room == 3 * 10**6
    monkeypatch.setattr(cache, "fork_context", lambda: None)
    assert create_cache(10, None, 4).room == 10**6
    monkeypatch.setattr(cache, "main_memory", lambda: (0, 0))
    assert create_cache(10, None, 0).room == 2**29
    assert capsys.readouterr().out.splitlines() == [
        "--cache: room for 8.0 MB: 8 of 10 images",
        "--cache: room for 4.0 MB: all 3 images",
        "--cache: room for 1.0 MB, which 10 images may fill, in each of 4 workers",
        "--cache: room for 537 MB, which 10 images may fill",
    ]


def test_a_spawned_worker_begins_with_an_empty_cache_and_gives_the_same_items(layout):
    opt = layout("side by side", cache=True)
    items = create_dataset(opt).dataloader.dataset
    expected = items[1, 2]
    copy = pickle.loads(pickle.dumps(items))
    assert copy.reader.cache.get(4) is None
    assert torch.equal(copy[1, 2]["A"], expected["A"])


# ---- errors, plug-ins ----


@pytest.mark.parametrize("flag", ["cache", "fast"])
def test_an_image_that_cannot_be_cropped_or_resized_is_named(tmp_path, flag):
    for folder, preprocess, size in (("a", "crop", (70, 20)), ("b", "scale_width", (1, 30000))):
        path = make_image(tmp_path / folder / "trainA/a.png", *size)
        make_image(tmp_path / folder / "trainB/a.png", *size)
        for mode in ("aligned", "unaligned"):
            opt = data_options(tmp_path / folder, mode, preprocess=preprocess, load_size=6000)
            with pytest.raises(DataError, match=f"^{path}: the image is ") as default:
                epochs(opt, 1)
            setattr(opt, flag, True)
            with pytest.raises(DataError) as found:
                epochs(opt, 1)
            assert str(found.value) == str(default.value)


def test_other_datasets_load_as_before_and_a_line_says_so(tmp_path, capsys):
    make_unaligned(tmp_path, phases=("train",))
    make_aligned(tmp_path, phases=("train",))
    opt = data_options(tmp_path, "template")
    expected = epochs(opt)
    opt.fast = opt.cache = True
    capsys.readouterr()
    loader = create_dataset(opt)
    assert capsys.readouterr().out == (
        "dataset [TemplateDataset] was created\n"
        "--cache: --dataset_mode template reads its images in its own way, and none is kept\n"
    )
    assert loader.dataloader.dataset.reader is None
    assert identical(epochs(opt), expected)
