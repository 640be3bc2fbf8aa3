"""Captured training steps (CUDA graphs), which cost their arithmetic and not their launches.

A step of pix2pix or CycleGAN at batch 1 is some thousand small kernels, and launching them takes a CPU longer than a
GPU takes to run them. A recording launches them all at once, on the same memory each time. Images, learning rates and
the draws of the image pools are therefore copied into that memory before each replay.
"""

from __future__ import annotations

import contextlib
import functools
import gc

import torch

from util.errors import UserError
from util.image_pool import ImagePool, Swap
from util.runtime.run_facts import run_facts
from util.runtime.step_part import StepPart

WARM_UP = 3  # steps before the recording: kernels are chosen and compiled in them, Adam's moments made


class CudaGraph:
    """A recording on the current CUDA device, warmed up on the same stream."""

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
        gc.disable()  # a graph or an event that Python frees meanwhile would end the recording
        try:
            # The loader's thread may allocate meanwhile.
            with torch.cuda.graph(self.graph, stream=self.stream, capture_error_mode="thread_local"):
                step()
        finally:
            gc.enable()

    def replay(self) -> None:
        """Execute what was recorded."""
        self.graph.replay()


def captured(step):
    """Decorate a model's `optimize_parameters`: it goes by `model.captured_step`, if `setup` made one."""

    @functools.wraps(step)
    def run(model):
        if model.captured_step:
            model.captured_step(functools.partial(step, model))
        else:
            step(model)

    return run


def make_captured_step(model, graph=CudaGraph) -> CapturedStep | None:
    """Return the captured step of a model whose class itself declares `captured_inputs`, else None.

    These are the names of the images that its `set_input` takes. A subclass has to declare them again: its steps may do
    something that a recording does not repeat, such as random draws in Python.
    """
    if names := vars(type(model)).get("captured_inputs"):
        return CapturedStep(model, names, graph())
    print(f"--fast: steps of {type(model).__name__} are not captured, since it declares no captured_inputs")
    return None


class CapturedStep:
    """A training step that first runs as it is a few times, then is recorded once and replayed from then on.

    Batches of another shape (an epoch's last one) run as they are. The recording leaves its results in the model's
    attributes, and later replays overwrite them: losses and images must be read before the next step.
    """

    def __init__(self, model, input_names: tuple[str, ...], graph):
        self.model, self.input_names, self.graph = model, input_names, graph
        self.warmed_up = 0  # steps on whole batches
        self.images: dict[str, torch.Tensor] = {}  # inputs of the recorded step
        self.results: dict[str, object] = {}  # the attributes that it sets
        self.rates: list[Rate] = []
        self.pools: list[PoolOnDevice] = []  # in the order in which the step queries them
        self.optimizers: list = []  # in the order in which they step

    def __call__(self, step) -> None:
        """Do what `step()` does to the images that `set_input` took."""
        model = self.model
        taken = {name: getattr(model, name) for name in self.input_names}
        whole = all(len(image) == model.opt.batch_size for image in taken.values())
        fits = all(taken[name].shape == image.shape for name, image in self.images.items())
        if model.step_part != StepPart() or not (whole and fits):
            step()
        elif self.warmed_up < WARM_UP:
            self.warmed_up += 1
            self.graph.warm_up(step)
        else:
            if not self.images:
                self.record(step, taken)
            self.replay(taken)

    def record(self, step, taken: dict[str, torch.Tensor]) -> None:
        """Record `step()` for images of these shapes; no weight changes. Raises UserError where that fails."""
        model, images = self.model, {name: image.clone() for name, image in taken.items()}
        self.rates = [Rate(group, model.device) for optimizer in model.optimizers for group in optimizer.param_groups]
        # Drop the graphs of earlier steps, whose ends at the weights belong to other streams, and their losses, which
        # the recording would check each time.
        vars(model).update(without_graphs(vars(model)) | images)
        for name in model.loss_names:
            vars(model).pop(f"loss_{name}", None)
        before = dict(vars(model))
        try:
            with self.recording(count=len(next(iter(images.values())))):
                self.graph.record(step)
        except RuntimeError as error:
            reasons = [str(reason).splitlines()[0] for reason in (error.__context__, error) if reason]
            precision = run_facts(model.opt).speed.split()[0]
            raise UserError(
                f"--fast: the training step can't be captured ({'; '.join(reasons)}). Type --precision "
                f"{precision} in place of --fast. Nothing was lost: it was step {WARM_UP + 1}"
            ) from error
        self.images = images
        self.results = {name: value for name, value in vars(model).items() if before.get(name) is not value}
        self.results.update(without_graphs(self.results))

    @contextlib.contextmanager
    def recording(self, count: int):
        """Prepare learning rates, pools and the check of gradients for replayed steps on `count` images."""
        pools = [pool for pool in vars(self.model).values() if isinstance(pool, ImagePool) and pool.pool_size]
        with contextlib.ExitStack() as stack:
            self.optimizers = stack.enter_context(self.model.guard.recording())
            for pool in pools:
                stack.enter_context(pool.answered_by(PoolOnDevice(pool, count, self.pools)))
            for rate in self.rates:
                stack.enter_context(rate.on_device())
            yield

    def replay(self, taken: dict[str, torch.Tensor]) -> None:
        """Run the recorded step on other images."""
        for name, image in self.images.items():
            image.copy_(taken[name], non_blocking=True)
        for changing in (*self.rates, *self.pools):
            changing.prepare()
        self.graph.replay()
        vars(self.model).update(self.images | self.results)
        for optimizer in self.optimizers:
            self.model.guard.note_step(optimizer)


