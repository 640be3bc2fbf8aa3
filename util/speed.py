"""What makes a run fast: precision, memory layout, compilation, captured steps. Chosen once, told once.

The objective stays, and so do the weights, the optimizers and the losses, which are float32: networks compute inside in
`--precision`, and take and give float32. What each ingredient gives and costs stands in docs/performance.md.
"""

from __future__ import annotations

import functools
import importlib.util
from collections.abc import Callable
from types import MethodType
from typing import NamedTuple

import torch
from torch import nn
from torch.utils._pytree import tree_map

from util import runtime

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


def choose(opt, device: torch.device, saved: str | None = None) -> tuple[str, list[str]]:
    """Return what a run is made fast by, as words (`bf16 channels_last compile capture`), and what to tell the user.

    The first word is the precision. A run that goes on keeps what was `saved`, as long as its device is of that kind.
    """
    given = getattr(opt, "given", ())
    if not opt.fast:
        return opt.precision, []
    if saved and device.type == saved.split()[-1] and not {"fast", "precision"} & set(given):
        return saved, [f"--fast: {saved}, as before"]
    precision, why = (opt.precision, "as typed") if "precision" in given else best_precision(device)
    words, told = [precision], [f"{precision} within the networks ({why})"]
    if device.type == "cuda" or (precision == "bf16" and opt.netG.startswith("resnet")):  # on a CPU, U-Nets lose by it
        words.append("channels_last")
        told.append("channels_last")
    if device.type == "cuda":
        for name, text, obstacle in (
            ("compile", "compiled networks", why_not_compile(opt)),
            ("capture", "captured steps", why_not_capture(opt)),
        ):
            words += [] if obstacle else [name]
            told.append(f"no {text} ({obstacle})" if obstacle else text)
    told.append("images stay uint8 until they are on the device")
    return " ".join([*words, device.type]), [f"--fast: {', '.join(told)}"]


def best_precision(device: torch.device) -> tuple[str, str]:
    """Return the fastest precision in which training is sound on a device, and the reason."""
    if device.type == "cuda":
        major, minor = torch.cuda.get_device_capability(device)
        if major >= 8:
            return "bf16", "this GPU has bfloat16 units"
        if major >= 7:
            return "fp16", "this GPU has float16 units, and none for bfloat16"
        return "fp32", f"a GPU of compute capability {major}.{minor} has nothing faster"
    units = [name for name in ("_is_avx512_bf16_supported", "_is_amx_tile_supported") if hasattr(torch.cpu, name)]
    if device.type == "cpu" and any(getattr(torch.cpu, name)() for name in units):
        return "bf16", "this CPU has bfloat16 instructions"
    return "fp32", "nothing faster is known for this device" if device.type != "cpu" else "no bfloat16 instructions"


def make_scales(opt, optimizers: list, device: torch.device) -> list[Scale | None]:
    """Return a Scale for each optimizer in float16, else None."""
    return [Scale(device) if precision_of(opt) == torch.float16 and opt.isTrain else None for _ in optimizers]


def sizes_repeat(opt) -> bool:
    """Whether all images that the networks get are of one size."""
    return "crop" in opt.preprocess or opt.preprocess == "resize"


def why_not_compile(opt) -> str:
    """Say why compiling the networks would not pay; empty if it does."""
    if not opt.isTrain:
        return "it takes longer than most test sets do"
    if not sizes_repeat(opt):
        return f"sizes vary with --preprocess {opt.preprocess}"
    if opt.grad_checkpoint:
        return "--grad_checkpoint"
    return "" if importlib.util.find_spec("triton") else "needs the package triton"


def why_not_capture(opt) -> str:
    """Say why training steps can't be captured as a CUDA graph; empty if they can, as far as options tell."""
    if not opt.isTrain:
        return "only training has steps"
    if not sizes_repeat(opt):
        return f"sizes vary with --preprocess {opt.preprocess}"
    for obstacle, there in (
        ("several processes", runtime.world_size() > 1),
        ("--grad_accum", opt.grad_accum > 1),
        ("--grad_checkpoint", opt.grad_checkpoint),
        ("--gan_mode wgangp", opt.gan_mode == "wgangp"),
        ("--deterministic", opt.deterministic),
    ):
        if there:
            return obstacle
    return ""


