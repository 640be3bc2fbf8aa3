"""What network files tell of the flags that describe networks, and which of those flags do not fit them."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import torch
from torch import nn

from models.networks import DISCRIMINATORS, GENERATORS, NORMS, ResnetGenerator, UnetGenerator
from util.checkpoint.safe_reader import read
from util.checkpoint.weights import without_wrappers
from util.errors import UserError

GENERATOR = ("netG", "norm", "ngf", "input_nc", "output_nc", "no_dropout")
DISCRIMINATOR = ("netD", "n_layers_D", "ndf")
# What the built-in models save, those of cycle_gan in its two directions.
NETWORKS = {"test": ("G",), "template": ("G",), "cycle_gan": ("G_A", "G_B", "D_A", "D_B")}
PIX2PIX = ("G", "D")


class Shown(NamedTuple):
    """Values of flags, and for each the file that shows it; empty where files are not ours or can't be read."""

    values: dict[str, object]
    paths: dict[str, Path]


def shown_by(files: dict[str, Path | None]) -> Shown:
    """Infer the flags of the networks that files hold; `files` go by the networks' names in the model, G first."""
    shown = Shown({}, {})
    for name, path in files.items():
        state = peek(path) if path else None
        found = (infer_G if name.startswith("G") else infer_D)(state) or {}
        if found and name == "G_B":  # from --output_nc to --input_nc
            found |= {"input_nc": found["output_nc"], "output_nc": found["input_nc"]}
        if found and name.startswith("D"):
            judged, channels = found.pop("input_nc"), [shown.values.get(n, 0) for n in ("input_nc", "output_nc")]
            if name == "D" and judged in (channels[1], sum(channels)):
                found["unconditional_D"] = judged == channels[1]
        for flag, value in found.items():
            if flag not in shown.values:
                shown.values[flag], shown.paths[flag] = value, path
    return shown


def peek(path: Path):
    """Read what a file holds without its tensors' values; None where that fails, which loading will explain."""
    try:
        return read(path, peek=True)
    except (UserError, OSError):
        return None


def misfits(flags: dict, shown: dict) -> list[str]:
    """Return the names in `shown` for which `flags` describe another network."""
    here, there = _one_spelling(flags), _one_spelling(shown)
    wrong = [name for name in there if here.get(name) != there[name]]
    if "netG" in wrong and have_same_keys(here.get("netG"), there["netG"]):  # one that a plug-in added to the table
        wrong.remove("netG")
    return wrong


def _one_spelling(flags: dict) -> dict:
    """Reduce flags to the same ones for equal networks."""
    flags = dict(flags)
    if flags.get("norm") == "syncbatch":  # has batch's keys
        flags["norm"] = "batch"
    if flags.get("netD") == "n_layers" and flags.get("n_layers_D") == 3:
        flags["netD"] = "basic"
    if flags.get("netD") in ("basic", "pixel"):  # which n_layers_D does not concern
        flags.pop("n_layers_D", None)
    return flags


def misfit(name: str, value, shown: Shown) -> str:
    """Say that a flag does not fit its file, and what would."""
    if value is True:
        return f"--{name} does not fit {shown.paths[name]}, which was trained without it: leave --{name} out"
    right = as_flags({name: shown.values[name]})
    return (
        f"--{name} {value} does not fit {shown.paths[name]}, which was trained with {right}: leave --{name} out, or "
        f"type {right}"
    )


def summary(opt, shown: Shown) -> str:
    """Say what was inferred, and from where."""
    known = {name: value for name, value in shown.values.items() if name != "no_dropout"}
    dropout = f"{'no ' * opt.no_dropout}dropout" + ("" if "no_dropout" in shown.values else " (which keys do not show)")
    return f"inferred from {next(iter(shown.paths.values()))}: {as_flags(known)}, {dropout}"


# ---- what a state dict was made with ----


def infer_G(state) -> dict | None:
    """Tell from a state dict of any age what define_G made it with: netG, norm, input_nc, output_nc, ngf, no_dropout.

    A U-Net's keys do not show dropout: no_dropout is left out. `syncbatch` has the keys of `batch`, which is returned.
    None for whatever is not, to the last key and shape, a generator of ours.
    """
    shapes = _shapes(state)
    try:
        if "model.model.0.weight" in shapes:
            kind, arguments, last, block = UnetGenerator, {"num_downs": 1}, "model.model.3", "model.model.1"
            while f"{block}.model.1.weight" in shapes:
                arguments["num_downs"] += 1
                block += ".model.3"
            ngf, input_nc = shapes["model.model.0.weight"][:2]
            if shapes[f"{last}.weight"][0] == ngf:  # nothing beside what comes up
                arguments["skip"] = False
            norm, dropout = _norm_of(shapes, "model.model.0.bias"), None
        else:
            blocks = len({key.split(".")[1] for key in shapes if ".conv_block." in key})
            kind, arguments, last = ResnetGenerator, {"n_blocks": blocks}, f"model.{17 + blocks}"
            ngf, input_nc = shapes["model.1.weight"][:2]
            # The second convolution's place, one further behind dropout.
            norm, dropout = _norm_of(shapes, "model.1.bias"), "model.10.conv_block.5.weight" not in shapes
        (output_nc,) = shapes[f"{last}.bias"]
    except (KeyError, ValueError, IndexError):
        return None
    table = {name: (getattr(make, "func", None), getattr(make, "keywords", {})) for name, make in GENERATORS.items()}
    names = [name for name, entry in table.items() if entry == (kind, arguments)]
    if not names or not _has_shapes(
        shapes, kind, input_nc, output_nc, ngf=ngf, norm_layer=NORMS[norm], use_dropout=bool(dropout), **arguments
    ):
        return None
    found = {"netG": names[0], "norm": norm, "input_nc": input_nc, "output_nc": output_nc, "ngf": ngf}
    return found if dropout is None else {**found, "no_dropout": not dropout}


