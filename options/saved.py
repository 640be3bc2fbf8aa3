"""Options written to a run's folder, and chosen from what was read there."""

from __future__ import annotations

import json
import math
from pathlib import Path

from util.checkpoint.atomic_files import write_whole
from util.errors import UserError, printable, warn
from util.runtime import processes
from util.runtime.run_facts import run_facts


def experiment_folder(opt) -> Path:
    """Return the folder of an experiment's networks, logs and pages."""
    return Path(opt.checkpoints_dir) / opt.name


def choose_saved(saved: dict, names: set[str], parser) -> dict:
    """Choose the saved values of `names`. Values of a wrong type are dropped from `saved`, with a warning."""
    types = {int: (int,), float: (int, float), str: (str,), None: (str,)}
    for action in parser._actions:
        name, value, default = action.dest, saved.get(action.dest), parser.get_default(action.dest)
        fitting = (bool,) if action.nargs == 0 else types.get(action.type, (str, int, float))
        if value is not None and action.nargs in (None, 0) and type(value) not in (*fitting, type(default)):
            del saved[name]
            if name in names:
                warn(f"saved options: {name} can't be {value!r:.40}; the default {default!r} is used")
    return {name: saved[name] for name in names if saved.get(name) is not None}


def values_to_save(opt) -> dict[str, object]:
    """Return all options by name, and how the run is made fast."""
    values = {**vars(opt), "speed": run_facts(opt).speed}
    values.pop("device", None)
    return dict(sorted(values.items()))


def options_text(opt, parser) -> str:
    """Write the options as a table, in the reference's format."""
    lines = ["----------------- Options ---------------"]
    for name, value in values_to_save(opt).items():
        default = parser.get_default(name)
        comment = "" if value == default else f"\t[default: {default}]"
        lines.append(f"{name!s:>25}: {printable(value):<30}{comment}")
    return "\n".join([*lines, "----------------- End -------------------"])


def record(opt) -> None:
    """Save the options as `train_opt.json` or `test_opt.json`; infinity becomes null.

    test.py and --continue_train read train_opt.json. Where networks exist, it is therefore not written before they are
    known to fit the options.
    """
    if processes.is_main():
        values = {name: None if value == math.inf else value for name, value in values_to_save(opt).items()}
        values["facts"] = run_facts(opt).saved
        file = "train_opt.json" if opt.isTrain else "test_opt.json"
        text = json.dumps(values, indent=2, default=str) + "\n"
        write_text(experiment_folder(opt) / file, text, needed=opt.isTrain)


def write_text(path: Path, text: str, needed: bool) -> None:
    """Write a file atomically. A failure is an error if the file is `needed`, else a warning."""
    try:
        write_whole(path, text, durable=True)
    except OSError as error:
        message = f"the options can't be saved as {path}: {error.strerror}"
        if needed:
            raise UserError(message) from error
        warn(message)
