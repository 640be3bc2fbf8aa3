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

from util.runtime import processes

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


def choose(opt, device: torch.device, saved: object = None) -> tuple[str, list[str]]:
    """Return what a run is made fast by, as words (`bf16 channels_last compile capture cuda`), and what to say of it.

    The first word is the precision. A run that goes on keeps what was `saved`, as long as its device is of that kind
    and its options allow it.
    """
    if opt.precision not in DTYPES:  # an option of a plug-in's own
        return "fp32", []
    given = getattr(opt, "given", ())
    if opt.fast is not True:
        return opt.precision, why_slow(opt.precision, device)
    before = saved.split() if isinstance(saved, str) else []
    if before[-1:] != [device.type] or {"fast", "precision"} & set(given) or ("fp16" in before and why_not_fp16(opt)):
        before = []
    precision, why = best_precision(opt, device)
    if before or "precision" in given:
        precision, why = (before[0], "as before") if before else (opt.precision, "as typed")
    compiled, captured = why_not_compile(opt, device), why_not_capture(opt, device)
    layout = why_not_channels_last(opt, device, precision, not compiled)
    words, told = [precision], [f"{precision} within the networks ({why})"]
    for word, text, obstacle in (
        ("channels_last", "channels_last", layout),
        ("compile", "compiled networks, for which the first steps take a minute or more", compiled),
        ("capture", "captured steps", captured),
    ):
        if before and word not in before:
            obstacle = obstacle or "as before"
        words += [] if obstacle else [word]
        if device.type == "cuda" or not obstacle:
            told.append(f"no {text.split(',')[0]} ({obstacle})" if obstacle else text)
    told.append("images are bytes until they are on the device")
    return " ".join([*words, device.type]), [f"--fast: {'; '.join(told)}", *why_slow(precision, device)]


def best_precision(opt, device: torch.device) -> tuple[str, str]:
    """Return the fastest precision in which training is sound on a device, and the reason."""
    if device.type == "cuda":
        major, minor = torch.cuda.get_device_capability(device)
        if major >= 8:
            return "bf16", "this GPU has bfloat16 units"
        if major < 7:
            return "fp32", f"a GPU of compute capability {major}.{minor} has nothing faster"
        obstacle = why_not_fp16(opt)
        return ("fp32", obstacle) if obstacle else ("fp16", "this GPU has float16 units, and none for bfloat16")
    if device.type == "cpu":
        has_units = computes_in_bf16()
        return (
            ("bf16", "this CPU has bfloat16 instructions") if has_units else ("fp32", "no bfloat16 instructions here")
        )
    return "fp32", "nothing faster is known for this device"


def computes_in_bf16() -> bool:
    """Whether this CPU has instructions for bfloat16; others are slower in it than in float32."""
    names = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
    return any(getattr(torch.cpu, name)() for name in names if hasattr(torch.cpu, name))


def why_slow(precision: str, device: torch.device) -> list[str]:
    """Say that a precision is emulated on this device, and therefore slower than float32."""
    slow = {
        ("cpu", "bf16"): not computes_in_bf16(),
        ("cpu", "fp16"): True,
        ("cuda", "bf16"): device.type == "cuda" and torch.cuda.get_device_capability(device)[0] < 8,
    }
    if not slow.get((device.type, precision)):
        return []
    return [f"--precision {precision} is slower than fp32 here: this device has no units for it"]


def why_not_fp16(opt) -> str:
    """Say why training can't be scaled as float16 needs it; empty if it can."""
    if opt.isTrain and opt.gan_mode == "wgangp":
        return "--gan_mode wgangp differentiates twice, and float16's scale does not survive that"
    if opt.isTrain and opt.grad_accum > 1:
        return "float16's scale may change between the batches of --grad_accum"
    return ""


def why_not_channels_last(opt, device: torch.device, precision: str, compiled: bool) -> str:
    """Say why networks would not be faster in that memory layout; empty if they are."""
    resnet = opt.netG.startswith("resnet")
    if precision == "fp32":
        return "float32 does not gain by it"
    if device.type == "cuda":
        return "without compiling, reflected borders are rearranged twice" if resnet and not compiled else ""
    return "" if device.type == "cpu" and resnet else "U-Nets lose by it here"


