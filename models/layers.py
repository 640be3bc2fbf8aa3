"""Layers that PyTorch lacks: norms, padded borders, and sequences that recompute their activations."""

from __future__ import annotations

import contextlib

import torch
import torch.distributed as dist
import torch.nn as nn
import torch.nn.functional as F
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.checkpoint import checkpoint

# ---- norms ----


Identity = nn.Identity


class _SumOverProcesses(torch.autograd.Function):
    """Sum a tensor over all processes; its gradients are summed likewise."""

    @staticmethod
    def forward(ctx, x):
        x = x.clone()
        dist.all_reduce(x)
        return x

    @staticmethod
    def backward(ctx, grad):
        return _SumOverProcesses.apply(grad.contiguous())


class SyncBatchNorm(nn.BatchNorm2d):
    """Batch norm over all processes' images on CPUs (gloo); PyTorch's layer works on GPUs only."""

    def forward(self, x):
        if not (self.training and dist.is_initialized() and dist.get_world_size() > 1):
            return super().forward(x)
        narrow, x = x.dtype, x.float() if x.dtype in (torch.bfloat16, torch.float16) else x
        count = x.new_tensor([x.numel() / x.shape[1]])
        sums = _SumOverProcesses.apply(torch.cat([x.sum((0, 2, 3)), x.square().sum((0, 2, 3)), count]))
        n = sums[-1]
        mean, square = (sums[:-1] / n).chunk(2)  # (C,) each
        var = square - mean.square()
        with torch.no_grad():
            if self.num_batches_tracked is not None:
                self.num_batches_tracked.add_(1)
            self.running_mean.lerp_(mean, self.momentum)
            self.running_var.lerp_(var * n / (n - 1), self.momentum)
        scale = self.weight * (var + self.eps).rsqrt()
        return (x * scale[:, None, None] + (self.bias - mean * scale)[:, None, None]).to(narrow)


class InstanceNorm2d(nn.InstanceNorm2d):
    """Instance norm whose statistics are float32, and which leaves images in channels_last.

    PyTorch's layer rounds statistics to bfloat16 on a CPU, and rearranges images twice.
    """

    def forward(self, x):
        channels_last = not x.is_contiguous() and x.is_contiguous(memory_format=torch.channels_last)
        narrow = x.device.type == "cpu" and x.dtype in (torch.bfloat16, torch.float16)
        if not (channels_last or narrow):
            return super().forward(x)
        if torch.compiler.is_compiling():  # which fuses this into one kernel
            var, mean = torch.var_mean(x.float(), (2, 3), correction=0, keepdim=True)
            return ((x - mean) * (var + self.eps).rsqrt()).to(x.dtype)
        # The type of scale and shift decides the type of the statistics.
        affine = (x.new_ones(x.shape[1], dtype=torch.float32), x.new_zeros(x.shape[1], dtype=torch.float32))
        affine = affine if narrow else (None, None)
        if not channels_last:
            return F.instance_norm(x, None, None, *affine, eps=self.eps)
        # For one image, batch norm's statistics are those of instance norm.
        images = [F.batch_norm(image, None, None, *affine, training=True, eps=self.eps) for image in x.split(1)]
        return torch.cat(images) if len(images) > 1 else images[0]


# ---- borders ----


def pad_borders(x: torch.Tensor, multiple: int, smallest: int) -> torch.Tensor:
    """Repeat the right and bottom borders of (N, C, H, W) until both sides are multiples and no smaller than asked."""
    bottom, right = (max(smallest - side, -side % multiple) for side in x.shape[-2:])
    return F.pad(x, (0, right, 0, bottom), mode="replicate") if bottom or right else x


class ReflectionPad2d(nn.ReflectionPad2d):
    """Reflect the borders; under `--deterministic` by slices, since CUDA's gradient is summed in varying order."""

    def forward(self, x):
        if torch.are_deterministic_algorithms_enabled() and x.is_cuda:
            return reflect(x, self.padding[0])
        if x.device.type == "cpu" and torch.is_autocast_enabled("cpu"):  # autocast would compute it in float32
            with torch.autocast("cpu", enabled=False):
                return super().forward(x)
        return super().forward(x)


def reflect(x: torch.Tensor, pad: int) -> torch.Tensor:
    """Return (N, C, H, W) with `pad` reflected rows and columns on all sides."""
    x = torch.cat([x[..., 1 : pad + 1].flip(-1), x, x[..., -pad - 1 : -1].flip(-1)], -1)
    return torch.cat([x[..., 1 : pad + 1, :].flip(-2), x, x[..., -pad - 1 : -1, :].flip(-2)], -2)


# ---- less memory ----


class Layers(nn.Sequential):
    """Layers in sequence; with `recompute` they keep only the inputs of their stages for the backward pass.

    A stage is a residual block, or a convolution with its norm and activation. The backward pass computes it again.
    """

    recompute = False

    def forward(self, x):
        if not (self.recompute and torch.is_grad_enabled()):
            return super().forward(x)
        for stage in self.stages():
            kept = isinstance(stage[0], (nn.ReLU, nn.LeakyReLU))  # in place: its input is kept anyway
            x = recomputed(stage, x) if getattr(stage[0], "is_stage", not kept) else stage(x)
        return x

    def stages(self) -> list[nn.Sequential]:
        """Group the layers, each stage beginning with a convolution, its padding, or a block."""
        stages, padded = [[]], False
        for layer in self:
            pads = isinstance(layer, (nn.ReflectionPad2d, nn.ReplicationPad2d))
            begins = pads or (isinstance(layer, (nn.Conv2d, nn.ConvTranspose2d)) and not padded)
            if begins or hasattr(layer, "is_stage"):
                stages.append([])
            stages[-1].append(layer)
            padded = pads
        return [nn.Sequential(*stage) for stage in stages if stage]


def recomputed(stage: nn.Module, x: torch.Tensor) -> torch.Tensor:
    """Run a stage without keeping its inner activations; the backward pass computes them again (Chen et al. 2016)."""
    draws = any(isinstance(module, nn.Dropout) for module in stage.modules())
    contexts = lambda: (contextlib.nullcontext(), _running_statistics_kept(stage))  # noqa: E731
    return checkpoint(stage, x, use_reentrant=False, preserve_rng_state=draws, context_fn=contexts)


@contextlib.contextmanager
def _running_statistics_kept(stage: nn.Module):
    """Leave batch norm's running statistics alone while the body computes a batch that they have seen."""
    norms = [norm for norm in stage.modules() if isinstance(norm, _BatchNorm)]
    former = [(norm.momentum, norm.num_batches_tracked) for norm in norms]
    for norm in norms:
        norm.momentum, norm.num_batches_tracked = 0.0, None
    try:
        yield
    finally:
        for norm, (momentum, count) in zip(norms, former, strict=True):
            norm.momentum, norm.num_batches_tracked = momentum, count


def recompute_stages(net: nn.Module, on: bool) -> None:
    """Set whether the built-in layers of a network compute their stages again in the backward pass."""
    for layers in net.modules():
        if isinstance(layers, Layers):
            layers.recompute = on
