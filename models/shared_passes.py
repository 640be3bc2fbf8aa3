"""One pass of a network on several batches, where each image gets its own result up to rounding."""

from __future__ import annotations

import torch
from torch import nn

from models import layers, networks
from util.checkpoint.checkpointer import unwrap
from util.speed.acceleration import PrecisionBoundary

# Layers that treat each image of a batch by itself; the last two do so in evaluation only.
PER_IMAGE = (
    *(nn.Conv2d, nn.ConvTranspose2d, nn.InstanceNorm2d, nn.ReLU, nn.LeakyReLU, nn.Tanh),
    *(nn.ReflectionPad2d, nn.ReplicationPad2d, nn.Sequential),
    *(layers.Identity, layers.InstanceNorm2d, layers.Layers, layers.ReflectionPad2d),
    *(networks.ResnetGenerator, networks.ResnetBlock, networks.UnetGenerator, networks.UnetSkipConnectionBlock),
    *(networks.NLayerDiscriminator, networks.PixelDiscriminator),
    *(nn.BatchNorm2d, nn.Dropout),
)


def run(net: nn.Module, *batches: torch.Tensor) -> list[torch.Tensor]:
    """Return a network's output for each batch (N, C, H, W), from one pass if they can share it."""
    if can_share(net, *batches):
        return list(net(torch.cat(batches)).split([len(batch) for batch in batches]))
    return [net(batch) for batch in batches]


def can_share(net: nn.Module, *batches: torch.Tensor) -> bool:
    """Whether the images of several batches get the same results in one pass as in one pass for each batch."""
    if len({batch.shape[1:] for batch in batches}) > 1:
        return False
    return all(
        type(module) in PER_IMAGE
        and not (module.training and isinstance(module, (nn.BatchNorm2d, nn.Dropout)))
        # A foreign hook, such as the older spectral norm's, may change the weights with every pass.
        and all(PrecisionBoundary.owns(hook) for hook in module._forward_pre_hooks.values())
        for module in unwrap(net).modules()
    )
