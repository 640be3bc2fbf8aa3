"""Many commands as users type them, without waiting for `import torch` each time.

One helper process imports what every command imports anyway, and forks itself for each: the fork runs the script as
`python script words...` would, in a folder that holds a copy of the tree, and has the exit status of the command.
"""

from __future__ import annotations

import atexit
import csv
import functools
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import torch

from util.pages.data_file import PageData

ROOT = Path(__file__).resolve().parents[2]
TINY = "--ngf 4 --ndf 4 --load_size 40 --crop_size 32 --num_threads 0 --gpu_ids -1 --display_id -1 --seed 1"

HELPER = """
import json, multiprocessing, os, runpy, sys
import dominate, skimage.color, torch, torchvision, tqdm
torch.set_num_threads(1)
layer = torch.nn.Linear(1, 1)
layer(torch.ones(1, 1)).sum().backward()
torch.optim.Adam(layer.parameters()).step()  # also imports lazily

def command(cwd, words, out):
    for number, name in ((1, "stdout"), (2, "stderr")):
        os.dup2(os.open(os.path.join(out, name), os.O_WRONLY | os.O_CREAT), number)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.chdir(cwd)
    sys.argv, sys.path[0] = words, cwd
    runpy.run_path(words[0], run_name="__main__")

fork = multiprocessing.get_context("fork")
for line in sys.stdin:
    process = fork.Process(target=command, args=json.loads(line))
    process.start()
    process.join()
    print(process.exitcode, flush=True)
"""


@functools.cache
def _helper() -> tuple[subprocess.Popen, Path]:
    """Start the helper process; it ends with this one."""
    out = Path(tempfile.mkdtemp(prefix="terminal"))
    env = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    process = subprocess.Popen([sys.executable, "-c", HELPER], text=True, env=env, **pipes)

    def end():
        process.stdin.close()
        process.wait(10)
        shutil.rmtree(out)

    atexit.register(end)
    return process, out


def type_fast(command: str, cwd: Path) -> subprocess.CompletedProcess:
    """Run `python command` in the folder `cwd` and return the finished process with its text."""
    helper, out = _helper()
    for name in ("stdout", "stderr"):
        (out / name).unlink(missing_ok=True)
    words = shlex.split(command)
    helper.stdin.write(json.dumps([str(cwd), words, str(out)]) + "\n")
    helper.stdin.flush()
    status = int(helper.stdout.readline())
    texts = [(out / name).read_text(errors="replace") for name in ("stdout", "stderr")]
    return subprocess.CompletedProcess(words, status, *texts)


def type_well(command: str, cwd: Path) -> str:
    """Run `python command` as `type_fast` does, see it succeed, and return what it wrote to stdout."""
    done = type_fast(command, cwd)
    assert done.returncode == 0, f"{command}\n{done.stdout[-2000:]}\n{done.stderr[-4000:]}"
    return done.stdout


def copy_tree(folder: Path) -> Path:
    """Copy what a user clones, as far as train.py and test.py need it, into `folder`."""
    for name in ("options", "models", "data", "util"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("train.py", "test.py"):
        shutil.copy(ROOT / name, folder / name)
    return folder


def shown_rows(web_dir: Path) -> list[tuple[str, list[str]]]:
    """Read the rows of test.py's page: the name shown, and the addresses of the images."""
    rows, images = [], []
    for call, values in PageData(web_dir).read():
        if call == "layout":
            images = values[0]["images"]
        elif call == "row":
            rows.append((values[0], [f"images/{values[1]}_{file}.png" for _, file, *_ in images]))
    return rows


def table(path: Path) -> list[dict[str, str]]:
    """Read a CSV file, a dict for each row."""
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def loss_lines(text: str) -> list[tuple[int, int, dict[str, float]]]:
    """Read the printed losses: epoch, images of that epoch, and the losses by name in their order."""
    pattern = r"^\(epoch: (\d+), iters: (\d+), time: \d+\.\d{3}, data: \d+\.\d{3}\) ((?:\w+: -?\d+\.\d{3} )+)$"
    found = re.findall(pattern, text, re.MULTILINE)
    return [(int(e), int(i), {n: float(v) for n, v in re.findall(r"(\w+): (\S+)", rest)}) for e, i, rest in found]


def weights(folder: Path, prefix: str = "latest") -> dict[str, torch.Tensor]:
    """Read all networks of a checkpoint into one dictionary, keys beginning with the networks' names."""
    paths = {path.stem.removeprefix(f"{prefix}_net_"): path for path in folder.glob(f"{prefix}_net_*.pth")}
    states = {name: torch.load(path, weights_only=True) for name, path in paths.items()}
    return {f"{name}.{key}": value for name, state in states.items() for key, value in state.items()}


def equal(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    """Whether two checkpoints have the same keys and, to the last bit, the same values."""
    return one.keys() == other.keys() and all(torch.equal(one[key], other[key]) for key in one)


def identical(one, other) -> bool:
    """Whether two nested values have the same types, keys in the same order and, to the last bit, the same tensors."""
    if type(one) is not type(other):
        return False
    if isinstance(one, torch.Tensor):
        return one.dtype == other.dtype and one.shape == other.shape and torch.equal(one, other)
    if isinstance(one, dict):
        return list(one) == list(other) and all(identical(one[key], other[key]) for key in one)
    if isinstance(one, (list, tuple)):
        return len(one) == len(other) and all(map(identical, one, other))
    return one == other
