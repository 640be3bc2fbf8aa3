"""Losses and gradients that are not finite stop a run before they reach the weights."""

from __future__ import annotations

from collections import OrderedDict

import torch

from util.errors import UserError

KEPT = 1000  # steps whose images are remembered


class Health:
    """Look at every optimizer's gradients, and at the model's losses, just before they are applied.

    On a CUDA device nothing waits for the answer: it stays there as the number of the first bad step, from which on
    the fused optimizers skip (they read `found_inf`, as for a gradient scaler). `check` reads it; whoever prints or
    saves waits for the device anyway. On other devices, and for optimizers that cannot skip, a bad step is an error at
    once. With a `Scale` (float16) gradients that overflow are no error but skipped, and the scale is halved.
    """

    def __init__(self, model):
        self.model = model
        self.steps = 0  # of all optimizers together
        self.gathered: dict[int, dict[str, None]] = {}  # images since an optimizer's last step, by its id
        self.images: OrderedDict[int, list[str]] = OrderedDict()  # of the last steps
        self.count: torch.Tensor | None = None  # (), int64, on the device: the same as `steps`
        self.recording = False  # whether util.speed.cuda_graphs records a step
        self.first_bad: torch.Tensor | None = None  # (), int64, on the device: 0 or the number of the first bad step

    def watch(self, optimizer: torch.optim.Optimizer, scale=None) -> None:
        """Look at what this optimizer is about to apply, from now on; undo a Scale that its gradients have."""
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
        """Remember from which images an optimizer is getting gradients."""
        paths = self.model.get_image_paths() or ()
        seen = self.gathered.setdefault(id(optimizer), {})
        seen.update(dict.fromkeys([paths] if isinstance(paths, str) else paths))

    def note_step(self, optimizer) -> None:
        """Remember from which images an optimizer's next step comes."""
        self.steps += 1
        self.note_images(optimizer)
        self.images[self.steps] = list(self.gathered.pop(id(optimizer)))
        if len(self.images) > KEPT:
            self.images.popitem(last=False)

    def _before_step(self, optimizer, scale=None) -> None:
        self.note_step(optimizer)
        gradients = [p.grad for group in optimizer.param_groups for p in group["params"] if p.grad is not None]
        if not gradients:
            return
        device = gradients[0].device
        losses = [loss for loss in self._losses().values() if loss.device == device]
        finite = all_finite(losses if scale else gradients + losses, device)
        if scale:  # gradients that are not finite without a scale to blame are bad, too
            overflow = ~all_finite(gradients, device)
            finite &= ~overflow | (scale.value > 1)
        if self.can_skip(optimizer, device):
            self.skip_if_bad(optimizer, finite)
        elif not finite:
            raise UserError(self._explain(self.steps, ", ".join(self._bad_losses()) or "a gradient"))
        if scale:
            scale.hand_to(optimizer, overflow.to(torch.float32))

    def can_skip(self, optimizer, device: torch.device) -> bool:
        """Whether the device itself can leave out an optimizer's step."""
        return device.type == "cuda" and bool(optimizer.defaults.get("fused"))

    def skip_if_bad(self, optimizer, finite: torch.Tensor) -> None:
        """Have a fused optimizer skip this step and all later ones, if this one or an earlier one is bad."""
        if self.first_bad is None:
            self.first_bad = torch.zeros((), dtype=torch.int64, device=finite.device)
            self.count = torch.zeros_like(self.first_bad)
        if self.recording:
            self.count += 1  # the step will be taken many times, and its number has to be that time's
        else:
            self.count.fill_(self.steps)
        self.first_bad += (~finite & (self.first_bad == 0)) * self.count
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

    def _explain(self, step: int, what: str) -> str:
        paths = self.images.get(step)
        where = (
            f"epoch {self.model.progress.epoch}, images of the batch: {', '.join(map(repr, paths))}" if paths else ""
        )
        return (
            f"{what} is not finite: it was not applied to the weights, and training stopped "
            f"({where or 'its images are not known any more'}). What was saved before is intact.\n"
            "  Broken or flat images do that: look at the ones named, and try python scripts/doctor.py with the same "
            "arguments. If they are fine, a lower --lr may help; --continue_train goes on from the last save."
        )


def all_finite(tensors: list[torch.Tensor], device: torch.device) -> torch.Tensor:
    """Return, as a tensor (), whether all values are finite; the device is not waited for."""
    if not tensors:
        return torch.ones((), dtype=torch.bool, device=device)
    norms = torch._foreach_norm(tensors)  # one pass; NaN and infinity show in it
    return torch.stack([norm.to(torch.float32) for norm in norms]).isfinite().all()
