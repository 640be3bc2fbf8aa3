"""The loader: the same images in the same order for any number of workers, processes and interruptions."""

from __future__ import annotations

import random
import sys
from itertools import chain

import numpy as np
import pytest
import torch
from conftest import make_image, make_unaligned
from data_options import data_options

from data import create_dataset
from data.base_dataset import BaseDataset
from data.loading.sampler import EpochSampler
from util.errors import UserError

# ---- the sampler ----


def steps(sampler):
    return [[index for _, index in batch] for batch in sampler]


def group(length, batch_size, world_size, **changes):
    return [EpochSampler(length, batch_size, rank=rank, world_size=world_size, **changes) for rank in range(world_size)]


def joined(samplers):
    """What all processes see, step by step, without the images that a process repeats for want of one."""
    together = []
    for step, parts in enumerate(zip(*map(steps, samplers), strict=True)):
        together.append(
            [i for sampler, part in zip(samplers, parts, strict=True) if sampler.step_part(step).share for i in part]
        )
    return together


@pytest.mark.parametrize("length", [1, 5, 6, 17])
@pytest.mark.parametrize("start", [0, 6])
def test_one_two_and_three_processes_see_the_same_steps(length, start):
    seen = []
    for batch_size, world_size in ((6, 1), (3, 2), (2, 3), (1, 6)):
        samplers = group(length, batch_size, world_size, seed=1)
        for sampler in samplers:
            sampler.set_epoch(4, start)
        seen.append(joined(samplers))
        assert {len(sampler) for sampler in samplers} == {len(seen[0])}
    assert seen[0] == seen[1] == seen[2] == seen[3]
    assert [*chain(*seen[0])] == samplers[0].order()[start:]


@pytest.mark.parametrize(
    ("length", "shares", "parts"),
    [
        (12, [1.0, 1.0, 1.0], [[6, 7], [8, 9], [10, 11]]),
        (11, [1.2, 1.2, 0.6], [[6, 7], [8, 9], [10]]),
        (9, [1.0, 1.0, 1.0], [[6], [7], [8]]),
        (8, [1.5, 1.5, 0.0], [[6], [7], [7]]),
        (7, [3.0, 0.0, 0.0], [[6], [6], [6]]),
    ],
)
def test_a_short_last_batch_is_spread_evenly_and_weighted_by_its_share(length, shares, parts):
    samplers = group(length, 2, 3, shuffle=False)
    assert [sampler.step_part(0).share for sampler in samplers] == [1.0, 1.0, 1.0]
    assert [sampler.step_part(1).share for sampler in samplers] == pytest.approx(shares)
    assert [steps(sampler)[1] for sampler in samplers] == parts
    values = torch.arange(100.0) ** 2  # a loss for each image
    means = [values[part].mean() * share for part, share in zip(parts, shares, strict=True)]
    assert torch.stack(means).mean() == pytest.approx(values[6:length].mean())


# ---- the loader ----


def epochs(opt, wanted=(1, 2)):
    """All batches of some epochs: tensors as bytes, so that they can be compared."""
    loader = create_dataset(opt)
    batches = []
    for epoch in wanted:
        loader.set_epoch(epoch)
        batches.append(
            [{k: v.numpy().tobytes() if torch.is_tensor(v) else v for k, v in batch.items()} for batch in loader]
        )
    return batches


@pytest.fixture
def folder(tmp_path):
    make_unaligned(tmp_path, phases=("train",), count_A=7, count_B=5)
    return tmp_path


def test_the_number_of_workers_changes_nothing(folder):
    expected = epochs(data_options(folder, "unaligned", batch_size=2))
    assert [len(batches) for batches in expected] == [4, 4]
    assert expected[0] != expected[1]
    for workers in (1, 2):
        assert epochs(data_options(folder, "unaligned", batch_size=2, num_threads=workers)) == expected
    assert epochs(data_options(folder, "unaligned", batch_size=2, seed=1)) != expected


def test_a_loop_that_never_calls_set_epoch_gets_another_order_each_time(folder):
    loader = create_dataset(data_options(folder, "unaligned"))
    orders = [[batch["A_paths"][0] for batch in loader.load_data()] for _ in range(3)]
    assert len({tuple(order) for order in orders}) == 3
    assert len({tuple(sorted(order)) for order in orders}) == 1
    loader.set_epoch(0)
    assert [batch["A_paths"][0] for batch in loader] == orders[0]


def test_loading_draws_nothing_from_the_trainings_generators(folder):
    states = []
    for load in (False, True):
        random.seed(1), np.random.seed(1), torch.manual_seed(1)
        if load:
            epochs(data_options(folder, "unaligned", num_threads=0))
            epochs(data_options(folder, "unaligned", num_threads=1), (1,))
        states.append((random.random(), np.random.rand(), torch.rand(1).item()))
    assert states[0] == states[1]


# ---- plug-ins ----


class JitterDataset(BaseDataset):
    def __getitem__(self, index):
        if index == 4:
            raise KeyError("four")
        draws = [random.random(), np.random.rand(), torch.rand(1).item()]
        return {"A": torch.tensor(draws), "number": index, "name": f"item {index}"}

    def __len__(self):
        return 5


class VoidDataset(JitterDataset):
    def __len__(self):
        return 0


@pytest.fixture
def plug_ins(monkeypatch):
    """Let this file be data/jitter_dataset.py and data/void_dataset.py, as far as imports can tell."""
    for name in ("jitter", "void"):
        monkeypatch.setitem(sys.modules, f"data.{name}_dataset", sys.modules[__name__])


@pytest.mark.usefixtures("plug_ins")
def test_a_plug_ins_random_calls_are_seeded_too():
    seen = {}
    for workers in (0, 2):
        opt = data_options("", "jitter", batch_size=2, num_threads=workers, max_dataset_size=4)
        seen[workers] = epochs(opt)
    assert seen[0] == seen[2]
    assert len({batch["A"] for batch in chain(*seen[0])}) == 4


@pytest.mark.usefixtures("plug_ins")
@pytest.mark.parametrize("workers", [0, 1])
def test_a_plug_ins_own_error_shows_itself(workers):
    with pytest.raises(KeyError, match="four"):
        list(create_dataset(data_options("", "jitter", num_threads=workers)))


@pytest.mark.usefixtures("plug_ins")
def test_an_empty_plug_in_is_an_error():
    with pytest.raises(UserError, match=r"dataset \[VoidDataset\] is empty"):
        create_dataset(data_options("", "void"))


# ---- errors while loading ----


@pytest.mark.parametrize("workers", [0, 1])
def test_images_of_several_sizes_in_a_batch_are_an_error_that_names_the_options(tmp_path, workers):
    make_image(tmp_path / "train/a.png", 40, 20)
    make_image(tmp_path / "train/b.png", 44, 30)
    expected = (
        r"the images A of a batch have different sizes \(20x20, 22x30\). Type --batch_size 1, or a --preprocess that "
        "gives all images one size, such as resize_and_crop."
    )
    with pytest.raises(UserError, match=f"^{expected}$"):
        list(create_dataset(data_options(tmp_path, preprocess="none", batch_size=2, num_threads=workers)))
