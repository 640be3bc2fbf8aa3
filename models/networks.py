"""Generators and discriminators, each a class and a line of a table; define_G and define_D make and initialise them.

Generators map (N, input_nc, H, W) in [-1, 1] to (N, output_nc, H, W) in [-1, 1], for any H and W; discriminators map
(N, C, H, W) to a map of logits (N, 1, h, w), one for each patch. Nothing here knows the command line.
Keys of state dicts are an interface: checkpoints of many years load by them.
"""

from __future__ import annotations

import functools

import torch
import torch.nn as nn
from torch.nn import init

from models.layers import Identity, InstanceNorm2d, Layers, ReflectionPad2d, SyncBatchNorm, pad_borders
from models.losses import GAN_MODES as GAN_MODES  # these five are also imported from here, by plug-ins among others
from models.losses import GANLoss as GANLoss
from models.losses import cal_gradient_penalty as cal_gradient_penalty
from models.schedulers import POLICIES as POLICIES
from models.schedulers import get_scheduler as get_scheduler
from util.errors import table_entry

# ---- norm layers ----


def _sync_norm(num_features: int) -> nn.Module:
    return nn.SyncBatchNorm(num_features) if torch.cuda.is_available() else SyncBatchNorm(num_features)


NORMS = {
    "batch": functools.partial(nn.BatchNorm2d, affine=True, track_running_stats=True),
    "instance": functools.partial(InstanceNorm2d, affine=False, track_running_stats=False),
    "syncbatch": _sync_norm,
    "none": lambda num_features: Identity(),
}
# Names in the reference's documentation; instance norm needs no synchronising, as it looks at one image at a time.
NORM_ALIASES = {"sync_batch": "syncbatch", "sync_instance": "instance"}


def get_norm_layer(norm_type: str = "instance"):
    """Return a function that makes a norm layer from a number of channels."""
    return table_entry(NORMS, NORM_ALIASES.get(norm_type, norm_type), "norm")


def _uses_bias(norm_layer) -> bool:
    """Whether convolutions before the norm have a bias; an affine norm brings one itself."""
    layer = getattr(norm_layer, "func", norm_layer)
    return isinstance(layer, type) and issubclass(layer, nn.InstanceNorm2d)


# ---- initialisation ----

INITS = {
    "normal": lambda weight, gain: init.normal_(weight, 0.0, gain),
    "xavier": lambda weight, gain: init.xavier_normal_(weight, gain=gain),
    "kaiming": lambda weight, gain: init.kaiming_normal_(weight, a=0, mode="fan_in"),
    "orthogonal": lambda weight, gain: init.orthogonal_(weight, gain=gain),
}


def init_weights(net: nn.Module, init_type: str = "normal", init_gain: float = 0.02) -> None:
    """Draw the weights of convolutions and linear layers, zero their biases; batch norm's scale is N(1, gain)."""
    draw = table_entry(INITS, init_type, "init_type")
    print(f"initialize network with {init_type}")
    for module in net.modules():
        kind = type(module).__name__
        if ("Conv" in kind or "Linear" in kind) and getattr(module, "weight", None) is not None:
            draw(module.weight.data, init_gain)
            if module.bias is not None:
                init.zeros_(module.bias.data)
        elif "BatchNorm2d" in kind:
            init.normal_(module.weight.data, 1.0, init_gain)
            init.zeros_(module.bias.data)


def init_net(net: nn.Module, init_type: str = "normal", init_gain: float = 0.02, gpu_ids=()) -> nn.Module:
    """Initialise a network and return it, on the first GPU of `gpu_ids` if any (an argument of older plug-ins)."""
    init_weights(net, init_type, init_gain)
    return net.to(f"cuda:{gpu_ids[0]}") if gpu_ids and torch.cuda.is_available() else net


# ---- generators ----


