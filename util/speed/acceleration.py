"""Networks that compute inside in reduced precision, in another memory layout or compiled.

They take and give float32 as before. Weights, optimizers and losses stay float32, and state dicts keep their keys.
"""

from __future__ import annotations

from types import MethodType

import torch
from torch import nn
from torch.utils._pytree import tree_map

from util.speed.plan import Speed


def accelerate(net: nn.Module, device: torch.device, speed: Speed, scale: GradientScale | None = None) -> None:
    """Have a network compute inside as `speed` says, in place.

    With a `scale` the gradients of its parameters come out multiplied by it, those of its input do not.
    """
    if device.type == "meta":  # nothing is computed
        return
    if speed.channels_last:
        for p in net.parameters():
            if p.dim() == 4:
                p.data = p.data.contiguous(memory_format=torch.channels_last)
    if speed.compiled:
        torch._dynamo.config.suppress_errors = True  # without a compiler of machine code the network runs as it is
        # In place of the method: `net.compile()` would compile the hooks below too, and a wrapper would rename weights.
        # A method and no closure over `net`, so that copies of the network run themselves.
        net.forward = MethodType(torch.compile(type(net).forward, dynamic=False), net)
    if speed.dtype != torch.float32 or speed.channels_last or speed.compiled:
        PrecisionBoundary(device.type, speed, scale).attach(net)


class PrecisionBoundary:
    """The hooks where images enter and leave a network: float32 outside, the run's precision and layout inside."""

    def __init__(self, device: str, speed: Speed, scale: GradientScale | None):
        self.device, self.speed, self.scale = device, speed, scale
        self.contexts: list[torch.autocast] = []  # of the passes that have begun

    def attach(self, net: nn.Module) -> None:
        """Work at the boundary of this network from now on."""
        net.register_forward_pre_hook(self.enter, with_kwargs=True)
        net.register_forward_hook(self.leave, always_call=True)

    @classmethod
    def owns(cls, hook) -> bool:
        """Whether a network's hook is a method of a PrecisionBoundary."""
        return isinstance(getattr(hook, "__self__", None), cls)

    def enter(self, net: nn.Module, args: tuple, kwargs: dict) -> tuple[tuple, dict]:
        """Prepare a network's image tensors, and begin to compute in its precision."""
        args, kwargs = tree_map(self._inside, (args, kwargs))
        # The context ends with the network: a longer one would keep casts of weights that have changed meanwhile.
        dtype = self.speed.dtype
        self.contexts.append(torch.autocast(self.device, dtype, enabled=dtype != torch.float32))
        self.contexts[-1].__enter__()
        return args, kwargs

    def leave(self, net: nn.Module, args: tuple, result):
        """Return a network's result as float32. PyTorch also calls this when the network has raised an error."""
        self.contexts.pop().__exit__(None, None, None)
        return tree_map(self._outside, result)

    def _inside(self, x):
        if isinstance(x, torch.Tensor) and x.is_floating_point():
            x = _MultiplyGradient.apply(x, self.scale, True) if self.scale and x.requires_grad else x
            x = x.contiguous(memory_format=torch.channels_last) if self.speed.channels_last and x.dim() == 4 else x
        return x

    def _outside(self, y):
        if isinstance(y, torch.Tensor) and y.is_floating_point():
            y = y.float() if y.dtype == self.speed.dtype else y
            y = _MultiplyGradient.apply(y, self.scale, False) if self.scale and y.requires_grad else y
        return y


class GradientScale:
    """The factor by which gradients inside a model's networks are multiplied, so that float16 keeps small ones.

    `value` is a tensor () on the device, so that it can change without waiting for the device. A step whose gradients
    are not finite is skipped and halves it; 2,000 steps without one double it. A power of 2 changes no digit. All
    networks share one scale, since the generators' gradients pass through the discriminators.
    """

    def __init__(self, device: torch.device, value: float = 2.0**16):
        self.value = torch.full((), value, dtype=torch.float32, device=device)
        self.good_steps = torch.zeros((), dtype=torch.int32, device=device)

    def apply_to_step(self, optimizer: torch.optim.Optimizer, overflow: torch.Tensor) -> None:
        """Have a fused optimizer divide by the scale, and skip its step if `overflow` () is 1.0; then adapt the scale.

        Fused optimizers read `grad_scale` and `found_inf`, as PyTorch's GradScaler sets them.
        """
        optimizer.grad_scale = self.value.clone()
        earlier = getattr(optimizer, "found_inf", None)  # of an earlier bad step (util.monitor.non_finite)
        on_device = overflow.device.type == "cuda" and earlier is not None
        optimizer.found_inf = torch.maximum(earlier, overflow) if on_device else overflow
        torch._amp_update_scale_(self.value, self.good_steps, overflow, 2.0, 0.5, 2000)

    def state(self) -> list:
        """Return what resuming needs: the value, and the number of good steps since it changed."""
        return [self.value.item(), self.good_steps.item()]

    def restore(self, state: list) -> None:
        """Continue from a `state`."""
        self.value.fill_(state[0])
        self.good_steps.fill_(state[1])


class _MultiplyGradient(torch.autograd.Function):
    """Pass a tensor through; multiply its gradient by the scale's value at the time of the backward pass, or divide."""

    @staticmethod
    def forward(ctx, x, scale, divide):
        ctx.scale, ctx.divide = scale, divide
        return x.view_as(x)

    @staticmethod
    def backward(ctx, grad):
        factor = ctx.scale.value
        return grad / factor if ctx.divide else grad * factor, None, None
