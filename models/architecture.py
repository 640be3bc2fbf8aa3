"""From a state dict to the options that made it, and the options that contradict a file."""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple

import torch
from torch import nn

from models.networks import DISCRIMINATORS, GENERATORS, NORMS, ResnetGenerator, UnetGenerator
from util.checkpoint.safe_reader import read
from util.checkpoint.weights import without_wrappers
from util.errors import UserError

# The networks that the built-in models save, those of cycle_gan in its two directions.
NETWORKS = {"test": ("G",), "template": ("G",), "cycle_gan": ("G_A", "G_B", "D_A", "D_B")}
PIX2PIX = ("G", "D")
# Keys of networks that share names of files with those here, and nothing else.
FOREIGN = {
    "a generator or discriminator of CUT, whose resampling layers blur": r"(.*\.)?\d+\.filt",
    "the patch network F of CUT": r"mlp_\d+\..*",
    "a generator of pix2pixHD with a local enhancer": r"model1_1\..*",
    "a discriminator of pix2pixHD": r"(scale\d+_)?layer\d+\.\d+\.(weight|bias)",
    "a generator of SPADE": r"head_0\.(conv|norm)_0\..*",
}
BUILT_IN_G = frozenset(GENERATORS)  # plug-ins may add to the table


# ---- one state dict ----


def infer_G(state) -> dict | None:
    """Infer define_G's arguments from a state dict: netG, norm, input_nc, output_nc, ngf, no_dropout.

    A U-Net's keys do not show dropout: no_dropout is left out. `syncbatch` has the keys of `batch`, which is returned.
    None unless every key and shape is that of a generator in GENERATORS.
    """
    shapes = _shapes(state)
    for netG, make in GENERATORS.items():
        kind, arguments = getattr(make, "func", None), getattr(make, "keywords", {})
        blocks = arguments.get("n_blocks", 0)
        first, last = ("model.1", f"model.{17 + blocks}") if blocks else ("model.model.0", "model.model.3")
        weight, bias = shapes.get(f"{first}.weight", ()), shapes.get(f"{last}.bias", ())
        if kind not in (ResnetGenerator, UnetGenerator) or len(weight) != 4 or len(bias) != 1:
            continue
        norm = _infer_norm(shapes, f"{first}.bias")
        for dropout in (False, True) if blocks else (False,):
            layers = {"ngf": weight[0], "norm_layer": NORMS[norm], "use_dropout": dropout}
            if _has_shapes(shapes, make, weight[1], bias[0], **layers):
                found = {"netG": netG, "norm": norm, "input_nc": weight[1], "output_nc": bias[0], "ngf": weight[0]}
                return {**found, "no_dropout": not dropout} if blocks else found
    return None


def infer_D(state) -> dict | None:
    """Infer define_D's arguments from a state dict: netD, norm, input_nc, ndf, n_layers_D (left out for pixel).

    None unless every key and shape is that of a discriminator in DISCRIMINATORS.
    """
    shapes = _shapes(state)
    first, second = ("net.0", "net.2") if "net.0.weight" in shapes else ("model.0", "model.2")
    layers = sum(len(shape) == 4 for shape in shapes.values()) - 2
    try:
        ndf, input_nc = shapes[f"{first}.weight"][:2]
    except (KeyError, ValueError):
        return None
    norm = _infer_norm(shapes, f"{second}.bias")
    netD = "pixel" if first == "net.0" else "basic" if layers == 3 else "n_layers"
    if not 0 < layers < 20 or not _has_shapes(shapes, DISCRIMINATORS[netD], input_nc, ndf, layers, NORMS[norm]):
        return None
    found = {"netD": netD, "norm": norm, "input_nc": input_nc, "ndf": ndf}
    return found if netD == "pixel" else {**found, "n_layers_D": layers}


def _shapes(state) -> dict[str, tuple[int, ...]]:
    """Return the shapes of a state dict as today's PyTorch writes them; empty for anything else."""
    if not isinstance(state, dict) or not all(isinstance(key, str) for key in state):
        return {}
    state = without_wrappers(state)
    try:
        shapes = {key: tuple(value.shape) for key, value in state.items()}
    except (AttributeError, TypeError, RuntimeError):  # no tensors, or tensors without a shape
        return {}
    old = {key for key in shapes if key.endswith((".running_mean", ".running_var"))}  # instance norm's, before 0.4
    old = {key for key in old if key.rpartition(".")[0] + ".weight" not in shapes}
    if any(0 in shape for shape in shapes.values()):  # no network here has such a shape; initialising it would warn
        return {}
    return {k: v for k, v in shapes.items() if k not in old and not k.endswith(".num_batches_tracked")}


def _infer_norm(shapes: dict, bias: str) -> str:
    """Infer the norm: batch norm has running statistics, and instance norm a bias in the convolution before it."""
    if any(key.endswith(".running_mean") for key in shapes):
        return "batch"
    return "instance" if bias in shapes else "none"


def _has_shapes(shapes: dict, make, *args, **kwargs) -> bool:
    """Whether `make` makes a network of exactly these keys and shapes; allocates no weights."""
    try:
        with torch.device("meta"):
            return _shapes(make(*args, **kwargs).state_dict()) == shapes
    except (RuntimeError, ValueError, TypeError):  # impossible widths
        return False


