"""What network files tell of the flags that describe networks, and which of those flags do not fit them."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from models.networks import as_flags, have_same_keys, infer_D, infer_G
from util.checkpoint.safe_reader import read
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
