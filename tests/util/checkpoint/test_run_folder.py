"""A run that starts over loses nothing at any moment: a few points of tests/faults/launches.py. And leftovers."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys

import pytest
from faults import launches

from options.train_options import TrainOptions
from util.checkpoint import atomic_files
from util.checkpoint.atomic_files import remove_leftovers, write_whole
from util.errors import UserError
from util.runtime import lock


@pytest.mark.parametrize(("n", "again"), [(3, 0), (4, 2), (8, 0), (20, 4), (24, 0), (46, 0)])
def test_a_kill_while_starting_over_loses_no_run(n, again):
    assert launches.kill_while_starting_over(n, again) == (True, "")


def test_a_run_that_is_alive_keeps_its_folders_though_it_has_not_saved(tmp_path):
    folder = tmp_path / "x"
    launches.lay_out(folder)
    (launches.run_folder.previous(folder) / launches.run_folder.MARK).touch()
    code = "import sys; from pathlib import Path; from util.runtime import lock; lock.take(Path(sys.argv[1]))"
    command = [sys.executable, "-c", f"{code}; print(flush=True); sys.stdin.read()", f"{folder}.previous"]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "env": launches.environment()}
    with subprocess.Popen(command, **pipes) as alive:
        alive.stdout.readline()
        launches.run_folder.recover(folder)
        assert launches.saved(tmp_path / "x.previous") == launches.OLDER
        assert (tmp_path / "x.previous" / launches.run_folder.MARK).exists()
        alive.stdin.close()
    launches.run_folder.recover(folder)
    assert not (tmp_path / "x.previous" / launches.run_folder.MARK).exists()
    assert folder.resolve() not in lock._held


def test_an_older_run_that_is_a_link_elsewhere_stays_there_and_stops_no_start(tmp_path):
    folder, disk = tmp_path / "x", tmp_path / "disk"
    launches.save(disk, 1)
    folder.symlink_to(disk)
    for number in (2, 3, 4, 5):
        launches.run_folder.move_aside(folder)
        launches.save(folder, number)
        launches.run_folder.settle(folder)
    assert launches.saved(folder) == 5
    assert launches.saved(tmp_path / "x.previous") == 4
    assert launches.saved(disk) == 1
    assert not os.path.lexists(tmp_path / "x.older")


def test_an_older_run_that_cannot_be_removed_stops_no_start(tmp_path):
    folder = tmp_path / "x"
    launches.lay_out(folder)
    launches.save(launches.run_folder.older(folder), 0)
    (folder / launches.run_folder.MARK).touch()
    launches.run_folder.settle(folder)
    assert launches.saved(folder) == launches.OLD
    assert launches.saved(tmp_path / "x.previous") == launches.OLDER
    assert not (folder / launches.run_folder.MARK).exists()


def test_temporary_files_of_killed_writers_are_removed_and_no_others(tmp_path):
    with subprocess.Popen([sys.executable, "-c", ""]) as gone:
        gone.wait()
    mine = f".{os.getpid()}-1.new.png"  # its process is alive
    names = [f".{gone.pid}-1.new.png", f".{gone.pid}-140.new", mine, f".1-{gone.pid}.png", "a.new.png"]
    for name in names:
        (tmp_path / name).touch()
    earlier = tmp_path / f".{os.getpid()}-2.new.json"  # of a process that had this number before
    earlier.touch()
    os.utime(earlier, (1, 1))
    remove_leftovers(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {*names[2:]}
    (tmp_path / names[0]).touch()
    atomic_files._tidy.clear()
    write_whole(tmp_path / "a.txt", "")  # the first writer in a folder does the same
    assert not (tmp_path / names[0]).exists()


def test_a_restart_by_torchrun_says_why_it_resumes(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "job")
    (tmp_path / "x").mkdir()
    (tmp_path / "x/latest_net_G.pth").touch()
    saved = {"model": "cycle_gan", "dataset_mode": "unaligned", "facts": {"launch": "job"}}
    (tmp_path / "x/train_opt.json").write_text(json.dumps(saved))
    options = TrainOptions(["--dataroot", str(tmp_path), "--name", "x", "--checkpoints_dir", str(tmp_path)])
    with contextlib.suppress(UserError, SystemExit):  # the network is empty
        options.parse()
    assert "this torchrun launch began the run, which resumes" in capsys.readouterr().out