def as_words(options: dict) -> str:
    """Write options as a user would type them."""
    words = [f"--{name} {value}" for name, value in options.items() if not isinstance(value, bool)]
    return " ".join(words + [f"--{name}" for name, value in options.items() if value is True])


def explain_misfit(net: nn.Module, state, backwards: bool = False) -> str | None:
    """Return which options would make a network that fits a state dict; None where keys and shapes do not show it.

    `backwards` is for CycleGAN's G_B, which maps --output_nc to --input_nc.
    """
    here, there = (infer_G(s) or infer_D(s) or {} for s in (net.state_dict(), state))
    other = {name: value for name, value in there.items() if here and here.get(name) != value}
    if here and not there and (name := name_foreign(state)):
        return f"this is {name}; no --netG and no --netD makes such a network"
    if not other:
        return None
    if ("netD" in here) != ("netD" in there):
        return f"it holds a {'discriminator' if 'netD' in there else 'generator'}"
    if "netD" in there and "input_nc" in other:  # channels of A and B, or of B alone
        return f"it takes {there['input_nc']} channels, not {here['input_nc']}: see --input_nc and --unconditional_D"
    if backwards:
        swapped = {"input_nc": "output_nc", "output_nc": "input_nc"}
        other = dict(sorted((swapped.get(name, name), value) for name, value in other.items()))
    dropout = ["dropout (no --no_dropout)"] * (other.get("no_dropout") is False)
    words = " and ".join([text for text in [as_words(other)] if text] + dropout)
    return f"it was trained with {words}: type that"


def name_foreign(state) -> str:
    """Name a network of another project by its keys; empty if they are not known."""
    keys = list(_shapes(state))
    for name, pattern in FOREIGN.items():
        if any(re.fullmatch(pattern, key) for key in keys):
            return name
    blocks = sorted({int(found[1]) for key in keys if (found := re.match(r"model\.(\d+)\.conv_block\.", key))})
    if not blocks or "model.1.weight" not in keys:
        return ""
    halvings = (blocks[0] - 4) // 3  # each is a convolution, a norm and an activation after the first four layers
    name = "a generator of pix2pixHD" if halvings == 4 else "a residual generator"
    return f"{name} with {halvings} downsamplings and {len(blocks)} blocks"


# ---- the files of a checkpoint ----


class Architecture(NamedTuple):
    """Options that network files show, and the file of each; empty where files can't be read or hold other networks."""

    options: dict[str, object] = {}
    files: dict[str, Path] = {}


def read_architecture(paths: dict[str, Path | None]) -> Architecture:
    """Infer the options of the networks in files; `paths` go by the networks' names in the model, G first."""
    options, files = {}, {}
    for name, path in paths.items():
        state = _read_shapes(path) if path else None
        found = (infer_G if name.startswith("G") else infer_D)(state) or {}
        if found and name == "G_B":  # maps --output_nc to --input_nc
            found |= {"input_nc": found["output_nc"], "output_nc": found["input_nc"]}
        if found and name.startswith("D"):
            channels, (nc_A, nc_B) = found.pop("input_nc"), (options.get(n, 0) for n in ("input_nc", "output_nc"))
            if name == "D" and channels in (nc_B, nc_A + nc_B):
                found["unconditional_D"] = channels == nc_B
        for option, value in found.items():
            if option not in options:
                options[option], files[option] = value, path
    return Architecture(options, files)


def _read_shapes(path: Path):
    """Read a file without its tensors' values; None where that fails, which loading will explain."""
    try:
        return read(path, peek=True)
    except (UserError, OSError):
        return None


def contradictions(options: dict, found: dict) -> list[str]:
    """Return the names in `found` for which `options` describe another network."""
    here, there = _normalised(options), _normalised(found)
    wrong = [name for name in there if here.get(name) != there[name]]
    added = here.get("netG") in GENERATORS.keys() - BUILT_IN_G  # may have the keys of a built-in one
    return [name for name in wrong if not (added and name == "netG")]


def _normalised(options: dict) -> dict:
    """Return the same options for equal networks."""
    options = dict(options)
    if options.get("norm") == "syncbatch":  # has batch's keys
        options["norm"] = "batch"
    if options.get("netD") == "n_layers" and options.get("n_layers_D") == 3:
        options["netD"] = "basic"
    if options.get("netD") in ("basic", "pixel"):  # these ignore n_layers_D
        options.pop("n_layers_D", None)
    return options


def explain_contradiction(name: str, value, architecture: Architecture) -> str:
    """Return the message that an option does not fit its file, and the value that does."""
    path = architecture.files[name]
    if value is True:
        return f"--{name} does not fit {path}, which was trained without it: leave --{name} out"
    right = as_words({name: architecture.options[name]})
    return f"--{name} {value} does not fit {path}, which was trained with {right}: leave --{name} out, or type {right}"


def summary(opt, architecture: Architecture) -> str:
    """Return the line that says which options were inferred, and from which file."""
    options, files = architecture
    known = {name: value for name, value in options.items() if name != "no_dropout"}
    dropout = f"{'no ' * opt.no_dropout}dropout" + ("" if "no_dropout" in options else " (which keys do not show)")
    return f"inferred from {next(iter(files.values()))}: {as_words(known)}, {dropout}"
