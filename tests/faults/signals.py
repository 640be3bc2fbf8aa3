"""Send real signals to real processes in every phase of a training, and see that all of them end well.

Each delivery is a training of two gloo processes with a loader process each, started by torchrun's own agent. It waits
in a phase until the signal is sent. Checked: every exit status, the save (whole, and identical to the one of an
undisturbed run after that step), no traceback, and no process left 10 seconds after the step's end.

A helper process imports torch once and forks all others; only its replacement of torchrun's `Popen` is not real. As a
"subreaper" it inherits orphans, so that none goes unnoticed.
"""

from __future__ import annotations

import ctypes
import errno
import json
import os
import runpy
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from faults.driver import end_with

TESTS = Path(__file__).resolve().parents[1]
LIMIT = 60  # seconds, after which a run hangs
SIGNALS = ("SIGINT", "SIGTERM", "SIGUSR1", "SIGHUP", "SIGKILL")
TARGETS = ("rank 0", "rank 1", "torchrun", "worker")
PHASES = ("loading", "forward", "between D and G", "optimizer step", "display", "saving", "epoch end", "last step")
STEPS = 6  # two epochs of three; the images of a step are 2
TINY = (
    "--model pix2pix --netG unet_32 --ngf 4 --ndf 4 --norm instance --load_size 36 --crop_size 32 --gpu_ids -1 "
    "--display_id -1 --seed 1 --n_epochs 1 --n_epochs_decay 1 --print_freq 2 --display_freq 2"
)


# ---- in the training process ----


def hold(out: Path, seconds: float) -> None:
    """Report that the phase is reached, and continue when the signal was sent."""
    import multiprocessing

    here = {"pid": os.getpid(), "workers": [child.pid for child in multiprocessing.active_children()]}
    write(out / "reached", json.dumps(here))
    end = time.monotonic() + 40
    while not (out / "sent").exists() and time.monotonic() < end:
        time.sleep(0.005)
    time.sleep(seconds)


def install(spec: dict) -> None:
    """Have this process stop in `spec`'s phase, and note the end of each step."""
    from torch.optim.optimizer import register_optimizer_step_post_hook

    import models
    from data.loading import loader, workers
    from models.base_model import BaseModel
    from models.pix2pix_model import Pix2PixModel
    from util.checkpoint.checkpointer import Checkpointer
    from util.runtime.signals import Interrupts
    from util.visualizer import Visualizer

    out, rank = Path(spec["out"]), int(os.environ.get("RANK", 0))
    write(out / f"pid.{rank}", str(os.getpid()))

    def note(name):
        with (out / f"{name}.{rank}").open("a") as file:
            file.write(f"{time.monotonic()}\n")

    def before(owner, name, action):
        original = getattr(owner, name)

        def wrapped(*args, **kwargs):
            action()
            return original(*args, **kwargs)

        setattr(owner, name, wrapped)

    before(Interrupts, "requested", lambda: note("step"))
    before(Interrupts, "leave", lambda: note("left"))
    saving = []
    before(Checkpointer, "save", lambda: saving.append(True))

    def full_disk():
        if saving:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    if spec.get("full_disk"):
        before(os, "fsync", full_disk)
    if spec.get("phase") is None or rank != spec.get("rank", 0):
        return
    calls, wanted = [], spec.get("count", 1)

    def reached():
        calls.append(None)
        if len(calls) == wanted:
            hold(out, spec.get("hold", 0.0))

    match spec["phase"]:
        case "loading":
            before(models, "create_model", reached)
        case "worker start":
            before(workers, "prepare", reached)
        case "item":
            before(loader.SeededItems, "__getitem__", reached)
        case "forward" | "last step":
            before(Pix2PixModel, "forward", reached)
        case "between D and G":
            before(Pix2PixModel, "backward_G", reached)
        case "optimizer step":
            register_optimizer_step_post_hook(lambda *_: reached())
        case "display":
            before(Visualizer, "display_current_results", reached)
        case "saving":
            before(os, "fsync", lambda: saving and reached())
        case "epoch end":
            before(BaseModel, "update_learning_rate", reached)


def write(path: Path, text: str) -> None:
    """Write a small file that appears whole."""
    new = path.with_name(path.name + ".tmp")
    new.write_text(text)
    new.replace(path)


def program(spec: dict) -> None:
    """Run train.py with the hooks."""
    sys.argv, sys.path[0] = spec["words"], os.getcwd()  # noqa: PTH109
    install(spec)
    runpy.run_path(sys.argv[0], run_name="__main__")


