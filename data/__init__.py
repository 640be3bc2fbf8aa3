"""What is fed: find a dataset by its name, create it, and load its items in batches.

`--dataset_mode foo_bar` means the class FooBarDataset (in any case) of data/foo_bar_dataset.py: a subclass of
BaseDataset with `__len__` and `__getitem__`. Nothing else has to be changed.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import random
import signal
import sys
import threading
import warnings

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset, default_collate, get_worker_info

from data.base_dataset import BaseDataset
from data.loading.byte_reader import create_reader
from data.loading.cache import fork_context
from data.loading.prefetch import FLIPS, prefetched
from data.loading.sampler import EpochSampler
from util.errors import DataError, UserError
from util.runtime import processes, seeds
from util.runtime.plugins import find_class
from util.runtime.signals import SIGNALS, held_back
from util.runtime.step_part import StepPart

# The reference's default is 4 workers; where there are fewer cores, they take turns.
warnings.filterwarnings("ignore", "This DataLoader will create")

BUILT_IN = ("aligned", "unaligned", "single", "colorization", "template")


def find_dataset_using_name(dataset_name: str) -> type[BaseDataset]:
    """Return the class that `--dataset_mode dataset_name` means."""
    return find_class("data", dataset_name, BaseDataset)


def get_option_setter(dataset_name: str):
    """Return the function by which a dataset adds its options."""
    return find_dataset_using_name(dataset_name).modify_commandline_options


def create_dataset(opt, shared: bool = True) -> CustomDatasetDataLoader:
    """Create the dataset that `opt.dataset_mode` names, and its loader.

    torchrun's processes share out the images, or each gets all of them.
    """
    return CustomDatasetDataLoader(opt, shared)


class CustomDatasetDataLoader:
    """Batches of a dataset, epoch by epoch; the same whatever the number of workers, and from wherever one begins."""

    def __init__(self, opt, shared: bool = True):
        self.opt = opt
        self.dataset = find_dataset_using_name(opt.dataset_mode)(opt)
        if not len(self):
            raise UserError(f"dataset [{type(self.dataset).__name__}] is empty: --dataroot {opt.dataroot}.")
        if processes.is_main():
            print(f"dataset [{type(self.dataset).__name__}] was created")
        if reader := create_reader(opt, self.dataset):
            self.dataset.byte_reader = reader
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
        shares_memory = getattr(self.dataset.byte_reader, "cache", None) and int(opt.num_threads) > 0
        self.dataloader = DataLoader(
            SeededItems(self.dataset, seed),
            batch_sampler=self.sampler,
            num_workers=int(opt.num_threads),
            collate_fn=collate,
            worker_init_fn=_outlive_signals,
            persistent_workers=int(opt.num_threads) > 0,
            multiprocessing_context=fork_context() if shares_memory else None,
            pin_memory=self.device.type == "cuda",
            generator=torch.Generator(),  # of its own: by default the loader draws from the training's
        )
        self.begun = False
        self.step_part = StepPart()  # how the batch at hand counts, see EpochSampler.step_part

    def load_data(self):
        """Return the loader itself."""
        return self

    def set_epoch(self, epoch: int, start: int = 0) -> None:
        """Choose the epoch to load next, and after how many of its images (of all processes) to begin."""
        self.sampler.set_epoch(epoch, start)
        self.begun = False

    def __len__(self):
        """Return how many images an epoch has, of all processes together."""
        return int(min(len(self.dataset), self.opt.max_dataset_size))

    def __iter__(self):
        """Yield the batches of an epoch, their images on the device.

        A loop that never calls `set_epoch` gets another epoch each time.
        """
        if self.begun:
            self.set_epoch(self.sampler.epoch + 1)
        self.begun = True
        for number, batch in enumerate(prefetched(self._batches(), self.device)):
            if isinstance(batch, UserError):
                # A new one: an exception that its own frame holds is freed late, and then the workers take 5 s to end.
                raise DataError(*batch.args)
            self.step_part = self.sampler.step_part(number)
            yield batch

    def _batches(self):
        """Yield the loader's batches; a worker's death is an error when a batch is missing, not amid a step."""
        sigchld = getattr(signal, "SIGCHLD", None)
        former = signal.getsignal(sigchld) if sigchld else None
        try:
            with held_back():  # torchrun's reach a worker that has only just begun, too
                batches = iter(self.dataloader)
            if former is not None and threading.current_thread() is threading.main_thread():
                signal.signal(sigchld, former)  # in place of the loader's handler, which raises wherever the program is
            yield from batches
        except RuntimeError as error:
            if not str(error).startswith("DataLoader worker (pid"):
                raise
        else:
            return
        raise DataError(
            "a process that loads images was killed or crashed: the memory is probably short. Fewer --num_threads need "
            "less of it; in a container, give more shared memory (docker run --shm-size 8g)"
        )


class SeededItems(Dataset):
    """A dataset's items, every random draw in them seeded by (seed, epoch, index).

    A UserError is returned as the item: raised in a worker it would arrive as that worker's traceback.
    """

    def __init__(self, dataset, seed: int):
        self.dataset, self.seed = dataset, seed

    def __getitem__(self, key: tuple[int, int]):
        epoch, index = key
        # Without workers the generators are the training's own, which must not notice.
        with keep_random_state() if get_worker_info() is None else contextlib.nullcontext():
            seeds.seed_all(self.seed, "item", epoch, index)
            try:
                return self.dataset[index]
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


def collate(items: list):
    """Stack items to a batch, unless one of them is a UserError: then that."""
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
    """Stack items of images that are bytes to arrays (N, C, H, W).

    Arrays pass from a worker by value, tensors by a shared file each, which takes longer than copying such a few bytes.
    """
    names = items[0][FLIPS]
    images = {name: torch.stack([item[name] for item in items]).numpy() for name in names}
    flips = {name: [item[FLIPS][name] for item in items] for name in names}
    others = [{key: value for key, value in item.items() if key not in (FLIPS, *names)} for item in items]
    return {**default_collate(others), **images, FLIPS: flips}


def _outlive_signals(worker: int) -> None:
    """Let the main process alone decide when a signal that reaches its workers, too, ends the training.

    Ctrl-C, torchrun and schedulers send theirs to all. A worker ends when its parent says so, or is gone.
    """
    sys.excepthook = _excepthook
    for number in SIGNALS:
        if number != signal.SIGTERM:
            signal.signal(number, signal.SIG_IGN)
    linux = hasattr(signal, "sigtimedwait")
    if hasattr(signal, "pthread_sigmask"):  # what was held back as this worker began
        signal.pthread_sigmask(signal.SIG_SETMASK, {signal.SIGTERM} if linux else ())
    if linux:
        threading.Thread(target=_obey, args=(multiprocessing.parent_process(),), daemon=True).start()


def _excepthook(kind: type, error: BaseException, trace) -> None:
    """Show an error of a worker's threads, but not that the main process, ended by Ctrl-C, asks for no more images."""
    if not issubclass(kind, (EOFError, ConnectionError)):
        sys.__excepthook__(kind, error, trace)


def _obey(main) -> None:
    """End this worker by the main process's own SIGTERM, or soon after the main process.

    The loader's own watch takes 5 s, in which torchrun's other processes would wait: a worker holds the connections.
    """
    parent = os.getppid()  # the main process, or Python's fork server
    while os.getppid() == parent and main.is_alive():
        got = signal.sigtimedwait({signal.SIGTERM}, 0.5)
        if got and got.si_pid == main.pid:
            break
    os._exit(0)
