"""Saved options of experiments, and the files with which `--init_from` starts a run."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path

from util.checkpoint.checkpointer import Checkpointer, warn_of_foreign_file
from util.errors import UserError, did_you_mean

MAX_OPTIONS = 1 << 20  # bytes of a file of options


def options_file(folder: Path) -> Path:
    """Return the file of a run's options: train_opt.json, or the reference project's train_opt.txt if that is alone."""
    path = folder / "train_opt.json"
    text = path.with_suffix(".txt")
    return text if text.exists() and not path.exists() else path


def saved_options(folder: Path) -> dict:
    """Return the options that an experiment was trained with; empty without a file, or with a damaged one."""
    path = options_file(folder)
    try:
        if not path.is_file() or path.stat().st_size > MAX_OPTIONS:
            return {}
        text = path.read_text(encoding="utf-8")
        saved = json.loads(text) if path.suffix == ".json" else read_table(text)
        names = [saved["model"], saved.get("dataset_mode", "unaligned")]
        return saved if all(name.isidentifier() and len(name) <= 100 for name in names) else {}
    except (OSError, ValueError, RecursionError, LookupError, TypeError, AttributeError):
        return {}


def read_table(text: str) -> dict:
    """Read the reference's table of options, lines `name: value [default: ...]`; empty if it is not of training."""
    options = {}
    for line in text.split("\n"):
        name, colon, value = line.partition(": ")
        if colon and name.strip().isidentifier():
            options[name.strip()] = typed_value(value.partition("\t[default: ")[0].strip())
    return options if options.get("isTrain") is True else {}


def typed_value(text: str) -> object:
    """Return a value that was written by `str`: a bool, None, an int, a float, or the text itself."""
    if text in ("True", "False", "None"):
        return {"True": True, "False": False}.get(text)
    for kind in (int, float):
        with contextlib.suppress(ValueError):
            return kind(text)
    return text


def generator_of(folder: Path, direction: str) -> str:
    """Return the generator of a CycleGAN for a direction: G_A for that of its training, else G_B."""
    return "G_A" if direction == saved_options(folder).get("direction", "AtoB") else "G_B"


def find_source(where: str, checkpoints_dir: str) -> Path:
    """Return the folder or file of `--init_from`: the name of an experiment, a folder, or a .pth file.

    Raise UserError for others, with a list of existing ones.
    """
    experiment, path = Path(checkpoints_dir) / where, Path(where)
    for found in (experiment, path):
        if found.is_dir() or found.is_file():
            return found
    if path.suffix == ".pth":
        folder = next((f.parent for f in (path, experiment) if f.parent.is_dir()), path.parent)
        files = [file.name for file in folder.glob("*.pth")]
        hint = did_you_mean(path.name, files)
        raise UserError(f"--init_from {where}: there is no such file.{hint} {Checkpointer(folder).describe_contents()}")
    raise UserError(f"--init_from {where}: {Checkpointer(experiment).describe_contents()}")


def sources(where: Path | str, prefix: str, names: list[str], direction: str = "AtoB") -> dict[str, Path]:
    """Choose a file for each network from an experiment's folder or a single file; some networks may get none.

    G starts with a CycleGAN's generator for `direction`; a CycleGAN's generator for its direction starts with G.
    Raise UserError when no network has a file, or when one is damaged.
    """
    where, sums = Path(where), {}
    if where.is_file():
        own = where.stem.partition("_net_")[2].removesuffix("_ema")
        role = own if own in names or own in ("D", "D_A", "D_B") else "G" if "G" in names else "G_A"
        files = {role: where} if role in names else {}
    else:
        checkpoints, files = Checkpointer(where), {}
        sums = (checkpoints.load_state(prefix, peek=True) or {}).get("networks", {})
        same = saved_options(where).get("direction", direction) == direction
        other = {"G": generator_of(where, direction), "G_A" if same else "G_B": "G"}
        for name in names:
            there = [n for n in (name, other.get(name)) if n and checkpoints.existing_net_path(prefix, n)]
            if there and (path := checkpoints.committed_net_path(prefix, there[0], sums)).is_file():
                files[name] = path
    if not files:
        held = f"; {Checkpointer(where).describe_contents()}" if where.is_dir() else ""
        raise UserError(f"{where} fills none of the networks {', '.join(names)} ({prefix}){held}")
    if not sums:
        warn_of_foreign_file(where)
    return files