# ---- in the helper, which forks ----


def redirect(out: Path, name: str) -> None:
    for number, kind in ((1, "out"), (2, "err")):
        os.dup2(os.open(out / f"{name}.{kind}", os.O_WRONLY | os.O_CREAT | os.O_APPEND), number)


class Forked:
    """What torchrun's agent needs of subprocess.Popen, for a process that is forked rather than executed."""

    def __init__(self, spec, env):
        self.out, self.returncode, self.pid = Path(spec["out"]), None, os.fork()
        if self.pid:
            return
        os.setsid()
        os.environ.clear()
        os.environ.update(env)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT):
            signal.signal(number, signal.SIG_DFL)
        redirect(self.out, f"rank{env['RANK']}")
        end_with(program, spec)

    def poll(self):
        if self.returncode is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                self.returncode = os.waitstatus_to_exitcode(status)
                write(self.out / f"status.{self.pid}", f"{self.returncode} {time.monotonic()}")
        return self.returncode

    def wait(self, timeout):
        end = time.monotonic() + timeout
        while self.poll() is None:
            if time.monotonic() > end:
                raise subprocess.TimeoutExpired("rank", timeout)
            time.sleep(0.01)
        return self.returncode


def launch(spec: dict) -> None:
    """Be torchrun, or the only process of a training."""
    out = Path(spec["out"])
    os.chdir(spec["cwd"])
    for name in spec.get("ignored", ()):
        signal.signal(getattr(signal, name), signal.SIG_IGN)
    write(out / "pid.torchrun", str(os.getpid()))
    redirect(out, "torchrun" if spec["ranks"] else "rank0")
    if not spec["ranks"]:
        program(spec)
    else:
        import torch.distributed.run
        from torch.distributed.elastic.multiprocessing.subprocess_handler import SubprocessHandler

        SubprocessHandler._popen = lambda self, args, env: Forked(spec, env)
        torch.distributed.run.main(["--standalone", "--nproc_per_node", str(spec["ranks"]), *spec["words"]])


def serve() -> None:
    """Read a line for each run, start it, and answer with all statuses when its last process is gone."""
    import dominate  # noqa: F401 - what every run imports
    import torch
    import torch.distributed.run
    import torchvision  # noqa: F401
    import tqdm  # noqa: F401

    torch.set_num_threads(1)
    layer = torch.nn.Linear(1, 1)
    layer(torch.ones(1, 1)).sum().backward()
    torch.optim.Adam(layer.parameters()).step()  # also imports lazily
    ctypes.CDLL(None).prctl(36, 1)  # PR_SET_CHILD_SUBREAPER
    for line in sys.stdin:
        spec = json.loads(line)
        if not os.fork():
            end_with(launch, spec)
        print(json.dumps(reap(Path(spec["out"]))), flush=True)


def reap(out: Path) -> dict:
    """Wait until no child and no orphan is left; return statuses and times by pid."""
    gone, end, hung = {}, time.monotonic() + LIMIT, False
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            break
        if pid:
            gone[pid] = (os.waitstatus_to_exitcode(status), time.monotonic())
            continue
        if time.monotonic() > end:
            hung, end = True, time.monotonic() + 5
            for path in out.glob("pid.*"):
                if int(path.read_text()) not in gone:
                    os.kill(int(path.read_text()), signal.SIGKILL)
        time.sleep(0.005)
    for path in out.glob("status.*"):  # what torchrun has reaped
        status, when = path.read_text().split()
        gone[int(path.suffix[1:])] = (int(status), float(when))
    return {"gone": gone, "end": time.monotonic(), "hung": hung}


# ---- in the test ----


class Run:
    """A finished run: statuses by name, the time that its last process took after the step, its texts."""

    def __init__(self, spec: dict, sent: float, answer: dict):
        self.out, self.ranks = Path(spec["out"]), range(spec["ranks"] or 1)
        gone = {int(pid): status for pid, (status, _) in answer["gone"].items()}
        pids = {path.suffix[1:]: int(path.read_text()) for path in self.out.glob("pid.*")}
        self.statuses = [gone.get(pids.get(str(rank))) for rank in self.ranks]
        self.torchrun = gone.get(pids["torchrun"]) if spec["ranks"] else None
        self.steps = [self._times(f"step.{rank}") for rank in self.ranks]
        self.taken = len(self.steps[0]) - len(self.steps[0]) // 4  # every fourth question is an epoch's, after 3 steps
        self.hung = answer["hung"]
        ends = [when for when in self.steps[0] + self.steps[-1] if when > sent]
        # The step's end; a run without a reason to stop is timed from its last step.
        last = max(ends, default=sent) if not self._times("left.0") else min(ends, default=sent)
        self.seconds = answer["end"] - max(sent, last)
        self.errors = "".join(path.read_text(errors="replace") for path in sorted(self.out.glob("rank?.err")))
        self.agent = (self.out / "torchrun.err").read_text(errors="replace") if spec["ranks"] else ""

    def _times(self, name: str) -> list[float]:
        path = self.out / name
        return [float(line) for line in path.read_text().split()] if path.exists() else []


