"""Several batches in one pass of a network, where each image gets the result of a pass of its own, up to rounding."""

from __future__ import annotations

import weakref

import torch
from torch import nn

from models import layers, networks
from util.checkpoint.weights import unwrap
from util.speed.acceleration import PrecisionBoundary

# Layers that treat each image of a batch by itself in any mode; batch norm and dropout do so in evaluation only.
PER_IMAGE = (
    *(nn.Conv2d, nn.ConvTranspose2d, nn.InstanceNorm2d, nn.ReLU, nn.LeakyReLU, nn.Tanh),
    *(nn.ReflectionPad2d, nn.ReplicationPad2d, nn.Sequential),
    *(layers.Identity, layers.InstanceNorm2d, layers.Layers, layers.ReflectionPad2d),
    *(networks.ResnetGenerator, networks.ResnetBlock, networks.UnetGenerator, networks.UnetSkipConnectionBlock),
    *(networks.NLayerDiscriminator, networks.PixelDiscriminator),
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
    net = unwrap(net)
    if net not in _mode_dependent_layers:
        _mode_dependent_layers[net] = _find_mode_dependent(net)
    found = _mode_dependent_layers[net]
    return found is not None and not any(layer.training for layer in found)


_mode_dependent_layers = weakref.WeakKeyDictionary()  # network -> result of _find_mode_dependent


def _find_mode_dependent(net: nn.Module) -> list[nn.Module] | None:
    """Return the layers that treat images one by one in evaluation only; None if another layer never does."""
    found = []
    for module in net.modules():
        if isinstance(module, (nn.BatchNorm2d, nn.Dropout)):
            found.append(module)
        elif type(module) not in PER_IMAGE:
            return None
        # A foreign hook, such as the older spectral norm's, may change the weights with every pass.
        if not all(PrecisionBoundary.owns(hook) for hook in module._forward_pre_hooks.values()):
            return None
    return found
