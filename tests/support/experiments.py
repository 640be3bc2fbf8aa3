"""Three tiny trained experiments, built once for the whole suite and copied by every test that needs one.

pytest-xdist's workers share them through a folder beside their temporary ones; a file lock lets one worker build.
"""

from __future__ import annotations

import fcntl
import shutil
import tempfile
from pathlib import Path

from conftest import make_aligned, make_unaligned
from terminal import TINY, copy_tree, type_well

TRAIN = f"{TINY} --n_epochs 1 --n_epochs_decay 1 --save_epoch_freq 1 --print_freq 2 --display_freq 2"
KINDS = {
    "pix2pix": f"--model pix2pix --dataroot data {TRAIN}",
    "cycle_gan": f"--model cycle_gan --netG resnet_6blocks --dataroot data {TRAIN}",
    "colorization": f"--model colorization --dataroot data {TRAIN}",
}
shared: Path | None = None  # set by conftest.py: a folder that all workers of this run see


def _built(kind: str) -> Path:
    """Return the folder of an experiment: `data/`, `checkpoints/toy/` and `results/toy/test_latest/`."""
    root = shared or Path(tempfile.mkdtemp(prefix="experiments"))
    folder = root / kind
    with (root / f"{kind}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (folder / "done").exists():
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir()
            copy_tree(folder)
            (make_unaligned if kind == "cycle_gan" else make_aligned)(folder / "data")
            type_well(f"train.py --name toy {KINDS[kind]}", folder)
            type_well("test.py --name toy --dataroot data --gpu_ids -1", folder)
            (folder / "done").touch()
    return folder


def trained_copy(kind: str, folder: Path, results: bool = False) -> Path:
    """Copy a trained experiment of `kind` into `folder`: `data/`, `checkpoints/toy/`, with `results` its test page.

    Trained for two epochs of 4 images of 32 pixels, seed 1; `latest`, `1` and `2` are saved. Returns `folder`.
    """
    source = _built(kind)
    for name in ["data", "checkpoints"] + ["results"] * results:
        shutil.copytree(source / name, Path(folder) / name)
    return Path(folder)
