"""The folder of an experiment: made when its run has something to save; an earlier run in it moves aside.

A new run begins its folder after its first step. If the folder holds the networks of an earlier run, it becomes
`NAME.previous`, with a mark in it until the new run has saved a checkpoint; an older NAME.previous is kept as
`NAME.older` until then. `settle` completes or undoes a move by these names alone, so no kill loses a run.
"""

from __future__ import annotations

import json
import math
import re
import shlex
import shutil
import weakref
from pathlib import Path

from util.checkpoint.atomic_files import sync_folder, write_whole
from util.errors import Finished, UserError, warn
from util.runtime import lock, processes
from util.runtime.run_facts import Options, run_facts

MARK = ".replaced"  # in a folder that moves aside, until the new run has saved

_begun: weakref.WeakValueDictionary[int, object] = weakref.WeakValueDictionary()  # options of runs, by identity


def experiment_folder(opt) -> Path:
    """Return the folder of an experiment's networks, logs and pages."""
    return Path(opt.checkpoints_dir) / opt.name


def previous(folder: Path) -> Path:
    """Return the folder that an earlier run moves to."""
    return folder.with_name(f"{folder.name}.previous")


def older(folder: Path) -> Path:
    """Return the folder in which an older generation waits for the new run's first checkpoint."""
    return folder.with_name(f"{folder.name}.older")


def has_checkpoint(folder: Path) -> bool:
    """Whether a folder holds a network, or a training state, which alone commits a checkpoint."""
    return folder.is_dir() and any(re.search(r"_(net_.+|state)\.pth$", path.name) for path in folder.iterdir())


# ---- moving an earlier run ----


def begin(opt) -> None:
    """Give a run its folder and write its options; repeated calls do nothing. The main process alone calls this.

    Raises UserError if the folder can't be made, moved or written, or if another run trains in it.
    """
    if _begun.get(id(opt)) is opt:
        return
    folder = experiment_folder(opt)
    replaces = not getattr(opt, "continue_train", False) and has_checkpoint(folder)
    try:
        if replaces:
            settle(folder)
            move_aside(folder)
        folder.mkdir(parents=True, exist_ok=True)
        sync_folder(folder.parent)
    except OSError as error:
        raise UserError(f"{folder} can't be {'moved aside' if replaces else 'made'}: {error.strerror}") from error
    if run_facts(opt).locks and (holder := lock.take(folder)) is not None:
        raise UserError(lock.taken(folder, holder))
    if replaces:
        how = "To resume it (if it was finished, with a larger --n_epochs)"
        print(f"the earlier run in {folder} is now {previous(folder)}. {how}: {resume_command(opt)}")
    if isinstance(opt, Options):  # parsed ones; others are incomplete
        record(opt)
    _begun[id(opt)] = opt


def move_aside(folder: Path) -> None:
    """Rename a folder to its previous name, so that `settle` can undo it."""
    (folder / MARK).touch()
    if previous(folder).exists():
        remove_older(folder)
        previous(folder).rename(older(folder))
    folder.rename(previous(folder))
    lock.follow(folder, previous(folder))


def remove_older(folder: Path) -> None:
    """Remove the older generation; if it is a link to a folder, the link alone."""
    if older(folder).is_symlink():
        older(folder).unlink()
    shutil.rmtree(older(folder), ignore_errors=True)


def settle(folder: Path) -> None:
    """Complete a move if the new run has saved a checkpoint; undo it otherwise. Most often there is none."""
    old = previous(folder)
    if (old / MARK).exists():
        if has_checkpoint(folder):
            remove_older(folder)
            (old / MARK).unlink(missing_ok=True)
            return
        if folder.exists():
            shutil.rmtree(folder)
        old.rename(folder)
    if (folder / MARK).exists():
        if older(folder).exists() and not old.exists():
            older(folder).rename(old)
        (folder / MARK).unlink()


def recover(folder: Path) -> None:
    """Before a start, settle the move of a run that is gone. Every process calls this."""
    places = previous(folder), folder
    if processes.is_main() and any((place / MARK).exists() for place in places):
        if all(lock.take(place) is None for place in places):  # else that run is alive
            if (places[0] / MARK).exists() and not has_checkpoint(folder):
                print(f"the run that was to replace {folder} saved nothing: the earlier run is there again")
            settle(folder)
        for place in places:
            lock.release(place)
    processes.from_main(None)  # the other processes wait for that


def resume_command(opt) -> str:
    """Return the command that resumes the run in an experiment's previous folder."""
    words = ["--dataroot", str(opt.dataroot), "--name", f"{opt.name}.previous"]
    for name in sorted({"checkpoints_dir", "gpu_ids"} & run_facts(opt).typed):
        value = getattr(opt, name)
        words += [f"--{name}", value if isinstance(value, str) else ",".join(map(str, value)) or "-1"]
    return f"python train.py {shlex.join(words)} --continue_train"


def finished(opt, message: str) -> UserError:
    """Return the error that nothing is left to train; where a run is started again until it ends, that is success."""
    return (Finished if run_facts(opt).unattended else UserError)(message)


# ---- options ----


def values_to_save(opt) -> dict[str, object]:
    """Return all options by name, and how the run is made fast."""
    values = {**vars(opt), "speed": run_facts(opt).speed}
    values.pop("device", None)
    return dict(sorted(values.items()))


def table_file(opt) -> Path:
    """Return the file of a run's options as text; test.py never replaces training's."""
    phase = getattr(opt, "phase", "train")  # options that a notebook made itself may lack it
    stem = phase if opt.isTrain or phase != "train" else "test_train"
    return experiment_folder(opt) / f"{stem}_opt.txt"


def record(opt) -> None:
    """Save the options as a table, `train_opt.txt` or `test_opt.txt`, and as JSON; infinity becomes null.

    test.py and --continue_train read train_opt.json. It is therefore not written before the networks are known to fit.
    """
    facts, table = run_facts(opt), table_file(opt)
    _write(table, facts.table + "\n", needed=opt.isTrain)
    values = {name: None if value == math.inf else value for name, value in values_to_save(opt).items()}
    text = json.dumps({**values, "facts": facts.saved}, indent=2, default=str) + "\n"
    _write(table.with_name("train_opt.json" if opt.isTrain else "test_opt.json"), text, needed=opt.isTrain)


def _write(path: Path, text: str, needed: bool) -> None:
    """Write a file atomically. A failure is an error if the file is `needed`, else a warning."""
    try:
        write_whole(path, text, durable=True)
    except OSError as error:
        message = f"the options can't be saved as {path}: {error.strerror}"
        if needed:
            raise UserError(message) from error
        warn(message)
