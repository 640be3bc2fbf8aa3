"""What can be said before training starts: disk and memory to come, and images that teach nothing.

scripts/doctor.py says all of it, train.py what costs next to nothing (`check_disk`, `about_batch`). Sizes are bytes.
"""

from __future__ import annotations

import contextlib
import io
import math
import warnings
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image, ImageStat
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from util.errors import UserError, format_bytes, warn
from util.image_pool import ImagePool
from util.monitor.validation import watched_metric
from util.runtime import processes
from util.runtime.machine import free_space

FLAT = 1.5  # of 255 levels: the standard deviation below which nothing is to be seen in an image
GREY = 3.0  # of 255 levels: how far apart the channels of a grey image are on average, JPEG's noise included
WORKSPACE = 1.6  # times the tensors of a step: with what convolutions use and blocks leave; 1.4 to 1.6 on a CPU


class Finding(NamedTuple):
    """One line of a report."""

    level: str  # ok, warn, or FAIL: it could not work
    subject: str
    text: str
    cure: str = ""  # what to type or to do


@contextlib.contextmanager
def quiet():
    """Collect what the body prints and warns of, rather than showing it."""
    said = io.StringIO()
    with warnings.catch_warnings(), contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
        warnings.simplefilter("ignore")
        yield said


# ---- disk ----


class SetSize(NamedTuple):
    """How large the files of one checkpoint are."""

    networks: int
    state: int  # moments, pools, counters
    slim: int = 3000  # what is kept of the state of an older numbered set

    @property
    def whole(self) -> int:
        return self.networks + self.state


def saved_size(values) -> int:
    """Return how large torch.save makes a file of nested `values`, whose tensors may be on the meta device."""
    tensors = [leaf for leaf in tree_leaves(values) if isinstance(leaf, torch.Tensor)]
    file = io.BytesIO()
    torch.save(_without_data(values), file)
    return file.tell() + sum(tensor.numel() * tensor.element_size() for tensor in tensors)


def _without_data(value):
    if isinstance(value, torch.Tensor):
        return torch.empty(0, dtype=value.dtype)
    if isinstance(value, dict):
        return {key: _without_data(item) for key, item in value.items()}
    return [_without_data(item) for item in value] if isinstance(value, (list, tuple)) else value


def set_size(model, crop_size: int) -> SetSize:
    """Return the sizes of a model's checkpoint: networks, Adam's moments, image pools that are full."""
    averages = [average.module for average in getattr(model, "averages", {}).values()]
    networks = sum(saved_size(dict(net.state_dict())) for net in [*model.networks().values(), *averages])
    groups = [group for optimizer in model.optimizers for group in optimizer.param_groups]
    moments = [[torch.empty(()), p, p] for group in groups for p in group["params"] if p.requires_grad]
    channels = max(model.opt.input_nc, model.opt.output_nc)
    image = torch.empty(1, channels, crop_size, crop_size, device="meta")
    pools = [value for value in vars(model).values() if isinstance(value, ImagePool)]
    images = sum(pool.pool_size for pool in pools) * processes.world_size()
    each = saved_size([image, image]) - saved_size([image])
    return SetSize(networks, SetSize._field_defaults["slim"] + saved_size([moments]) + images * each)


