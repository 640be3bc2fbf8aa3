"""Load a dataset's items in batches, epoch by epoch."""

from __future__ import annotations

import contextlib
import random
import warnings

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset, default_collate, get_worker_info

from data.folder_advice import open_dataset
from data.formats import notes
from data.loading import workers
from data.loading.byte_reader import create_reader
from data.loading.cache import fork_context
from data.loading.prefetch import FLIPS, prefetched
from data.loading.sampler import EpochSampler
from util.errors import DataError, UserError
from util.runtime import processes, seeds
from util.runtime.step_part import StepPart

# The reference's default is 4 workers; on a machine with fewer cores they take turns.
warnings.filterwarnings("ignore", "This DataLoader will create")


class CustomDatasetDataLoader:
    """Batches of a dataset. They depend neither on the number of workers nor on where an epoch starts."""

    def __init__(self, opt, shared: bool = True):
        self.opt = opt
        self.dataset = open_dataset(opt)
        if not len(self):
            raise UserError(f"dataset [{type(self.dataset).__name__}] is empty: --dataroot {opt.dataroot}.")
        if processes.is_main():
            print(f"dataset [{type(self.dataset).__name__}] was created")
        self.device = torch.device(getattr(opt, "device", None) or "cpu")
        seed = getattr(opt, "seed", 0)
        self.sampler = EpochSampler(
            len(self),
            opt.batch_size,
            shuffle=not opt.serial_batches,
            seed=seed,
            rank=processes.rank() if shared else 0,
            world_size=processes.world_size() if shared else 1,
            grad_accum=getattr(opt, "grad_accum", 1),
        )
        self.dataloader = self._dataloader(int(opt.num_threads), seed)
        self.begun = False
        self.step_part = StepPart()  # how the current batch counts, see EpochSampler.step_part

    def _dataloader(self, num_workers: int, seed: int) -> DataLoader:
        reader = create_reader(self.opt, self.dataset)
        return DataLoader(
            SeededItems(self.dataset, seed, reader),
            batch_sampler=self.sampler,
            num_workers=num_workers,
            collate_fn=collate_with_notes,
            worker_init_fn=workers.prepare,
            persistent_workers=num_workers > 0,
            multiprocessing_context=fork_context() if reader and reader.cache and num_workers else None,
            pin_memory=self.device.type == "cuda",
            generator=torch.Generator(),  # by default the loader draws from the generator of the training
        )

    def load_data(self):
        """Return the loader itself."""
        return self

    def set_epoch(self, epoch: int, start: int = 0) -> None:
        """Choose the epoch to load next; skip the first `start` of its images (counted over all processes)."""
        self.sampler.set_epoch(epoch, start)
        self.begun = False

    def __len__(self):
        """Return the number of images in an epoch, over all processes."""
        return int(min(len(self.dataset), self.opt.max_dataset_size))

    def __iter__(self):
        """Yield the batches of an epoch, their images on the device.

        A loop that never calls `set_epoch` gets another epoch each time.
        """
        if self.begun:
            self.set_epoch(self.sampler.epoch + 1)
        self.begun = True
        for number, batch in enumerate(prefetched(workers.batches(self.dataloader), self.device)):
            if isinstance(batch, UserError):
                # A new error: one that its own frame holds is freed late, and then the workers take 5 s to end.
                raise DataError(*batch.args)
            self.step_part = self.sampler.step_part(number)
            yield batch


class SeededItems(Dataset):
    """A dataset's items, every random draw in them seeded by (seed, epoch, index).

    With a ByteReader they are items of bytes. A UserError is returned as the item: raised in a worker, it would arrive
    as that worker's traceback.
    """

    def __init__(self, dataset, seed: int, reader=None):
        self.dataset, self.seed, self.reader = dataset, seed, reader

    def __getitem__(self, key: tuple[int, int]):
        epoch, index = key
        # Without workers the generators are those of the training, which must stay as they are.
        with keep_random_state() if get_worker_info() is None else contextlib.nullcontext():
            seeds.seed_all(self.seed, "item", epoch, index)
            try:
                return self.dataset.byte_item(index, self.reader) if self.reader else self.dataset[index]
            except UserError as error:
                return error


@contextlib.contextmanager
def keep_random_state():
    """Leave Python's, NumPy's and torch's CPU generators as they were before the body."""
    python, numpy = random.getstate(), np.random.get_state()
    with torch.random.fork_rng(devices=[]):
        try:
            yield
        finally:
            random.setstate(python)
            np.random.set_state(numpy)


def collate_with_notes(items: list) -> tuple[list, object]:
    """Return the notes about the items' files, for the main process to print, and the batch."""
    return notes.collected(), collate(items)


def collate(items: list):
    """Stack items to a batch. If one of them is a UserError, return that error instead."""
    error = next((item for item in items if isinstance(item, UserError)), None)
    if error:
        return error
    try:
        return stack_bytes(items) if isinstance(items[0], dict) and FLIPS in items[0] else default_collate(items)
    except RuntimeError:
        for key in ("A", "B"):
            tensors = [item[key] for item in items if isinstance(item, dict) and torch.is_tensor(item.get(key))]
            sizes = sorted({f"{tensor.shape[-1]}x{tensor.shape[-2]}" for tensor in tensors})
            if len(sizes) > 1:
                return UserError(
                    f"the images {key} of a batch have different sizes ({', '.join(sizes)}). Type --batch_size 1, or "
                    "a --preprocess that gives all images one size, such as resize_and_crop."
                )
        raise


def stack_bytes(items: list[dict]) -> dict:
    """Stack items of bytes to arrays (N, C, H, W).

    A worker sends arrays by value, but each tensor by a shared file, which takes longer for so few bytes.
    """
    names = items[0][FLIPS]
    images = {name: torch.stack([item[name] for item in items]).numpy() for name in names}
    flips = {name: [item[FLIPS][name] for item in items] for name in names}
    others = [{key: value for key, value in item.items() if key not in (FLIPS, *names)} for item in items]
    return {**default_collate(others), **images, FLIPS: flips}