def sizes_repeat(opt) -> bool:
    """Whether all images that the networks get are of one size."""
    return opt.preprocess not in ("scale_width", "none")


def why_not_compile(opt, device: torch.device) -> str:
    """Say why compiling the networks is impossible or would not pay; empty if it does."""
    if device.type != "cuda":
        return "not measured to pay without a CUDA GPU"
    for obstacle, there in (
        ("it takes longer than most test sets do", not opt.isTrain),
        (f"sizes vary with --preprocess {opt.preprocess}", not sizes_repeat(opt)),
        ("--grad_checkpoint", opt.isTrain and opt.grad_checkpoint),
        ("--gan_mode wgangp differentiates twice", opt.isTrain and opt.gan_mode == "wgangp"),
        ("needs a GPU of compute capability 7", torch.cuda.get_device_capability(device)[0] < 7),
        ("needs the package triton", importlib.util.find_spec("triton") is None),
    ):
        if there:
            return obstacle
    return ""


def why_not_capture(opt, device: torch.device) -> str:
    """Say why training steps can't be captured as a CUDA graph; empty if they can, as far as options tell."""
    if device.type != "cuda":
        return "needs a CUDA GPU"
    if not opt.isTrain:
        return "only training has steps"
    for obstacle, there in (
        (f"sizes vary with --preprocess {opt.preprocess}", not sizes_repeat(opt)),
        ("several processes", processes.world_size() > 1),
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
    """The factor by which gradients within a model's networks are multiplied, lest they vanish in float16.

    `value` is a tensor () on the device, so that it can change without waiting for it: halved by a step whose gradients
    are not finite, which is skipped, and doubled after 2,000 steps without one. A power of 2 changes no digit. There is
    one for all networks, as the generators' gradients pass through the discriminators.
    """

    def __init__(self, device: torch.device, value: float = 2.0**16):
        self.value = torch.full((), value, dtype=torch.float32, device=device)
        self.good_steps = torch.zeros((), dtype=torch.int32, device=device)

    def hand_to(self, optimizer: torch.optim.Optimizer, overflow: torch.Tensor) -> None:
        """Have a fused optimizer divide by the scale, and skip its step if `overflow` () is 1.0; then follow that."""
        optimizer.grad_scale = self.value.clone()
        earlier = getattr(optimizer, "found_inf", None)  # of what was bad before (util.monitor.non_finite)
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


def make_scale(opt, device: torch.device) -> Scale | None:
    """Return a Scale for training in float16, else None."""
    return Scale(device) if opt.isTrain and precision_of(opt) == torch.float16 else None


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


def accelerate(net: nn.Module, opt, device: torch.device, scale: Scale | None = None, ours: bool = True) -> None:
    """Have a network compute inside as `opt.speed` says, in place; it takes and gives float32 as before.

    With a `scale` the gradients of its parameters come out multiplied by it, those of its input do not. Networks of
    models that are not `ours` are not compiled: they may differentiate twice, or keep graphs, which then fails.
    """
    dtype, channels_last = precision_of(opt), has(opt, "channels_last")
    compiled = ours and has(opt, "compile")
    if device.type == "meta":  # nothing is computed
        return
    if channels_last:
        for p in net.parameters():
            if p.dim() == 4:
                p.data = p.data.contiguous(memory_format=torch.channels_last)
    if compiled:  # where that fails, for want of a compiler for example, the network runs as it is
        torch._dynamo.config.suppress_errors = True
    if dtype != torch.float32 or channels_last or compiled:
        run = torch.compile(type(net).forward, dynamic=False) if compiled else type(net).forward
        # A method, and no closure over `net`: copies of the network are to run themselves.
        net.forward = MethodType(functools.partial(_forward, Edge(run, device.type, dtype, channels_last, scale)), net)
