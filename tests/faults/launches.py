"""Start over, restart and end training through real processes: nothing is lost, and every exit status is right.

A run that starts over is killed before every operation on its folders, and so is the start after it.
Two processes under torchrun lose one by SIGKILL and are restarted. Pairs of processes train and exit while other
programs keep all cores busy: threads of the process group that outlive it would abort them (SIGABRT).
"""

from __future__ import annotations

import contextlib
import io
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import torch
from conftest import ROOT
from faults import resume
from faults.driver import Row, in_parallel

from util.checkpoint import run_folder
from util.checkpoint.checkpointer import Checkpointer
from util.errors import UserError
from util.runtime.run_facts import Options

# ---- starting over ----

OLDER, OLD = 1, 2  # the progress of the runs that are there; the new one saves 3 and 4
EVENTS = ("open", "os.rename", "os.mkdir", "os.remove", "os.rmdir", "os.link", "os.truncate")


def save(folder: Path, number: int) -> None:
    """Save a checkpoint whose weight and progress are `number`."""
    net = torch.nn.Linear(1, 1)
    torch.nn.init.constant_(net.weight, number)
    Checkpointer(folder).save("latest", {"G": net}, {"format": 1, "progress": [1, 0, number]})


def saved(folder: Path) -> int | None:
    """Return the number of a folder's checkpoint, None without one."""
    net, checkpoints = torch.nn.Linear(1, 1), Checkpointer(folder)
    if not run_folder.has_checkpoint(folder):
        return None
    with contextlib.redirect_stdout(io.StringIO()):
        checkpoints.load_networks("latest", {"G": net})
    assert net.weight.item() == checkpoints.load_state("latest")["progress"][2]
    return int(net.weight.item())


def lay_out(folder: Path) -> None:
    """Make the folders of a run and of the one before it."""
    for place, number in ((run_folder.previous(folder), OLDER), (folder, OLD)):
        save(place, number)
        (place / "web" / "images").mkdir(parents=True)
        (place / "web" / "index.html").write_text(str(number))


def start_over(folder: Path, returned: Path) -> None:
    """Do to the disk what a new run of this name does."""
    words = {"checkpoints_dir": str(folder.parent), "name": folder.name, "dataroot": "data"}
    run_folder.begin(Options(**words, isTrain=True, phase="train", continue_train=False))
    (folder / "loss_log.txt").write_text("new")
    for number in (3, 4):
        save(folder, number)
        run_folder.settle(folder)
        returned.write_text(str(number))


def kill_before(action: Callable[[], None], folder: Path, n: int) -> bool:
    """Run an action in a forked process, killed before its n-th operation below `folder`; return whether it was."""
    if (pid := os.fork()) == 0:
        count = 0

        def hook(event, args):
            nonlocal count
            if event in EVENTS and (str(folder) in str(args[0]) or not Path(str(args[0])).is_absolute()):
                count += 1
                if count == n:
                    os.kill(os.getpid(), signal.SIGKILL)

        sys.addaudithook(hook)
        try:
            sys.stdout = io.StringIO()
            action()
        finally:
            os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == -signal.SIGKILL


def judge(folder: Path, returned: int) -> str:
    """Settle what a kill left, and return what is wrong then."""
    run_folder.settle(folder)
    now, before = saved(folder), saved(run_folder.previous(folder))
    left = [path.name for path in folder.parent.rglob(run_folder.MARK)]
    left += [run_folder.older(folder).name] * run_folder.older(folder).exists()
    if left:
        return f"left over: {left}"
    right = [(OLD, OLDER)] if not returned else []
    right += [(number, OLD) for number in (3, 4) if returned <= number <= max(returned + 1, 3)]
    page = (folder if now == OLD else run_folder.previous(folder)) / "web" / "index.html"
    return "" if (now, before) in right and page.read_text() == str(OLD) else f"{now} before {before}, saved {returned}"


def kill_while_starting_over(n: int, again: int = 0) -> tuple[bool, str]:
    """Kill a run that starts over, then (`again`) the next start; return whether both were, and what is wrong."""
    with tempfile.TemporaryDirectory() as place:
        folder, returned = Path(place) / "runs" / "x", Path(place) / "returned"
        lay_out(folder)
        struck = kill_before(partial(start_over, folder, returned), folder.parent, n)
        if struck and again:
            struck = kill_before(partial(run_folder.settle, folder), folder.parent, again)
        try:
            return struck, judge(folder, int(returned.read_text()) if returned.exists() else 0)
        except (UserError, AssertionError, OSError) as error:
            return struck, repr(error)


def kills(last: int = 200) -> Iterator[tuple[int, int]]:
    """Yield the points at which starting over is killed."""
    n = next(n for n in range(1, last) if not kill_while_starting_over(n)[0])
    yield from ((first, again) for first in range(1, n) for again in range(20))


# ---- real exits ----