def without_graphs(values: dict) -> dict[str, torch.Tensor]:
    """Return the tensors of `values` that gradients could flow through, detached."""
    return {name: value.detach() for name, value in values.items() if isinstance(value, torch.Tensor) and value.grad_fn}


class Rate:
    """A learning rate: a number in an optimizer's group for schedulers, a tensor on the device for the recording."""

    def __init__(self, group: dict, device: torch.device):
        self.group, self.recorded = group, float(group["lr"])
        self.value = torch.full((), self.recorded, dtype=torch.float32, device=device)

    @contextlib.contextmanager
    def on_device(self):
        """Have the optimizer read the rate from the device while the body records a step.

        `capturable` is PyTorch's own word in Adam's groups for a step that never waits for the device.
        """
        self.group["lr"], self.group["capturable"] = self.value, self.value.device.type == "cuda"
        try:
            yield
        finally:
            self.group["lr"], self.group["capturable"] = self.recorded, False

    def prepare(self) -> None:
        """Bring the device's value up to date."""
        if self.group["lr"] != self.recorded:
            self.recorded = float(self.group["lr"])
            self.value.fill_(self.recorded)


class PoolOnDevice:
    """An image pool whose random draws happen here and whose swaps happen on the device, in the recording."""

    def __init__(self, pool: ImagePool, count: int, queried: list):
        """Take over the images of `pool`, all of one size; a query of `count` images appends this to `queried`."""
        shapes = {image.shape for image in pool.images}
        if len(shapes) != 1:
            raise RuntimeError(f"an image pool holds images of {len(shapes)} sizes")
        self.pool, self.queried = pool, queried
        # One slot more than the pool has takes the images that are not stored.
        self.buffer = pool.images[0].new_zeros((pool.pool_size + 1, *pool.images[0].shape[1:]))
        self.slots = self.buffer[:-1].split(1)
        self.table = torch.zeros(4, count, dtype=torch.int64, device=self.buffer.device)  # swap_table's rows

    def __call__(self, images: torch.Tensor) -> torch.Tensor:
        """Swap images (N, C, H, W) by the table; these operations are recorded."""
        self.queried.append(self)
        is_old, slot, image, target = self.table
        out = torch.where(is_old.bool()[:, None, None, None], self.buffer[slot], images[image])
        self.buffer.index_copy_(0, target, images.contiguous())
        return out

    def prepare(self) -> None:
        """Draw the swaps of the next images."""
        for k, image in enumerate(self.pool.images):
            if image is not self.slots[k]:  # a step that was not replayed has stored it
                self.slots[k].copy_(image)
        swaps = [self.pool.draw() for _ in range(self.table.shape[1])]
        self.pool.images = list(self.slots[: self.pool.num_imgs])
        # From pageable memory, which is read before this returns; pinned memory might be overwritten too early.
        self.table.copy_(torch.tensor(swap_table(swaps, len(self.slots))), non_blocking=True)


def swap_table(swaps: list[Swap], nowhere: int) -> list[list[int]]:
    """Return for each image of a batch which image is returned and where it is stored, as if swapped one by one.

    Rows: whether an image from before the batch is returned; from which slot; else which image of the batch; and where
    the image is stored, `nowhere` if it is not stored or if a later one of the batch replaces it.
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
