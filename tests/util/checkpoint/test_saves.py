"""A save is whole or absent: a few hundred points of tests/faults/saves.py, and what a save says of its failures."""

from __future__ import annotations

import errno
import os
import re
import stat

import pytest
import torch
from faults import saves, shim

from util.checkpoint import checkpointer
from util.checkpoint.checkpointer import Checkpointer, SaveError


@pytest.mark.skipif(bool(shim.missing()), reason=shim.missing())
def test_no_kill_no_error_and_no_power_cut_leaves_half_a_save_and_naive_saves_break():
    rows = saves.campaign(most=3)
    naive = [row for row in rows if row[0].startswith(saves.NAIVE)]
    own = [row for row in rows if row not in naive]
    assert len(own) == 10
    assert sum(points for _, points, _, _ in own) >= 30
    assert [row for row in own if row[2]] == []
    assert all(violations > 0.7 * points for _, points, violations, _ in naive)


# ---- what one save does ----


def networks(value: float) -> dict[str, torch.nn.Module]:
    net = torch.nn.Conv2d(3, 4, 3)
    torch.nn.init.constant_(net.weight, value)
    return {"G": net}


def state(epoch: int) -> dict:
    return {"format": 1, "progress": [epoch, 0, epoch], "optimizers": [], "pools": []}


def loaded(folder, prefix="latest") -> float:
    net = networks(0)
    Checkpointer(folder).load_networks(prefix, net)
    return net["G"].weight[0, 0, 0, 0].item()


def refuse(monkeypatch, name, code, when=lambda *_: True):
    """Let a function of `os` fail."""
    original = getattr(os, name)

    def refused(*args, **kwargs):
        if when(*args):
            raise OSError(code, os.strerror(code))
        return original(*args, **kwargs)

    monkeypatch.setattr(os, name, refused)


def test_a_save_that_is_not_renamed_to_the_end_says_so_and_loads(tmp_path, monkeypatch):
    checkpoints = Checkpointer(tmp_path)
    checkpoints.save("latest", networks(1), state(1))
    with monkeypatch.context() as patch:
        original = checkpointer.publish

        def rename(path):
            if "_net_" in path.name:
                raise OSError(errno.EIO, os.strerror(errno.EIO))
            original(path)

        patch.setattr(checkpointer, "publish", rename)
        with pytest.raises(SaveError, match=re.escape(f"latest was saved in {tmp_path}, but not all files")):
            checkpoints.save("latest", networks(2), state(2))
    assert loaded(tmp_path) == 2
    assert (tmp_path / "latest_net_G.pth.new").exists()
    with monkeypatch.context() as patch:  # and not even a save that fails destroys what is not renamed
        refuse(patch, "fsync", errno.ENOSPC)
        with pytest.raises(SaveError):
            Checkpointer(tmp_path).save("latest", networks(3), state(3))
        assert loaded(tmp_path) == 2
    Checkpointer(tmp_path).save("1", networks(3), state(3))
    assert loaded(tmp_path) == 2
    assert not list(tmp_path.glob("*.new"))


def test_without_hard_links_a_second_prefix_is_written_anew(tmp_path, monkeypatch):
    refuse(monkeypatch, "link", errno.EPERM)
    checkpoints, net = Checkpointer(tmp_path), networks(1)
    checkpoints.save("1", net, state(1))
    checkpoints.save("latest", net, state(1))
    assert loaded(tmp_path, "1") == loaded(tmp_path) == 1
    assert not (tmp_path / "1_net_G.pth").samefile(tmp_path / "latest_net_G.pth")


def test_a_file_system_that_cannot_sync_folders_is_good_enough(tmp_path, monkeypatch):
    refuse(monkeypatch, "fsync", errno.EINVAL, lambda file: stat.S_ISDIR(os.fstat(file).st_mode))
    Checkpointer(tmp_path).save("latest", networks(1), state(1))
    assert loaded(tmp_path) == 1


def test_an_older_set_that_cannot_be_slimmed_is_kept_whole(tmp_path, monkeypatch, capsys):
    checkpoints = Checkpointer(tmp_path)
    large = {"pools": [torch.zeros(checkpointer.SLIM_BYTES)]}
    checkpoints.save("1", networks(1), state(1) | large)
    refuse(monkeypatch, "replace", errno.ENOSPC, lambda *paths: "1_state" in str(paths[0]))
    checkpoints.save("2", networks(2), state(2) | large)
    assert "an older checkpoint in" in (warning := capsys.readouterr().err)
    assert "No space left on device" in warning
    assert len(Checkpointer(tmp_path).load_state("1")["pools"]) == 1
    assert (loaded(tmp_path, "1"), loaded(tmp_path, "2")) == (1, 2)
    assert not list(tmp_path.glob("*.new"))


def test_an_error_amid_a_save_leaves_nothing_beside(tmp_path):
    class Odd(torch.nn.Module):
        def state_dict(self):
            return {"weight": lambda: None}

    with pytest.raises(Exception, match="pickle"):
        Checkpointer(tmp_path).save("latest", {"G": networks(1)["G"], "D": Odd()}, state(1))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["G", "D"])
def test_networks_that_are_loaded_while_training_saves_are_of_one_save(tmp_path, monkeypatch, capsys, name):
    def both(value):
        return {"G": networks(value)["G"], "D": networks(value)["G"]}

    original, trained = checkpointer.read, Checkpointer(tmp_path)
    trained.save("latest", both(1), state(1))

    def read(path, peek=False):
        if path.name == f"latest_net_{name}.pth" and trained.last[0] == [1, 0, 1]:
            trained.save("latest", both(2), state(2))
        return original(path, peek)

    monkeypatch.setattr(checkpointer, "read", read)
    loaded = both(0)
    Checkpointer(tmp_path).load_networks("latest", loaded)
    assert {net.weight[0, 0, 0, 0].item() for net in loaded.values()} == {2}
