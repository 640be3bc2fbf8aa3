"""Where an experiment's options are kept, and how they get there whole."""

from __future__ import annotations

import json
import math
from pathlib import Path

from util.checkpoint.atomic_files import write_whole
from util.errors import UserError, warn
from util.runtime import processes

NOT_OPTIONS = ("typed", "given", "differing", "device")


def experiment_folder(opt) -> Path:
    """Return the folder of an experiment's networks, logs and pages."""
    return Path(opt.checkpoints_dir) / opt.name


def record(opt) -> None:
    """Save the options as `train_opt.json` or `test_opt.json`; infinity is null.

    test.py and --continue_train go by train_opt.json. Where networks are, it is therefore not written before
    they are known to fit the options.
    """
    if processes.is_main():
        values = {name: value for name, value in sorted(vars(opt).items()) if name not in NOT_OPTIONS}
        values = {name: None if value == math.inf else value for name, value in values.items()}
        file = "train_opt.json" if opt.isTrain else "test_opt.json"
        text = json.dumps(values, indent=2, default=str) + "\n"
        write_text(experiment_folder(opt) / file, text, needed=opt.isTrain)


def write_text(path: Path, text: str, needed: bool) -> None:
    """Write a file that appears whole. Where it can't be written that is an error, or only a warning."""
    try:
        write_whole(path, text, durable=True)
    except OSError as error:
        message = f"the options can't be saved as {path}: {error.strerror}"
        if needed:
            raise UserError(message) from error
        warn(message)
