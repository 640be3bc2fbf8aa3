"""Losses and gradients that are not finite stop a run before they reach the weights."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from util.errors import UserError

KEPT = 1000  # steps whose images are remembered


class NonFiniteGuard:
    """Check every optimizer's gradients, and the model's losses, just before they are applied.

    On a CUDA device nothing waits for the result: the number of the first bad step stays there, and from that step on
    the fused optimizers skip. `check` reads it; printing and saving wait for the device anyway. On other devices, and
    for optimizers that cannot skip, a bad step raises UserError at once. With a GradientScale (float16), gradients that
    overflow are no error: the step is skipped, and the scale is halved.
    """

    def __init__(self, model):
        self.model = model
        self.steps = 0  # of all optimizers together
        self.gathered: dict[int, dict[str, None]] = {}  # images since an optimizer's last step, by its id
        self.images: OrderedDict[int, list[str]] = OrderedDict()  # of the last steps
        self.count: torch.Tensor | None = None  # (), int64, on the device: the same as `steps`
        self.first_bad: torch.Tensor | None = None  # (), int64, on the device: 0 or the number of the first bad step
        self.recorded: list | None = None  # the optimizers of the step being recorded (util.speed.cuda_graphs)

    def watch(self, optimizer: torch.optim.Optimizer, scale=None) -> None:
        """Check the steps of this optimizer from now on; undo the GradientScale of its gradients, if any."""
        if scale and not optimizer.defaults.get("fused"):
            raise UserError(
                f"--precision fp16 needs fused optimizers, and {type(self.model).__name__} has another "
                f"({type(optimizer).__name__}): make it with fused=True, or type --precision fp32"
            )
        within = {id(p) for net in self.model.networks().values() for p in net.parameters()} if scale else ()
        if scale and any(id(p) not in within for group in optimizer.param_groups for p in group["params"]):
            raise UserError(
                f"--precision fp16 scales gradients within the networks of model_names, and an optimizer of "
                f"{type(self.model).__name__} has parameters of others: name their networks, or type --precision fp32"
            )
        optimizer.register_step_pre_hook(lambda optimizer, args, kwargs: self._before_step(optimizer, scale))

    def note_images(self, optimizer) -> None:
        """Remember the images from which an optimizer gets gradients."""
        paths = self.model.get_image_paths() or ()
        seen = self.gathered.setdefault(id(optimizer), {})
        seen.update(dict.fromkeys([paths] if isinstance(paths, str) else paths))

    def note_step(self, optimizer) -> None:
        """Remember the images of an optimizer's next step."""
        self.steps += 1
        self.note_images(optimizer)
        self.images[self.steps] = list(self.gathered.pop(id(optimizer)))
        if len(self.images) > KEPT:
            self.images.popitem(last=False)

    @contextmanager
    def recording(self) -> Iterator[list]:
        """Check steps that will be replayed many times; yield the list of optimizers that step in the body."""
        self.recorded = []
        try:
            yield self.recorded
        finally:
            self.recorded = None

    def _before_step(self, optimizer, scale=None) -> None:
        if self.recorded is None:
            self.note_step(optimizer)
        else:
            self.recorded.append(optimizer)
        gradients = [p.grad for group in optimizer.param_groups for p in group["params"] if p.grad is not None]
        if not gradients or gradients[0].is_meta:
            return
        device = gradients[0].device
        losses = [loss for loss in self._losses().values() if loss.device == device]
        finite = all_finite(losses if scale else gradients + losses, device)
        if scale:  # at a scale of 1, a gradient that is not finite is bad as well
            overflow = ~all_finite(gradients, device)
            finite &= ~overflow | (scale.value > 1)
        if self.can_skip(optimizer, device):
            self.skip_if_bad(optimizer, finite)
        elif not finite:
            raise UserError(self._explain(self.steps, ", ".join(self._bad_losses()) or "a gradient"))
        if scale:
            scale.apply_to_step(optimizer, overflow.to(torch.float32))

    def can_skip(self, optimizer, device: torch.device) -> bool:
        """Whether the device itself can skip an optimizer's step."""
        return device.type == "cuda" and bool(optimizer.defaults.get("fused"))

    def skip_if_bad(self, optimizer, finite: torch.Tensor) -> None:
        """Have a fused optimizer skip this step and all later ones, if this one or an earlier one is bad."""
        if self.first_bad is None:
            self.first_bad = torch.zeros((), dtype=torch.int64, device=finite.device)
            self.count = torch.zeros_like(self.first_bad)
        if self.recorded is None:
            self.count.fill_(self.steps)
        else:
            self.count += 1  # each replay is another step
        self.first_bad += (~finite & (self.first_bad == 0)) * self.count
        # Fused optimizers read these two attributes, as PyTorch's GradScaler sets them.
        optimizer.grad_scale, optimizer.found_inf = None, (self.first_bad > 0).to(torch.float32)

    def check(self) -> None:
        """Raise UserError if a step since the last call was bad. Waits for the device."""
        if self.first_bad is not None and (step := int(self.first_bad)):
            raise UserError(self._explain(step, "a loss or a gradient"))

    def _losses(self) -> dict[str, torch.Tensor]:
        losses = {name: getattr(self.model, f"loss_{name}", None) for name in self.model.loss_names}
        return {name: loss.detach() for name, loss in losses.items() if isinstance(loss, torch.Tensor)}

    def _bad_losses(self) -> list[str]:
        return [f"{name} ({loss.item()})" for name, loss in self._losses().items() if not loss.isfinite().all()]

    def _explain(self, step: int, cause: str) -> str:
        paths = ", ".join(map(repr, self.images.get(step, ()))) or "unknown"
        return (
            f"{cause} is not finite: it was not applied to the weights, and training stopped (epoch "
            f"{self.model.progress.epoch}, images of the batch: {paths}). The last checkpoint is intact.\n"
            "  Broken or flat images cause this: look at them, and try python scripts/doctor.py with the same "
            "arguments. If they are fine, a lower --lr may help; --continue_train resumes from the last checkpoint."
        )


def all_finite(tensors: list[torch.Tensor], device: torch.device) -> torch.Tensor:
    """Return, as a tensor (), whether all values are finite, without waiting for the device."""
    if not tensors:
        return torch.ones((), dtype=torch.bool, device=device)
    norms = torch._foreach_norm(tensors)  # one pass; NaN and infinity show in it
    return torch.stack([norm.to(torch.float32) for norm in norms]).isfinite().all()