def has(opt, word: str) -> bool:
    """Whether a run is made fast by `word`."""
    return word in getattr(opt, "speed", "").split()


def precision_of(opt) -> torch.dtype:
    """Return what the networks of a run compute in."""
    return DTYPES[(getattr(opt, "speed", "") or "fp32").split()[0]]


# ---- networks ----


class Scale:
    """The factor by which gradients within networks are multiplied, lest they vanish in float16.

    `value` is a tensor () on the device, so that it can change without waiting for it: halved by a step whose gradients
    are not finite, which is skipped, and doubled after 2,000 steps without one. A power of 2 changes no digit.
    """

    def __init__(self, device: torch.device, value: float = 2.0**16):
        self.value = torch.full((), value, dtype=torch.float32, device=device)
        self.good_steps = torch.zeros((), dtype=torch.int32, device=device)

    def hand_to(self, optimizer: torch.optim.Optimizer, overflow: torch.Tensor) -> None:
        """Have a fused optimizer divide by the scale, and skip its step if `overflow` () is 1.0; then follow that."""
        optimizer.grad_scale = self.value.clone()
        earlier = getattr(optimizer, "found_inf", None)  # of what was bad before (util.health)
        on_device = overflow.device.type == "cuda" and earlier is not None
        optimizer.found_inf = torch.maximum(earlier, overflow) if on_device else overflow
        torch._amp_update_scale_(self.value, self.good_steps, overflow, 2.0, 0.5, 2000)

    def state(self) -> list:
        """Return what a run needs to go on: the value, and how many good steps it has had."""
        return [self.value.item(), self.good_steps.item()]

    def restore(self, state: list) -> None:
        """Go on from a `state`."""
        self.value.fill_(state[0])
        self.good_steps.fill_(state[1])


class _Multiply(torch.autograd.Function):
    """Pass a tensor through; multiply its gradient by the scale's value at that time, or divide by it."""

    @staticmethod
    def forward(ctx, x, scale, divide):
        ctx.scale, ctx.divide = scale, divide
        return x.view_as(x)

    @staticmethod
    def backward(ctx, grad):
        factor = ctx.scale.value
        return grad / factor if ctx.divide else grad * factor, None, None


class Edge(NamedTuple):
    """What happens where images enter and leave a network."""

    run: Callable  # the network's forward
    device: str
    dtype: torch.dtype
    channels_last: bool
    scale: Scale | None

    def enter(self, x):
        """Prepare an image tensor for the inside; other arguments stay as they are."""
        if isinstance(x, torch.Tensor) and x.is_floating_point():
            x = _Multiply.apply(x, self.scale, True) if self.scale and x.requires_grad else x
            x = x.contiguous(memory_format=torch.channels_last) if self.channels_last and x.dim() == 4 else x
        return x

    def leave(self, y):
        """Give a result of the inside out as float32."""
        if isinstance(y, torch.Tensor) and y.is_floating_point():
            y = y.float() if y.dtype == self.dtype else y
            y = _Multiply.apply(y, self.scale, False) if self.scale and y.requires_grad else y
        return y


def _forward(edge: Edge, net: nn.Module, *args, **kwargs):
    args, kwargs = tree_map(edge.enter, (args, kwargs))
    # The context ends with the network: a longer one would keep casts of weights that have changed meanwhile.
    with torch.autocast(edge.device, edge.dtype, enabled=edge.dtype != torch.float32):
        out = edge.run(net, *args, **kwargs)
    return tree_map(edge.leave, out)


def accelerate(net: nn.Module, opt, device: torch.device, scale: Scale | None = None) -> None:
    """Have a network compute inside as `opt.speed` says, in place; it takes and gives float32 as before.

    With a `scale` the gradients of its parameters come out multiplied by it, those of its input do not.
    """
    dtype, channels_last, compiled = precision_of(opt), has(opt, "channels_last"), has(opt, "compile")
    if device.type == "meta":  # nothing is computed
        return
    if channels_last:
        net.to(memory_format=torch.channels_last)
    if dtype != torch.float32 or channels_last or compiled:
        run = torch.compile(type(net).forward, dynamic=False) if compiled else type(net).forward
        # A method, and no closure over `net`: copies of the network are to run themselves.
        net.forward = MethodType(functools.partial(_forward, Edge(run, device.type, dtype, channels_last, scale)), net)
