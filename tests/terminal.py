"""Many commands as users type them, without waiting for `import torch` each time.

One helper process imports what every command imports anyway, and forks itself for each: the fork runs the script as
`python script words...` would, in a folder that holds a copy of the tree, and has the exit status of the command.
"""

from __future__ import annotations

import atexit
import functools
import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
TINY = "--ngf 4 --ndf 4 --load_size 40 --crop_size 32 --num_threads 0 --gpu_ids -1 --display_id -1 --seed 1".split()

HELPER = """
import json, multiprocessing, os, runpy, sys
import dominate, skimage.color, torch, torchvision, tqdm
torch.set_num_threads(1)
layer = torch.nn.Linear(1, 1)
layer(torch.ones(1, 1)).sum().backward()
torch.optim.Adam(layer.parameters()).step()  # imports lazily, too

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


def type_fast(*words, cwd) -> subprocess.CompletedProcess:
    """Run `python words...` in the folder `cwd` and return the finished process with its text."""
    helper, out = _helper()
    for name in ("stdout", "stderr"):
        (out / name).unlink(missing_ok=True)
    words = [str(word) for word in words]
    helper.stdin.write(json.dumps([str(cwd), words, str(out)]) + "\n")
    helper.stdin.flush()
    status = int(helper.stdout.readline())
    texts = [(out / name).read_text(errors="replace") for name in ("stdout", "stderr")]
    return subprocess.CompletedProcess(words, status, *texts)


def copy_tree(folder: Path) -> Path:
    """Copy what a user clones, as far as train.py and test.py need it, into `folder`."""
    for name in ("options", "models", "data", "util"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("train.py", "test.py"):
        shutil.copy(ROOT / name, folder / name)
    return folder