class ResnetGenerator(nn.Module):
    """Two strided convolutions down, `n_blocks` residual blocks, two transposed convolutions up.

    Johnson et al. 2016; CycleGAN paper, appendix 7.2.
    """

    def __init__(
        self,
        input_nc: int,
        output_nc: int,
        ngf: int = 64,
        norm_layer=nn.BatchNorm2d,
        use_dropout: bool = False,
        n_blocks: int = 6,
        padding_type: str = "reflect",
    ):
        super().__init__()
        bias = _uses_bias(norm_layer)
        layers = [ReflectionPad2d(3), nn.Conv2d(input_nc, ngf, 7, bias=bias), norm_layer(ngf), nn.ReLU(True)]
        for nc in (ngf, 2 * ngf):
            layers += [nn.Conv2d(nc, 2 * nc, 3, stride=2, padding=1, bias=bias), norm_layer(2 * nc), nn.ReLU(True)]
        layers += [ResnetBlock(4 * ngf, padding_type, norm_layer, use_dropout, bias) for _ in range(n_blocks)]
        for nc in (4 * ngf, 2 * ngf):
            up = nn.ConvTranspose2d(nc, nc // 2, 3, stride=2, padding=1, output_padding=1, bias=bias)
            layers += [up, norm_layer(nc // 2), nn.ReLU(True)]
        layers += [ReflectionPad2d(3), nn.Conv2d(ngf, output_nc, 7), nn.Tanh()]
        self.model = Layers(*layers)

    def forward(self, x):  # (N, input_nc, H, W)
        height, width = x.shape[-2:]
        x = pad_borders(x, 4, 8)  # (N, input_nc, H', W'), multiples of 4
        return self.model(x)[..., :height, :width]  # (N, output_nc, H, W)


class ResnetBlock(nn.Module):
    """Two convolutions whose result is added to the input; `padding_type` is reflect, replicate or zero."""

    is_stage = True  # for models.layers.Layers
    PADS = {"reflect": ReflectionPad2d, "replicate": nn.ReplicationPad2d, "zero": None}

    def __init__(self, dim: int, padding_type: str, norm_layer, use_dropout: bool, use_bias: bool):
        super().__init__()
        if padding_type not in self.PADS:
            raise NotImplementedError(f"padding_type {padding_type!r} is unknown; allowed: {', '.join(self.PADS)}")
        pad = self.PADS[padding_type]

        def conv():
            pads = [pad(1)] if pad else []
            return [*pads, nn.Conv2d(dim, dim, 3, padding=0 if pad else 1, bias=use_bias), norm_layer(dim)]

        dropout = [nn.Dropout(0.5)] if use_dropout else []
        self.conv_block = nn.Sequential(*conv(), nn.ReLU(True), *dropout, *conv())

    def forward(self, x):  # (N, dim, H, W), kept
        return x + self.conv_block(x)


class UnetGenerator(nn.Module):
    """An encoder and a decoder of `num_downs` levels, joined by skip connections (pix2pix paper, section 3.2.1).

    Without `skip` it is the paper's encoder-decoder (section 4.3). Built from the innermost block outwards.
    """

    def __init__(
        self,
        input_nc: int,
        output_nc: int,
        num_downs: int,
        ngf: int = 64,
        norm_layer=nn.BatchNorm2d,
        use_dropout: bool = False,
        skip: bool = True,
    ):
        super().__init__()
        make = functools.partial(UnetSkipConnectionBlock, norm_layer=norm_layer, skip=skip)
        block = make(8 * ngf, 8 * ngf, innermost=True)
        for _ in range(num_downs - 5):
            block = make(8 * ngf, 8 * ngf, submodule=block, use_dropout=use_dropout)
        for outer in (4 * ngf, 2 * ngf, ngf):
            block = make(outer, 2 * outer, submodule=block)
        self.model = make(output_nc, ngf, input_nc=input_nc, submodule=block, outermost=True)
        self.multiple = 2**num_downs

    def forward(self, x):  # (N, input_nc, H, W)
        height, width = x.shape[-2:]
        x = pad_borders(x, self.multiple, self.multiple)  # (N, input_nc, H', W'), multiples of 2^num_downs
        return self.model(x)[..., :height, :width]  # (N, output_nc, H, W)


class UnetSkipConnectionBlock(nn.Module):
    """Halve the image, run the submodule, double the image again, and append the result to the input.

    (N, outer_nc, H, W) -> (N, 2 * outer_nc, H, W); the outermost block, and any without `skip`, return only the result.
    """

    is_stage = False  # its layers are stages

    def __init__(
        self,
        outer_nc: int,
        inner_nc: int,
        input_nc: int | None = None,
        submodule: nn.Module | None = None,
        outermost: bool = False,
        innermost: bool = False,
        norm_layer=nn.BatchNorm2d,
        use_dropout: bool = False,
        skip: bool = True,
    ):
        super().__init__()
        self.skip = skip and not outermost
        bias = _uses_bias(norm_layer)
        down = nn.Conv2d(outer_nc if input_nc is None else input_nc, inner_nc, 4, stride=2, padding=1, bias=bias)
        # A submodule's result is appended to its input.
        up_nc = 2 * inner_nc if skip and not innermost else inner_nc
        up = nn.ConvTranspose2d(up_nc, outer_nc, 4, stride=2, padding=1, bias=bias or outermost)
        leaky, relu = nn.LeakyReLU(0.2, True), nn.ReLU(True)
        if outermost:
            layers = [down, submodule, relu, up, nn.Tanh()]
        elif innermost:  # no norm on the bottleneck, which may be 1x1
            layers = [leaky, down, relu, up, norm_layer(outer_nc)]
        else:
            layers = [leaky, down, norm_layer(inner_nc), submodule, relu, up, norm_layer(outer_nc)]
            layers += [nn.Dropout(0.5)] if use_dropout else []
        self.model = Layers(*layers)

    def forward(self, x):  # (N, outer_nc, H, W)
        # The first layer rectifies x in place; the ReLU after the skip makes that the same as skipping x itself.
        return torch.cat([x, self.model(x)], 1) if self.skip else self.model(x)  # (N, 2 * outer_nc, H, W) if skip


GENERATORS = {
    "resnet_9blocks": functools.partial(ResnetGenerator, n_blocks=9),
    "resnet_6blocks": functools.partial(ResnetGenerator, n_blocks=6),
    "unet_32": functools.partial(UnetGenerator, num_downs=5),
    "unet_64": functools.partial(UnetGenerator, num_downs=6),
    "unet_128": functools.partial(UnetGenerator, num_downs=7),
    "unet_256": functools.partial(UnetGenerator, num_downs=8),
    "unet_512": functools.partial(UnetGenerator, num_downs=9),
    "encdec_64": functools.partial(UnetGenerator, num_downs=6, skip=False),
    "encdec_128": functools.partial(UnetGenerator, num_downs=7, skip=False),
    "encdec_256": functools.partial(UnetGenerator, num_downs=8, skip=False),
}


def define_G(
    input_nc, output_nc, ngf, netG, norm="batch", use_dropout=False, init_type="normal", init_gain=0.02, gpu_ids=()
):
    """Make and initialise the generator that `netG` names in GENERATORS."""
    make = table_entry(GENERATORS, netG, "netG")
    net = make(input_nc, output_nc, ngf=ngf, norm_layer=get_norm_layer(norm), use_dropout=use_dropout)
    return init_net(net, init_type, init_gain, gpu_ids)


# ---- discriminators ----


class NLayerDiscriminator(nn.Module):
    """PatchGAN: each logit judges one patch (pix2pix paper, section 3.2.2).

    `n_layers` strided convolutions, then two plain ones. Receptive field: 16, 34, 70, 142 and 286 pixels for 1 to 5.
    """

    def __init__(self, input_nc: int, ndf: int = 64, n_layers: int = 3, norm_layer=nn.BatchNorm2d):
        super().__init__()
        bias = _uses_bias(norm_layer)
        widths = [ndf * min(2**k, 8) for k in range(n_layers + 1)]
        layers = [nn.Conv2d(input_nc, ndf, 4, stride=2, padding=1), nn.LeakyReLU(0.2, True)]
        for k in range(1, n_layers + 1):
            stride = 2 if k < n_layers else 1
            conv = nn.Conv2d(widths[k - 1], widths[k], 4, stride=stride, padding=1, bias=bias)
            layers += [conv, norm_layer(widths[k]), nn.LeakyReLU(0.2, True)]
        layers.append(nn.Conv2d(widths[n_layers], 1, 4, padding=1))
        self.model = Layers(*layers)
        self.smallest = 3 * 2**n_layers  # the side that leaves one logit

    def forward(self, x):  # (N, input_nc, H, W) -> (N, 1, h, w)
        return self.model(pad_borders(x, 1, self.smallest))


class PixelDiscriminator(nn.Module):
    """PixelGAN: each logit judges the colour of one pixel (pix2pix paper, section 4.4)."""

    def __init__(self, input_nc: int, ndf: int = 64, norm_layer=nn.BatchNorm2d):
        super().__init__()
        bias = _uses_bias(norm_layer)
        self.net = Layers(
            nn.Conv2d(input_nc, ndf, 1),
            nn.LeakyReLU(0.2, True),
            nn.Conv2d(ndf, 2 * ndf, 1, bias=bias),
            norm_layer(2 * ndf),
            nn.LeakyReLU(0.2, True),
            nn.Conv2d(2 * ndf, 1, 1, bias=bias),
        )

    def forward(self, x):  # (N, input_nc, H, W) -> (N, 1, H, W)
        return self.net(x)


DISCRIMINATORS = {
    "basic": lambda input_nc, ndf, n_layers, norm_layer: NLayerDiscriminator(input_nc, ndf, 3, norm_layer),
    "n_layers": NLayerDiscriminator,
    "pixel": lambda input_nc, ndf, n_layers, norm_layer: PixelDiscriminator(input_nc, ndf, norm_layer),
}


def define_D(input_nc, ndf, netD, n_layers_D=3, norm="batch", init_type="normal", init_gain=0.02, gpu_ids=()):
    """Make and initialise the discriminator that `netD` names in DISCRIMINATORS."""
    net = table_entry(DISCRIMINATORS, netD, "netD")(input_nc, ndf, n_layers_D, get_norm_layer(norm))
    return init_net(net, init_type, init_gain, gpu_ids)
