"""The history of fakes: its random sequence, its state, and the table of swaps for captured steps."""

from __future__ import annotations

import random

import torch

from util.image_pool import ImagePool
from util.speed import cuda_graphs


def test_the_image_pool_hands_out_the_reference_s_sequence():
    random.seed(0)
    pool = ImagePool(3)
    returned = [int(pool.query(torch.full((1, 1, 1, 1), float(i)))) for i in range(16)]
    assert returned == [0, 1, 2, 1, 4, 3, 6, 5, 7, 0, 8, 11, 12, 2, 13, 10]
    random.seed(0)
    pool = ImagePool(4)
    batches = [pool.query(torch.arange(3.0 * k, 3 * k + 3).view(3, 1, 1, 1)).flatten().tolist() for k in range(6)]
    assert batches == [[0, 1, 2], [3, 3, 5], [4, 7, 2], [8, 1, 9], [12, 13, 10], [15, 11, 17]]
    x = torch.ones(1, 1, 1, 1, requires_grad=True)
    assert ImagePool(0).query(x) is x


def test_an_image_pool_goes_on_where_its_saved_state_was():
    pool, copy = ImagePool(3), ImagePool(3)
    random.seed(1)
    for i in range(8):
        pool.query(torch.full((1, 1, 1, 1), float(i)))
    copy.load_state_dict(pool.state_dict())
    state = random.getstate()
    expected = [float(pool.query(torch.full((1, 1, 1, 1), float(i)))) for i in range(8, 20)]
    random.setstate(state)
    assert [float(copy.query(torch.full((1, 1, 1, 1), float(i)))) for i in range(8, 20)] == expected


def test_the_table_of_a_batch_gives_what_swapping_one_by_one_gives():
    for seed in range(200):
        rng = random.Random(seed)
        size, count = rng.randint(1, 4), rng.randint(1, 6)
        one_by_one, planned = ImagePool(size, rng=random.Random(seed)), ImagePool(size, rng=random.Random(seed))
        images = torch.arange(count * 12.0).view(12, count, 1, 1, 1)
        one_by_one.query(images[0])
        planned.query(images[0])
        asked = []
        on_device = cuda_graphs.PoolOnDevice(planned, count, asked)
        for batch_of_images in images[1:]:
            on_device.prepare()
            assert torch.equal(on_device(batch_of_images), one_by_one.query(batch_of_images))
            assert torch.equal(torch.cat(planned.images), torch.cat(one_by_one.images))
