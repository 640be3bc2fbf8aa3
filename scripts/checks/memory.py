"""The memory of a step, measured on the meta device. Sizes are in bytes."""

from __future__ import annotations

import math
import weakref
from typing import NamedTuple

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from scripts.checks.report import Finding
from util.errors import format_bytes
from util.image_pool import ImagePool
from util.runtime.step_part import StepPart

WORKSPACE = 1.6  # times the tensors of a step: with the workspace of convolutions; 1.4 to 1.6 on a CPU


class TensorBytes(TorchDispatchMode):
    """Count the bytes of the tensors made while the body runs: those alive (`now`), and the most at once (`peak`).

    Nothing is computed for tensors on the meta device, so a step of any size is measured in a second.
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


class StepMemory(NamedTuple):
    """The memory of a step."""

    images: int  # grows with the number and the area of the images
    fixed: int  # weights, gradients, moments, image pools

    @property
    def least(self) -> int:
        return self.images + self.fixed

    @property
    def likely(self) -> int:
        return int(WORKSPACE * self.images) + self.fixed


def measure_step(model, batch: dict, training: bool) -> StepMemory:
    """Measure a step on `batch` of a model on the meta device.

    Errors of the step itself pass through, for example of images that the networks can't take.
    """
    parameters = [p for net in model.networks().values() for p in net.parameters()]
    averaged = [p for average in model.averages.values() for p in average.module.parameters()]
    weights = sum(p.nbytes for p in parameters + averaged)
    if not training:
        with TensorBytes() as seen, torch.no_grad():
            model.set_input(batch)
            model.forward()
        return StepMemory(seen.peak, weights)
    model.begin_batch(StepPart(last=False))  # only gradients: Adam's moments are counted below
    with TensorBytes() as seen:
        for _ in range(2):  # the gradients of the first step are still there in the second
            model.set_input(batch)
            model.optimize_parameters()
    trained = sum(p.nbytes for p in parameters if p.requires_grad)
    states = [state for optimizer in model.optimizers for state in optimizer.state.values()]  # of a model's own steps
    images = seen.peak - trained - sum(leaf.nbytes for leaf in tree_leaves(states) if isinstance(leaf, torch.Tensor))
    pools = [pool for pool in vars(model).values() if isinstance(pool, ImagePool) and pool.images]
    pool_room = sum((pool.pool_size - pool.num_imgs) * pool.images[0].nbytes for pool in pools)
    return StepMemory(max(0, images), weights + 3 * trained + pool_room)


def compare_memory(need: StepMemory, total: int, free: int, device: str, batch_size: int, crop_size: int) -> Finding:
    """Compare a step's memory with that of the device; total 0: unknown."""
    text = (
        f"a step needs {format_bytes(need.least)} for its tensors, with working space about {format_bytes(need.likely)}"
    )
    if not total:
        return Finding("ok", "memory", text)
    text += f"; {device} has {format_bytes(total)} ({format_bytes(free)} free)"
    if need.likely <= free:
        return Finding("ok", "memory", text)
    share = max(0.0, (free - need.fixed) / (need.likely - need.fixed + 1))  # of the images that would fit
    fitting, crop = int(share * batch_size), int(crop_size * math.sqrt(share)) // 32 * 32
    advice = [f"--batch_size {fitting}"] if fitting else [f"--crop_size {crop}"] if crop >= 64 else []
    advice += ["--ngf 32", "a smaller --netG"]
    return Finding("FAIL" if need.least > total else "warn", "memory", text, " or ".join(advice))