TINY = f"--model pix2pix --netG unet_32 --num_threads 0 {resume.TINY} --norm instance"


def environment(**more: object) -> dict[str, str]:
    """Return the environment of a process on the CPU, with one thread."""
    names = {"OMP_NUM_THREADS": 1, "CUDA_VISIBLE_DEVICES": "", "PYTHONPATH": ROOT, **more}
    return {**os.environ, **{name: str(value) for name, value in names.items()}}


def train_two(data: Path, out: Path) -> tuple[list[int], str]:
    """Train in two processes that end as Python does; return their statuses and what they print."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    words = f"train.py --dataroot {data} --checkpoints_dir {out} --name run {TINY} --n_epochs 1 --n_epochs_decay 0"
    common = {"WORLD_SIZE": 2, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    both = [environment(**common, RANK=rank, LOCAL_RANK=rank) for rank in (0, 1)]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True, "cwd": ROOT}
    pair = [subprocess.Popen([sys.executable, *words.split()], env=env, **pipes) for env in both]
    texts = [process.communicate(timeout=10 * resume.LIMIT)[0] for process in pair]
    return [process.returncode for process in pair], "".join(texts)


def exits(count: int) -> Row:
    """Train and exit `count` times on busy cores."""
    busy = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(os.cpu_count() or 1)]
    wrong = []
    try:
        with tempfile.TemporaryDirectory(prefix="exits") as folder:
            resume.make_sources(Path(folder))
            for number in range(count):
                statuses, text = train_two(Path(folder) / "aligned", Path(folder) / str(number))
                if statuses != [0, 0] or "threads of the process group" in text:
                    wrong.append(f"{statuses}: {text[-300:]}")
                print(f"exit {number + 1} of {count}: {statuses}", file=sys.stderr, flush=True)
    finally:
        for process in busy:
            process.kill()
    return "two processes end on busy cores", count, len(wrong), wrong[0] if wrong else "status 0"


def workers_of(pid: int) -> list[int]:
    """Return the processes that a process has started."""
    stats = [path.read_text().rpartition(")")[2].split() for path in Path("/proc").glob("[0-9]*/stat")]
    pids = [int(path.parent.name) for path in Path("/proc").glob("[0-9]*/stat")]
    return [child for child, stat in zip(pids, stats, strict=False) if int(stat[1]) == pid]


def torchrun(words: str, ranks: int = 2, restarts: int = 0) -> subprocess.Popen:
    """Type `torchrun --standalone ... train.py words`."""
    launcher = f"-m torch.distributed.run --standalone --nproc_per_node {ranks} --max_restarts {restarts} train.py"
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    command = [sys.executable, *launcher.split(), *words.split()]
    return subprocess.Popen(command, cwd=ROOT, env=environment(), **pipes)


def kill_a_worker(words: str, folder: Path) -> tuple[int, str]:
    """Kill one of torchrun's two processes after the first save; return torchrun's status and text."""
    process, end = torchrun(words, restarts=2), time.monotonic() + resume.LIMIT
    while not (folder / "latest_state.pth").exists() and process.poll() is None and time.monotonic() < end:
        time.sleep(0.01)
    for pid in workers_of(process.pid)[:1]:
        os.kill(pid, signal.SIGKILL)
    out, err = process.communicate(timeout=2 * resume.LIMIT)
    return process.returncode, out + err


def restarts(count: int) -> Row:
    """Kill a worker `count` times, and compare with a run that is not killed."""
    wrong = []
    with tempfile.TemporaryDirectory(prefix="restarts") as place:
        folder = Path(place)
        resume.make_sources(folder)
        words = f"--dataroot {folder / 'aligned'} {TINY} --save_latest_freq 2"
        assert resume.start(words, folder / "whole", 2) == [0, 0]
        for path in (folder / "whole").glob("steps_*.txt"):
            path.unlink()  # real processes do not write them
        for number in range(count):
            out = folder / str(number)
            status, text = kill_a_worker(f"{words} --checkpoints_dir {out} --name run", out / "run")
            differing = resume.differences(folder / "whole", out) if status == 0 else [f"{status}: {text[-300:]}"]
            wrong += differing[:1]
            print(f"restart {number + 1} of {count}: {status} {differing}", file=sys.stderr, flush=True)
    return "torchrun restarts after SIGKILL", count, len(wrong), wrong[0] if wrong else "0 bytes differ"


def campaign(runs: int = 200, every: int = 1) -> list[Row]:
    """Return the table's rows."""
    torch.set_num_threads(1)
    points = list(kills())[::every]
    results = in_parallel([partial(kill_while_starting_over, *point) for point in points])
    wrong = [text for _, text in results if text]
    struck = sum(struck for struck, _ in results)
    started = ("started over, killed before the n-th operation, and again", struck, len(wrong), "".join(wrong[:1]))
    return [started, restarts(max(1, runs // 20)), exits(runs)]