def count_sets(
    first_epoch: int, last_epoch: int, save_epoch_freq: int, images: int = 0, step: int = 1, every_iters: int = 0
) -> int:
    """Count the numbered checkpoints that the epochs from `first_epoch` on save.

    With `every_iters` (--save_by_iter) also those named iter_N: an epoch has `images` images, a step takes `step`.
    """
    epochs = last_epoch // save_epoch_freq - (first_epoch - 1) // save_epoch_freq + (last_epoch % save_epoch_freq > 0)
    steps = -(-images // step) * (last_epoch - first_epoch + 1)
    return epochs + (min(steps * step // every_iters, steps) if every_iters else 0)


def disk_at_end(one: SetSize, sets: int) -> int:
    """Return what the checkpoints take when training is over: `latest` is then the last numbered one's second name."""
    return sets * one.networks + (sets - 1) * one.slim + one.state


def disk_at_most(one: SetSize, sets: int) -> int:
    """Return what the checkpoints take while the last is written, beside the numbered ones and the former `latest`."""
    return 2 * one.whole + (disk_at_end(one, sets - 1) if sets > 1 else 0)


def about_disk(
    folder: Path | str, one: SetSize, sets_by: Callable[[int], int], save_epoch_freq: int, best: bool = False
) -> Finding:
    """Compare the checkpoints to come with what is free; `sets_by(n)` counts them for --save_epoch_freq n.

    With `best` there is one more, with its whole state.
    """
    elsewhere = "free some space, or --checkpoints_dir on another disk"
    try:
        free = free_space(folder)
    except UserError as error:
        return Finding("FAIL", "disk", str(error), elsewhere)
    sets = sets_by(save_epoch_freq)
    need = disk_at_most(one, sets) + best * one.whole
    text = (
        f"{sets} numbered checkpoints ({format_bytes(one.networks)} each) and the latest training state "
        f"({format_bytes(one.state)}) need up to {format_bytes(need)}; {format_bytes(free)} free for {folder}"
    )
    if free < one.whole:
        return Finding("FAIL", "disk", f"{text}: not even one fits", elsewhere)
    if free >= need:
        return Finding("ok", "disk", text)
    fitting = (2**k * save_epoch_freq for k in range(1, 16))
    rarer = next((n for n in fitting if disk_at_most(one, sets_by(n)) + best * one.whole <= free), None)
    return Finding("warn", "disk", text, (f"--save_epoch_freq {rarer}, or " if rarer else "") + elsewhere)


def disk_for(opt, model, images: int) -> Finding:
    """Say whether the checkpoints that a training run by `opt` has yet to save fit; an epoch has `images` images."""
    first, last = model.progress.epoch, opt.n_epochs + opt.n_epochs_decay
    every_iters, step = opt.save_latest_freq if opt.save_by_iter else 0, opt.batch_size * processes.world_size()
    return about_disk(
        Path(opt.checkpoints_dir) / opt.name,
        set_size(model, opt.crop_size),
        lambda save_epoch_freq: count_sets(first, last, save_epoch_freq, images, step, every_iters),
        opt.save_epoch_freq,
        best=bool(watched_metric(opt)),
    )


def check_disk(opt, model, images: int) -> None:
    """Before training: UserError where not even one checkpoint fits on the disk, a warning where not all do.

    Every process calls this; the main one, which will save, looks.
    """
    found = processes.from_main(disk_for(opt, model, images) if processes.is_main() else None)
    if found.level == "FAIL":
        raise UserError(f"{found.text}; {found.cure}")
    if found.level == "warn":
        warn(f"{found.text}; {found.cure}")


# ---- memory ----


class TensorBytes(TorchDispatchMode):
    """Count the bytes of the tensors made while the body runs: those alive (`now`), and the most at once (`peak`).

    Nothing is computed for tensors on the meta device, so that a step of any size is measured in a second.
    """

    def __init__(self):
        super().__init__()
        self.now = self.peak = 0
        self.alive: set[int] = set()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        for leaf in tree_leaves(result):
            if isinstance(leaf, torch.Tensor):
                self._see(leaf.untyped_storage())
        return result

    def _see(self, storage) -> None:
        key, count = storage._cdata, storage.nbytes()
        if key not in self.alive:
            self.alive.add(key)
            self.now += count
            self.peak = max(self.peak, self.now)
            weakref.finalize(storage, self._forget, key, count)

    def _forget(self, key: int, count: int) -> None:
        self.alive.discard(key)
        self.now -= count


class Memory(NamedTuple):
    """What a step needs."""

    images: int  # grows with the number and the area of the images
    fixed: int  # weights, gradients, moments, pools

    @property
    def least(self) -> int:
        return self.images + self.fixed

    @property
    def likely(self) -> int:
        return int(WORKSPACE * self.images) + self.fixed


def step_memory(model, batch: dict, training: bool) -> Memory:
    """Measure a step on `batch` of a model on the meta device. The model's optimizers are left without effect.

    What the step itself raises passes through: images that its networks can't take, for example.
    """
    averages = [average.module for average in getattr(model, "averages", {}).values()]
    parameters = [p for net in [*model.networks().values(), *averages] for p in net.parameters()]
    weights = sum(p.numel() * p.element_size() for p in parameters)
    if not training:
        with TensorBytes() as seen, torch.no_grad():
            model.set_input(batch)
            model.forward()
        return Memory(seen.peak, weights)
    for optimizer in model.optimizers:
        hide_gradients(optimizer)  # Adam's first step would make the moments, which are counted below
    with TensorBytes() as seen:
        for _ in range(2):  # the second meets the gradients that the first has left
            model.set_input(batch)
            model.optimize_parameters()
    pools = [pool for pool in vars(model).values() if isinstance(pool, ImagePool) and pool.images]
    to_pool = sum((pool.pool_size - pool.num_imgs) * pool.images[0].nbytes for pool in pools)
    trained = sum(p.numel() * p.element_size() for p in parameters if p.requires_grad)
    return Memory(max(0, seen.peak - trained), weights + 3 * trained + to_pool)


def hide_gradients(optimizer: torch.optim.Optimizer) -> None:
    """Have the steps of an optimizer see no gradients, so that they change nothing."""
    hidden = []

    def hide(*_):
        hidden.extend((p, p.grad) for group in optimizer.param_groups for p in group["params"])
        for p, _ in hidden:
            p.grad = None

    def show(*_):
        while hidden:
            p, gradient = hidden.pop()
            p.grad = gradient

    optimizer.register_step_pre_hook(hide)
    optimizer.register_step_post_hook(show)


def about_memory(need: Memory, total: int, free: int, where: str, batch_size: int, crop_size: int) -> Finding:
    """Compare what a step needs with the memory of `where`; total 0: unknown."""
    text = (
        f"a step needs {format_bytes(need.least)} for its tensors, with working space about {format_bytes(need.likely)}"
    )
    if not total:
        return Finding("ok", "memory", text)
    text += f"; {where} has {format_bytes(total)}, of which {format_bytes(free)} are free"
    if need.likely <= free:
        return Finding("ok", "memory", text)
    room = max(0.0, (free - need.fixed) / (need.likely - need.fixed + 1))  # share of the images that would fit
    fitting, crop = int(room * batch_size), int(crop_size * math.sqrt(room)) // 32 * 32
    cures = [f"--batch_size {fitting}"] if fitting else [f"--crop_size {crop}"] if crop >= 64 else []
    cures += ["--ngf 32", "a smaller --netG"]
    return Finding("FAIL" if need.least > total else "warn", "memory", text, " or ".join(cures))


# ---- images ----


class Look(NamedTuple):
    """What can be said of an image at a glance."""

    flat: bool  # nothing is to be seen in it
    saturation: float  # mean distance of its channels, 0 to 255
    colours: int  # how many, of 4096

    @property
    def grey(self) -> bool:
        return self.saturation < GREY


def look(image: Image.Image) -> Look:
    """Look at an 8-bit RGB image."""
    flat = max(ImageStat.Stat(image).stddev) < FLAT
    every = max(1, int(math.sqrt(image.width * image.height / 65536)))
    pixels = np.asarray(image)[::every, ::every].astype(np.int32)  # (h, w, 3)
    codes = (pixels >> 4) @ np.array([256, 16, 1])
    return Look(flat, float(np.ptp(pixels, axis=2).mean()), np.count_nonzero(np.bincount(codes.ravel())))


def is_cut_through(image: Image.Image, x: int) -> bool | None:
    """Tell whether an RGB picture goes on across its column `x`, rather than being two side by side.

    True if the columns on both sides of `x` differ no more than their neighbours do. None where that tells nothing: in
    areas of one colour, or where columns far apart differ as little as neighbours do.
    """
    if x < 24 or image.width - x < 24:
        return None
    strip = np.asarray(image.crop((x - 24, 0, x + 24, image.height))).astype(np.float32)  # (h, 48, 3)
    near = np.abs(np.diff(strip, axis=1)).mean(axis=(0, 2))  # (47,): of columns side by side; 23 is across x
    far = np.abs(strip[:, 16:] - strip[:, :-16]).mean(axis=(0, 2))  # (32,): 16 apart; 8 to 23 are across x
    far = np.median(np.delete(far, slice(8, 24)))
    # JPEG's blocks are 8 columns wide, and there may be more of a difference where one ends than within.
    beside = max(np.median(np.delete(near, 23)), np.median(near[[7, 15, 31, 39]]))
    if far < 4 or beside > 0.5 * far:
        return None
    return bool(near[23] <= 1.5 * beside)
