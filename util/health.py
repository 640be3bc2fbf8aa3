"""Losses and gradients that are not finite stop a run before they reach the weights."""

from __future__ import annotations

from collections import OrderedDict

import torch

from util.util import UserError

KEPT = 1000  # steps whose images are remembered


class Health:
    """Look at every optimizer's gradients, and at the model's losses, just before they are applied.

    On a CUDA device nothing waits for the answer: it stays there as the number of the first bad step, from which on
    the fused optimizers skip (they read `found_inf`, as for a gradient scaler). `check` reads it; whoever prints or
    saves waits for the device anyway. On other devices, and for optimizers that cannot skip, a bad step is an error at
    once.
    """

    def __init__(self, model):
        self.model = model
        self.steps = 0  # of all optimizers together
        self.gathered: dict[int, dict[str, None]] = {}  # images since an optimizer's last step, by its id
        self.images: OrderedDict[int, list[str]] = OrderedDict()  # of the last steps
        self.first_bad: torch.Tensor | None = None  # (), int64, on the device: 0 or the number of the first bad step

    def watch(self, optimizer: torch.optim.Optimizer) -> None:
        """Look at what this optimizer is about to apply, from now on."""
        optimizer.register_step_pre_hook(lambda optimizer, args, kwargs: self._before_step(optimizer))

    def note_images(self, optimizer) -> None:
        """Remember from which images an optimizer is getting gradients."""
        paths = self.model.get_image_paths() or ()
        seen = self.gathered.setdefault(id(optimizer), {})
        seen.update(dict.fromkeys([paths] if isinstance(paths, str) else paths))

    def _before_step(self, optimizer) -> None:
        self.steps += 1
        self.note_images(optimizer)
        self.images[self.steps] = list(self.gathered.pop(id(optimizer)))
        if len(self.images) > KEPT:
            self.images.popitem(last=False)
        gradients = [p.grad for group in optimizer.param_groups for p in group["params"] if p.grad is not None]
        if not gradients:
            return
        device = gradients[0].device
        tensors = gradients + [loss for loss in self._losses().values() if loss.device == device]
        norms = torch._foreach_norm(tensors)  # one pass; NaN and infinity show in it
        finite = torch.stack([norm.to(torch.float32) for norm in norms]).isfinite().all()
        if device.type == "cuda" and optimizer.defaults.get("fused"):
            self.skip_if_bad(optimizer, finite)
        elif not finite:
            raise UserError(self._explain(self.steps, ", ".join(self._bad_losses()) or "a gradient"))

    def skip_if_bad(self, optimizer, finite: torch.Tensor) -> None:
        """Have a fused optimizer skip this step and all later ones, if this one or an earlier one is bad."""
        if self.first_bad is None:
            self.first_bad = torch.zeros((), dtype=torch.int64, device=finite.device)
        newly = ~finite & (self.first_bad == 0)
        self.first_bad.add_(newly * self.steps)
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
