"""Signals, closed output, and a second run with the same name: real processes, real signals.

tests/faults/signals.py sends all signals in all phases; here is a small part of it, and the lock.
"""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from conftest import make_aligned, names
from faults.signals import TINY, Terminal, check, plan, whole
from terminal import copy_tree, equal, type_fast, type_well, weights

from util.runtime import lock

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the helper inherits orphans, as only Linux does")


class Trainer:
    """A copy of the tree, two epochs of three steps to train, and what they yield when nothing interrupts them."""

    def __init__(self, folder: Path):
        self.folder, self.terminal = folder, Terminal(copy_tree(folder / "code"))
        self.data = make_aligned(folder / "data", count=6)
        for ranks in (0, 2):
            self.run(f"reference{ranks}", "--save_by_iter --save_latest_freq 1", ranks=ranks, statuses=[0, 0])

    def words(self, name: str, more: str = "") -> str:
        return f"--dataroot {self.data} --checkpoints_dir {self.folder} --name {name} {TINY} --num_threads 1 {more}"

    def start(self, name: str, more: str = "", ranks: int = 0, **spec) -> dict:
        batch = "" if ranks else "--batch_size 2"  # two processes have a batch of 1 each
        return self.terminal.start(self.words(name, f"{batch} {more}"), ranks=ranks, **spec)

    def run(self, name, more="", ranks=0, statuses=None):
        """Train undisturbed."""
        run = self.terminal.finish(self.start(name, more, ranks))
        assert statuses is None or run.statuses == statuses[: len(run.statuses)], run.errors
        return run

    def interrupt(self, name: str, sent: str, target: str = "rank 0", more="", ranks=0, **spec):
        """Train until the phase of `spec`, send a signal there, and return the finished run."""
        started = self.start(name, more, ranks, **spec)
        return self.terminal.finish(started, self.terminal.send(started, sent, target))

    def waiting(self, name: str, **spec) -> tuple[dict, int]:
        """Train until the phase of `spec`; return the run and its main process."""
        started = self.start(name, **spec)
        self.terminal.reached(started)
        return started, int((Path(started["out"]) / "pid.0").read_text())


@pytest.fixture(scope="module")
def trainer(tmp_path_factory):
    trainer = Trainer(tmp_path_factory.mktemp("signals"))
    yield trainer
    trainer.terminal.close()


# ---- one process ----


def test_a_signal_finishes_the_step_and_saves_and_training_resumes_as_if_never_stopped(trainer):
    run = trainer.interrupt("usr", "SIGUSR1", phase="forward", count=3)
    folder, last = trainer.folder / "usr", trainer.folder / "reference0"
    assert run.statuses == [128 + signal.SIGUSR1]
    assert run.errors.splitlines() == [
        "SIGUSR1: finishing the step and saving; again to stop at once",
        "stopped by SIGUSR1 after the step; --continue_train resumes from the last save",
    ]
    assert run.seconds < 10
    assert whole(folder) == 6
    assert equal(weights(folder), weights(last, "iter_6"))
    trainer.run("usr", "--continue_train", statuses=[0])
    assert equal(weights(folder), weights(last))
    # All that a checkpoint holds, besides the networks.
    states = [torch.load(one / "latest_state.pth", weights_only=True) for one in (folder, last)]
    assert len({repr((state["progress"], state["optimizers"])) for state in states}) == 1


def test_a_second_signal_ends_the_process_at_once(trainer):
    started, pid = trainer.waiting("twice", phase="forward", count=2)
    os.kill(pid, signal.SIGTERM)
    time.sleep(1.2)  # what comes within a second is one
    sent = time.monotonic()
    os.kill(pid, signal.SIGINT)
    run = trainer.terminal.finish(started, sent)
    assert run.statuses == [130]
    assert run.errors.splitlines()[1] == "SIGINT: stopped at once"
    assert run.seconds < 3  # its loader process included
    assert whole(trainer.folder / "twice") is None


def test_signals_that_come_together_are_one(trainer):
    """GNU timeout sends its signal twice, and torchrun passes on the signals of its processes."""
    started, pid = trainer.waiting("together", phase="forward")
    os.kill(pid, signal.SIGTERM)
    while not (Path(started["out"]) / "rank0.err").read_text():
        time.sleep(0.005)
    for number in (signal.SIGTERM, signal.SIGINT):
        os.kill(pid, number)
    run = trainer.terminal.finish(started, trainer.terminal.send(started, "SIGTERM", "rank 0"))
    assert run.statuses == [143]
    assert whole(trainer.folder / "together") == 2


def test_before_training_a_signal_ends_the_process_at_once_and_without_a_traceback(trainer):
    run = trainer.interrupt("early", "SIGINT", phase="loading")
    assert (run.statuses, run.errors) == ([130], "stopped by Ctrl-C\n")
    assert not (trainer.folder / "early").exists()


def test_a_signal_that_was_ignored_at_the_start_stays_ignored(trainer):
    run = trainer.interrupt("nohup", "SIGHUP", phase="forward", ignored=["SIGHUP"])
    assert run.statuses == [0]
    assert equal(weights(trainer.folder / "nohup"), weights(trainer.folder / "reference0"))


def test_a_save_that_fails_on_the_way_out_is_one_line_and_status_1(trainer):
    run = trainer.interrupt("full", "SIGTERM", phase="forward", full_disk=True)
    assert run.statuses == [1]
    assert run.errors.splitlines()[-1].startswith("error: latest can't be saved in ")
    assert "Traceback" not in run.errors
    assert whole(trainer.folder / "full") is None


