"""Training steps from a recording (CUDA graph), so that a step costs its arithmetic and not its launches.

A step of pix2pix or CycleGAN at batch 1 is some thousand small kernels, and launching them takes a CPU longer than a
GPU takes to run them. A recording launches them all at once. It repeats the same kernels on the same memory; so what
changes from step to step is put into that memory before: images, learning rates, and what the image pools draw.
"""

from __future__ import annotations

import contextlib
import gc

import torch

from util.errors import UserError
from util.image_pool import ImagePool, Swap
from util.runtime.step_part import StepPart

WARM_UP = 3  # steps before the recording: kernels are chosen and compiled in them, Adam's moments made


class CudaGraph:
    """A recording on the current CUDA device. What is recorded runs before on the same stream, to warm up."""

    def __init__(self):
        self.stream, self.graph = torch.cuda.Stream(), torch.cuda.CUDAGraph()

    def warm_up(self, step) -> None:
        """Execute `step()`: kernels are chosen and compiled."""
        self.stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(self.stream):
            step()
        torch.cuda.current_stream().wait_stream(self.stream)

    def record(self, step) -> None:
        """Record `step()` without executing it."""
        gc.collect()
        gc.disable()  # graphs and events of others that end meanwhile would end the recording, too
        try:
            # The loader's thread may allocate meanwhile.
            with torch.cuda.graph(self.graph, stream=self.stream, capture_error_mode="thread_local"):
                step()
        finally:
            gc.enable()

    def replay(self) -> None:
        """Execute what was recorded."""
        self.graph.replay()


def install(model, graph=CudaGraph) -> None:
    """Have `model.optimize_parameters` go by a recording, if the model's class itself says that it can.

    It does by `capturable`, the names of the images that its set_input takes. A subclass has to say so for itself: its
    steps may do what a recording does not repeat, such as random draws in Python.
    """
    if "capturable" in vars(type(model)):
        model.optimize_parameters = CapturedStep(model, graph())
    else:
        print(f"--fast: steps of {type(model).__name__} are not captured, for it does not declare what it takes")


class CapturedStep:
    """A model's `optimize_parameters`: the first steps as they are, then one recorded and replayed ever after.

    Batches of another shape (an epoch's last one) are trained on as they are. The recording leaves its results in the
    model's attributes, which later replays write over: losses and images are to be read before the next step.
    """

    def __init__(self, model, graph):
        self.model, self.graph = model, graph
        self.warmed_up = 0  # steps on whole batches
        self.images: dict[str, torch.Tensor] = {}  # that the recorded step takes
        self.results: dict[str, object] = {}  # and the attributes that it sets
        self.rates: list[Rate] = []
        self.pools: list[PoolOnDevice] = []  # in the order in which the step asks them
        self.optimizers: list = []  # in the order in which they step

    def __call__(self) -> None:
        """Make one training step on what `set_input` took."""
        model = self.model
        taken = {name: getattr(model, name) for name in vars(type(model))["capturable"]}
        whole = all(len(image) == model.opt.batch_size for image in taken.values())
        fits = all(taken[name].shape == image.shape for name, image in self.images.items())
        if model.step_part != StepPart() or not (whole and fits):
            self.eagerly()
        elif self.warmed_up < WARM_UP:
            self.warmed_up += 1
            self.graph.warm_up(self.eagerly)
        else:
            if not self.images:
                self.record(taken)
            self.replay(taken)

    def eagerly(self) -> None:
        """Make a step operation by operation."""
        type(self.model).optimize_parameters(self.model)

    def record(self, taken: dict[str, torch.Tensor]) -> None:
        """Record a step on such images; no weight moves. Raises UserError where that can't be done."""
        model, images = self.model, {name: image.clone() for name, image in taken.items()}
        self.rates = [Rate(group, model.device) for optimizer in model.optimizers for group in optimizer.param_groups]
        # Without the graphs of earlier steps, whose ends at the weights belong to other streams, and without their
        # losses, which would be looked at, here and ever after.
        vars(model).update(without_graphs(vars(model)) | images)
        for name in model.loss_names:
            vars(model).pop(f"loss_{name}", None)
        before = dict(vars(model))
        try:
            with self.recording(count=len(next(iter(images.values())))):
                self.graph.record(self.eagerly)
        except RuntimeError as error:
            reasons = [str(reason).splitlines()[0] for reason in (error.__context__, error) if reason]
            raise UserError(
                f"--fast: the training step can't be captured ({'; '.join(reasons)}). Type --precision "
                f"{model.opt.speed.split()[0]} in place of --fast. Nothing was lost: it was step {WARM_UP + 1}"
            ) from error
        self.images = images
        self.results = {name: value for name, value in vars(model).items() if before.get(name) is not value}
        self.results.update(without_graphs(self.results))

    @contextlib.contextmanager
    def recording(self, count: int):
        """Have rates, pools and health prepared for steps on `count` images that are taken many times."""
        model = self.model
        pools = [pool for pool in vars(model).values() if isinstance(pool, ImagePool) and pool.pool_size]
        model.health.recording, model.health.note_step = True, self.optimizers.append
        try:
            for pool in pools:
                pool.recording = PoolOnDevice(pool, count, self.pools)
            for rate in self.rates:
                rate.begin()
            yield
        finally:
            del model.health.note_step
            model.health.recording = False
            for rate in self.rates:
                rate.end()
            for pool in pools:
                pool.recording = None

    def replay(self, taken: dict[str, torch.Tensor]) -> None:
        """Make the recorded step on other images."""
        for name, image in self.images.items():
            image.copy_(taken[name], non_blocking=True)
        for changing in (*self.rates, *self.pools):
            changing.prepare()
        self.graph.replay()
        vars(self.model).update(self.images | self.results)
        for optimizer in self.optimizers:
            self.model.health.note_step(optimizer)