def infer_D(state) -> dict | None:
    """Tell from a state dict what define_D made it with: netD, norm, input_nc, ndf, n_layers_D (none for pixel).

    None for whatever is not, to the last key and shape, a discriminator of ours.
    """
    shapes = _shapes(state)
    first, second = ("net.0", "net.2") if "net.0.weight" in shapes else ("model.0", "model.2")
    layers = sum(len(shape) == 4 for shape in shapes.values()) - 2
    try:
        ndf, input_nc = shapes[f"{first}.weight"][:2]
    except (KeyError, ValueError):
        return None
    norm = _norm_of(shapes, f"{second}.bias")
    netD = "pixel" if first == "net.0" else "basic" if layers == 3 else "n_layers"
    if not 0 < layers < 20 or not _has_shapes(shapes, DISCRIMINATORS[netD], input_nc, ndf, layers, NORMS[norm]):
        return None
    found = {"netD": netD, "norm": norm, "input_nc": input_nc, "ndf": ndf}
    return found if netD == "pixel" else {**found, "n_layers_D": layers}


def _shapes(state) -> dict[str, tuple[int, ...]]:
    """Return the shapes of a state dict as PyTorch of today would write it; nothing if it is none."""
    if not isinstance(state, dict) or not all(isinstance(key, str) for key in state):
        return {}
    state = without_wrappers(state)
    try:
        shapes = {key: tuple(value.shape) for key, value in state.items()}
    except (AttributeError, TypeError, RuntimeError):  # no tensors, or none with a shape
        return {}
    old = {key for key in shapes if key.endswith((".running_mean", ".running_var"))}  # instance norm's, before 0.4
    old = {key for key in old if key.rpartition(".")[0] + ".weight" not in shapes}
    if any(0 in shape for shape in shapes.values()):  # which no network of ours has, and initialising warns of
        return {}
    return {k: v for k, v in shapes.items() if k not in old and not k.endswith(".num_batches_tracked")}


def _norm_of(shapes: dict, bias: str) -> str:
    """Tell the norm from what only it has: running statistics, or a bias of the convolution in front of it."""
    if any(key.endswith(".running_mean") for key in shapes):
        return "batch"
    return "instance" if bias in shapes else "none"


def _has_shapes(shapes: dict, make, *args, **kwargs) -> bool:
    """Whether `make` makes a network of just these keys and shapes; takes no memory for it."""
    try:
        with torch.device("meta"):
            return _shapes(make(*args, **kwargs).state_dict()) == shapes
    except (RuntimeError, ValueError, TypeError):  # widths that no network has
        return False


def have_same_keys(netG: str, other: str) -> bool:
    """Whether two entries of GENERATORS make networks of the same keys and shapes."""
    if netG not in GENERATORS or other not in GENERATORS:
        return False
    with torch.device("meta"):
        shapes = _shapes(GENERATORS[other](3, 3, ngf=2, norm_layer=nn.BatchNorm2d).state_dict())
    return _has_shapes(shapes, GENERATORS[netG], 3, 3, ngf=2, norm_layer=nn.BatchNorm2d)


def as_flags(found: dict) -> str:
    """Write what was inferred, or a part of it, as a user would type it."""
    words = [f"--{name} {value}" for name, value in found.items() if not isinstance(value, bool)]
    return " ".join(words + [f"--{name}" for name, value in found.items() if value is True])


def explain_misfit(net: nn.Module, state, backwards: bool = False) -> str | None:
    """Say which flags would make a network that a file's state dict fits; None where keys and shapes do not tell.

    `backwards` is for CycleGAN's G_B, which is made from --output_nc to --input_nc.
    """
    (here_G, here_D), (there_G, there_D) = ((infer_G(s), infer_D(s)) for s in (net.state_dict(), state))
    if (here_G and there_D) or (here_D and there_G):
        return f"it holds a {'discriminator' if there_D else 'generator'}"
    here, there = here_G or here_D, there_G or there_D
    if not here or not there:
        return None
    if backwards:
        for found in (here, there):
            found["input_nc"], found["output_nc"] = found["output_nc"], found["input_nc"]
    other = {name: value for name, value in there.items() if here.get(name) != value}
    if there_D and other.pop("input_nc", None):  # A's and B's channels, or B's alone
        return (
            f"it judges {there['input_nc']} channels, and {here['input_nc']} are judged here: --input_nc, --output_nc "
            "or --unconditional_D differ"
        )
    dropout = other.get("no_dropout") is False
    typed = " and ".join([as_flags(other)] * (len(other) > dropout) + ["dropout (no --no_dropout)"] * dropout)
    return f"it was trained with {typed}: type that" if other else None