class Terminal:
    """Starts runs, and sends a signal when they reach a phase."""

    def __init__(self, cwd: Path):
        self.cwd, self.count = cwd, 0
        self.folder = Path(tempfile.mkdtemp(prefix="signals"))
        env = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": "", "PYTHONPATH": str(TESTS)}
        command, pipes = [sys.executable, "-m", "faults.signals"], {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
        self.helper = subprocess.Popen(command, text=True, env=env, **pipes)

    def close(self) -> None:
        self.helper.stdin.close()
        self.helper.wait(60)
        shutil.rmtree(self.folder)

    def start(self, words: str, ranks: int = 2, **spec) -> dict:
        """Start `python train.py words`; `phase`, `rank`, `count` and `hold` say where it waits for `send`."""
        self.count += 1
        out = self.folder / f"run{self.count}"
        out.mkdir()
        spec = {"words": ["train.py", *words.split()], "ranks": ranks, "cwd": str(self.cwd), "out": str(out), **spec}
        self.helper.stdin.write(json.dumps(spec) + "\n")
        self.helper.stdin.flush()
        return spec

    def reached(self, spec: dict) -> dict:
        """Wait until the phase is reached; return who is there."""
        path = Path(spec["out"]) / "reached"
        while not path.exists():
            if select.select([self.helper.stdout], [], [], 0.005)[0]:  # the run's end
                texts = [file.read_text(errors="replace")[-2000:] for file in path.parent.glob("*.err")]
                raise RuntimeError("\n".join([f"{spec['phase']} was not reached", *texts]))
        return json.loads(path.read_text())

    def send(self, spec: dict, name: str, target: str) -> float:
        """Send a signal to `rank N`, `torchrun` or a `worker` of the process that waits; return when."""
        out, here = Path(spec["out"]), self.reached(spec)
        if target == "worker":
            pid = here["workers"][0] if here["workers"] else here["pid"]
        else:
            pid = int((out / f"pid.{target.split()[-1]}").read_text())
        now = time.monotonic()
        os.kill(pid, getattr(signal, name))
        time.sleep(0.02)
        write(out / "sent", "")
        return now

    def finish(self, spec: dict, sent: float = 0.0) -> Run:
        """Wait for the end of the last process."""
        return Run(spec, sent, json.loads(self.helper.stdout.readline()))


def whole(folder: Path, prefix: str = "latest") -> int | None:
    """Return how many images a checkpoint has seen, None if there is none; complain if its files don't fit."""
    import torch

    from util.checkpoint.checkpointer import hash_if_exists

    if not (folder / f"{prefix}_state.pth").exists():
        return None
    state = torch.load(folder / f"{prefix}_state.pth", weights_only=True)
    for name, digest in state["networks"].items():
        path = folder / f"{prefix}_net_{name}.pth"
        assert digest in (hash_if_exists(path), hash_if_exists(path.with_name(path.name + ".new"))), (
            f"{path} is not whole"
        )
    return state["progress"][2]


def plan(name: str, target: str, phase: str) -> dict:
    """Choose where the training waits."""
    rank = 1 if target == "rank 1" and phase not in ("display", "saving") else 0  # those are the main process's
    if (target, phase) == ("worker", "loading"):
        return {"phase": "item", "rank": 0}
    count = {"between D and G": 2, "optimizer step": 3, "display": 2, "last step": STEPS}.get(phase, 1)
    # torchrun's death is noticed within a quarter of a second, and what it passes on takes some time.
    return {"phase": phase, "rank": rank, "count": count, "hold": 0.6 if target == "torchrun" else 0.0}


def expected(name: str, target: str, phase: str) -> tuple[list[set], set, bool | None]:
    """Return the right statuses of the ranks and of torchrun, and whether there is a save (None: either way)."""
    n = getattr(signal, name).value
    stopped, killed, failed = {128 + n}, {-n, 128 + n}, {1}
    if target == "worker":
        if name != "SIGKILL" or phase == "last step":  # its work was done
            return [{0}, {0}], {0}, True
        return [failed, failed | {-15}], failed, None  # torchrun may end it
    if target == "torchrun":
        gone = name in ("SIGKILL", "SIGUSR1")  # which it does not handle
        agent = {-n} if gone else failed
        if phase == "loading":
            ranks = failed | {128 + 15} if gone else killed
            return [ranks, ranks], agent, None if gone else False
        ranks = {128 + 15} if gone else stopped
        return [ranks, ranks], agent, True
    mine, other = (0, 1) if target == "rank 0" else (1, 0)
    ranks = [set(), set()]
    if phase == "loading":
        # The other one is ended by torchrun, or finds the first one gone.
        ranks[mine], ranks[other] = killed, failed | {-15, 128 + 15}
        return ranks, failed, False
    if name == "SIGKILL":
        ranks[mine], ranks[other] = killed, failed | {-15}
        return ranks, failed, None
    return [stopped, stopped], failed, True


def check(run: Run, folder: Path, reference: Path, name: str, target: str, phase: str) -> list[str]:
    """Return what is wrong with a run that got a signal."""
    from terminal import equal, weights

    ranks, agent, saved = expected(name, target, phase)
    wrong = []
    if run.statuses != [None, None]:  # known of forked ones
        wrong += [f"rank {i}: {run.statuses[i]}" for i in run.ranks if run.statuses[i] not in ranks[i]]
    if run.torchrun not in agent:
        wrong.append(f"torchrun: {run.torchrun}")
    if run.hung:
        wrong.append("hung")
    if run.seconds > 10:
        wrong.append(f"{run.seconds:.1f} s")
    if "Traceback" in run.errors:
        wrong.append("traceback")
    if (name, target) == ("SIGKILL", "worker") and phase != "last step" and "loads images was killed" not in run.errors:
        wrong.append("no word on the worker's death")
    try:
        images = whole(folder)
        if saved is not None and saved != (images is not None):
            wrong.append(f"saved: {images}")
        if saved and images != 2 * (STEPS if target == "worker" else run.taken):
            wrong.append(f"saved {images} after {run.taken} steps")
        if images and not equal(weights(folder), weights(reference, f"iter_{images}")):
            wrong.append(f"other weights after {images} images")
    except AssertionError as error:
        wrong.append(str(error))
    if leftover := [path.name for path in folder.glob("*.new")]:
        wrong += [f"left over: {leftover}"] * (name != "SIGKILL")
    return wrong


def campaign(only: str = "") -> list[tuple[str, int, int, str]]:
    """Send 5 signals to 4 targets in 8 phases; return a row for each signal and target."""
    from conftest import make_aligned
    from terminal import copy_tree

    folder = Path(tempfile.mkdtemp(prefix="signals"))
    cwd = copy_tree(folder / "code")
    data = make_aligned(folder / "data", count=6)
    terminal = Terminal(cwd)
    words = f"--dataroot {data} --checkpoints_dir {folder} --num_threads 1 {TINY}"
    first = terminal.finish(terminal.start(f"{words} --name reference --save_latest_freq 2 --save_by_iter"))
    assert first.statuses == [0, 0], first.errors
    rows, done = [], 0
    for name in SIGNALS:
        for target in TARGETS:
            bad, worst, points = [], (0.0, ""), 0
            for phase in PHASES:
                if only not in f"{name} {target} {phase}":
                    continue
                shutil.rmtree(folder / "x", ignore_errors=True)
                run_words = f"{words} --name x --save_latest_freq 4"
                spec = terminal.start(run_words, **plan(name, target, phase))
                run = terminal.finish(spec, terminal.send(spec, name, target))
                wrong = check(run, folder / "x", folder / "reference", name, target, phase)
                bad += [f"{phase}: {', '.join(wrong)}"] * bool(wrong)
                worst = max(worst, (run.seconds, phase))
                points += 1
                done += 1
                print(f"{done:3} {name} to {target}, {phase}: {run.statuses} {'; '.join(wrong)}", flush=True)
                if wrong:
                    print(run.errors[-3000:], run.agent[-1500:])
            remark = f"at most {worst[0]:.1f} s after the step ({worst[1]})" + "".join(f"; {text}" for text in bad)
            rows += [(f"{name} to {target}", points, len(bad), remark)] * bool(points)
    terminal.close()
    shutil.rmtree(folder)
    return rows


if __name__ == "__main__":
    serve()