# ---- loader processes ----


def test_a_killed_loader_process_is_one_line_and_the_training_is_saved(trainer):
    run = trainer.interrupt("oom", "SIGKILL", "worker", phase="between D and G")
    assert run.statuses == [1]
    assert "Traceback" not in run.errors
    assert run.errors.splitlines()[-1].startswith(
        "error: a process that loads images was killed or crashed: the memory"
    )
    images = whole(trainer.folder / "oom")
    assert images == 2 * len(run.steps[0]) - 2 * (len(run.steps[0]) == 4)
    assert equal(weights(trainer.folder / "oom"), weights(trainer.folder / "reference0", f"iter_{images}"))


# ---- two processes ----


def test_a_signal_that_meets_a_loader_process_at_its_start_leaves_it_alone(trainer):
    """torchrun passes signals on to whole process groups."""
    run = trainer.interrupt("start", "SIGINT", "torchrun", "", 2, phase="worker start", rank=1, hold=0.6)
    assert run.statuses == [130] * 2, run.errors + run.agent
    assert whole(trainer.folder / "start") == 2


@pytest.mark.parametrize(
    ("name", "target", "phase"), [("SIGTERM", "rank 1", "saving"), ("SIGKILL", "torchrun", "display")]
)
def test_all_processes_end_alike(trainer, name, target, phase):
    shutil.rmtree(trainer.folder / "all", ignore_errors=True)
    run = trainer.interrupt("all", name, target, "--save_latest_freq 4", 2, **plan(name, target, phase))
    wrong = check(run, trainer.folder / "all", trainer.folder / "reference2", name, target, phase)
    assert wrong == [], run.errors + run.agent


def test_the_second_signal_works_while_a_collective_hangs(trainer):
    """Rank 1 stands still, rank 0 waits for it in C++: Python's own handlers would not run there."""
    started, pid = trainer.waiting("hanging", ranks=2, phase="forward", rank=1)
    time.sleep(0.5)
    os.kill(pid, signal.SIGTERM)
    time.sleep(1.2)
    sent = time.monotonic()
    os.kill(pid, signal.SIGTERM)
    status = Path(started["out"]) / f"status.{pid}"
    while not status.exists() and time.monotonic() < sent + 5:
        time.sleep(0.02)
    assert status.read_text().split()[0] == "143"
    (Path(started["out"]) / "sent").touch()
    run = trainer.terminal.finish(started, sent)
    assert run.statuses[1] in (1, -15)
    assert not run.hung


# ---- closed output ----


def test_a_closed_stdout_does_not_end_training_nor_testing(trainer):
    words = trainer.words("pipe", "--batch_size 2")
    script = f"""
        {sys.executable} train.py {words} | head -n 1
        echo "status ${{PIPESTATUS[0]}}"
        {sys.executable} test.py --dataroot {trainer.data} --name pipe --checkpoints_dir {trainer.folder} --gpu_ids -1 \
            --results_dir {trainer.folder}/results 2>&1 | head -n 1
        echo "status ${{PIPESTATUS[0]}}"
    """
    env = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    cwd = trainer.terminal.cwd
    done = subprocess.run(["bash", "-c", script], cwd=cwd, env=env, capture_output=True, text=True, check=False)
    assert [line for line in done.stdout.splitlines() if "status" in line] == ["status 0", "status 0"]
    assert done.stderr.splitlines() == ["warning: stdout can't be written (Broken pipe); continuing without it"]
    folder = trainer.folder / "pipe"
    assert equal(weights(folder), weights(trainer.folder / "reference0"))
    assert len(list((trainer.folder / "results/pipe/test_latest/images").glob("*_fake_B.png"))) == 6


# ---- the lock ----


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


def test_a_second_run_with_one_name_refuses_and_touches_nothing(trainer):
    type_fast("train.py --help", trainer.terminal.cwd)  # its helper imports PyTorch, which may take long, before
    started, pid = trainer.waiting("one", phase="forward", count=2)
    before = contents(trainer.folder / "one")
    again = f"train.py {trainer.words('one', '--batch_size 1')}"
    second = type_fast(again, trainer.terminal.cwd)
    assert second.returncode == 1
    folder = trainer.folder / "one"
    assert second.stderr.startswith(f"error: another run is training in {folder}: process {pid} on ")
    assert second.stderr.endswith(". Type another --name, or stop that run and type this again\n")
    assert contents(folder) == before
    # A run that was killed does not hold the lock, though its loader process lives on for a moment.
    (Path(started["out"]) / "sent").touch()
    os.kill(pid, signal.SIGKILL)
    type_well(f"{again} --n_epochs 0 --max_dataset_size 1", trainer.terminal.cwd)
    assert trainer.terminal.finish(started).statuses == [-signal.SIGKILL]


def test_all_processes_of_a_second_run_leave(trainer):
    folder = trainer.folder / "taken"
    folder.mkdir()
    with (folder / ".lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        run = trainer.run("taken", ranks=2)
    assert set(run.statuses) in ({1}, {1, -signal.SIGTERM})  # torchrun may be faster with the other
    assert f"error: another run is training in {folder}. Type another --name" in run.errors
    assert names(folder) == {".lock"}


def test_a_file_system_without_locks_costs_a_warning(tmp_path, monkeypatch, capsys):
    def flock(*_):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(lock.fcntl, "flock", flock)
    lock.claim(tmp_path)
    assert capsys.readouterr().err.startswith(f"warning: {tmp_path} can't be locked (No locks available): ")