def without_graphs(values: dict) -> dict[str, torch.Tensor]:
    """Return the tensors of `values` that gradients could flow through, detached."""
    return {name: value.detach() for name, value in values.items() if isinstance(value, torch.Tensor) and value.grad_fn}


class Rate:
    """A learning rate, in an optimizer's group for the schedulers, and on the device for the recording."""

    def __init__(self, group: dict, device: torch.device):
        self.group, self.there = group, float(group["lr"])
        self.value = torch.full((), self.there, dtype=torch.float32, device=device)

    def begin(self) -> None:
        """Have the recorded step read it from the device."""
        self.group["lr"], self.group["capturable"] = self.value, self.value.device.type == "cuda"

    def end(self) -> None:
        """Give the group its number back."""
        self.group["lr"], self.group["capturable"] = self.there, False

    def prepare(self) -> None:
        """Bring the device's value up to date."""
        if self.group["lr"] != self.there:
            self.there = float(self.group["lr"])
            self.value.fill_(self.there)


class PoolOnDevice:
    """An image pool whose draws are made here and whose swaps are made there, in the recording."""

    def __init__(self, pool: ImagePool, count: int, asked: list):
        """Take over the images of `pool`, all of one size; a query of `count` images adds this to the list `asked`."""
        shapes = {image.shape for image in pool.images}
        if len(shapes) != 1:
            raise RuntimeError(f"an image pool holds images of {len(shapes)} sizes")
        self.pool, self.asked = pool, asked
        # One more than the pool has: there goes what is stored nowhere.
        self.buffer = pool.images[0].new_zeros((pool.pool_size + 1, *pool.images[0].shape[1:]))
        self.slots = self.buffer[:-1].split(1)
        self.plan = torch.zeros(4, count, dtype=torch.int64, device=self.buffer.device)

    def __call__(self, images: torch.Tensor) -> torch.Tensor:
        """Swap images (N, C, H, W) as the plan says; these operations are recorded."""
        self.asked.append(self)
        is_old, slot, image, target = self.plan
        out = torch.where(is_old.bool()[:, None, None, None], self.buffer[slot], images[image])
        self.buffer.index_copy_(0, target, images.contiguous())
        return out

    def prepare(self) -> None:
        """Draw what becomes of the next images."""
        for k, image in enumerate(self.pool.images):
            if image is not self.slots[k]:  # a step that was not replayed has put it there
                self.slots[k].copy_(image)
        swaps = [self.pool.draw() for _ in range(self.plan.shape[1])]
        self.pool.images = list(self.slots[: self.pool.num_imgs])
        # From pageable memory, which is read before this returns: what is pinned might be written over too early.
        self.plan.copy_(torch.tensor(plan(swaps, len(self.slots))), non_blocking=True)


def plan(swaps: list[Swap], nowhere: int) -> list[list[int]]:
    """Say for each image of a batch what comes back for it, and where it goes, as if they were swapped one by one.

    Rows: whether an image from before the batch comes back; from which slot; else which image of the batch; and where
    it is stored, `nowhere` if a later one of the batch replaces it there, or if it is not stored.
    """
    inside: dict[int, int] = {}  # slot -> the image of the batch that it holds by now
    rows = []
    for k, (slot, old) in enumerate(swaps):
        returned = inside.get(slot) if old else k
        rows.append([int(returned is None), slot if returned is None else 0, 0 if returned is None else returned])
        if slot is not None:
            inside[slot] = k
    target = [slot if slot is not None and inside[slot] == k else nowhere for k, (slot, _) in enumerate(swaps)]
    return [*map(list, zip(*rows, strict=True)), target]
