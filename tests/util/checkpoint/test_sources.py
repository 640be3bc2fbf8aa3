"""The files that --init_from chooses, one for each network of the new run."""

from __future__ import annotations

import json
import shutil

import pytest
import torch

from util.checkpoint.checkpointer import Checkpointer
from util.checkpoint.sources import sources
from util.errors import UserError


def put(folder, *names):
    """Save a tiny network under each name, as in a downloaded experiment."""
    folder.mkdir()
    for name in names:
        torch.save(torch.nn.Linear(1, 1).state_dict(), folder / f"latest_net_{name}.pth")
    return folder


def test_each_network_starts_with_the_file_that_fits_it(tmp_path):
    pix2pix = put(tmp_path / "p", "G", "D")
    cycle = put(tmp_path / "c", "G_A", "G_B", "D_A")
    four = ["G_A", "G_B", "D_A", "D_B"]

    def chosen(where, names, direction="AtoB"):
        files = sources(where, "latest", names, direction)
        return {name: path.stem.partition("_net_")[2] for name, path in files.items()}

    assert chosen(pix2pix, ["G", "D"]) == {"G": "G", "D": "D"}
    assert chosen(pix2pix, ["G"]) == {"G": "G"}
    assert chosen(pix2pix, four) == chosen(pix2pix, four, "BtoA") == {"G_A": "G"}
    assert chosen(cycle, four) == {"G_A": "G_A", "G_B": "G_B", "D_A": "D_A"}
    assert chosen(cycle, ["G", "D"]) == {"G": "G_A"}
    assert chosen(cycle, ["G", "D"], "BtoA") == {"G": "G_B"}
    for folder, model in ((pix2pix, "pix2pix"), (cycle, "cycle_gan")):
        (folder / "train_opt.json").write_text(json.dumps({"model": model, "direction": "BtoA"}))
    assert chosen(cycle, ["G", "D"]) == {"G": "G_B"}
    assert chosen(pix2pix, four) == {"G_B": "G"}
    assert chosen(pix2pix, four, "BtoA") == {"G_A": "G"}

    assert chosen(cycle / "latest_net_G_B.pth", four) == {"G_B": "G_B"}
    assert chosen(cycle / "latest_net_G_B.pth", ["G", "D"]) == {"G": "G_B"}
    assert chosen(pix2pix / "latest_net_D.pth", ["G", "D"]) == {"D": "D"}
    shutil.copy(pix2pix / "latest_net_G.pth", tmp_path / "zebra.pth")
    assert chosen(tmp_path / "zebra.pth", four).keys() == {"G_A"}
    shutil.copy(pix2pix / "latest_net_G.pth", tmp_path / "latest_net_G_A_ema.pth")
    assert chosen(tmp_path / "latest_net_G_A_ema.pth", four).keys() == {"G_A"}
    with pytest.raises(UserError, match=r"latest_net_D.pth fills none of the networks G_A, G_B, D_A, D_B"):
        sources(pix2pix / "latest_net_D.pth", "latest", four)
    with pytest.raises(UserError, match=r"fills none of the networks G, D \(5\); .* holds latest_net_D.pth"):
        sources(pix2pix, "5", ["G", "D"])


def test_a_source_is_one_whole_checkpoint(tmp_path):
    net = torch.nn.Linear(1, 1)
    folder = tmp_path / "checkpoints/x"
    Checkpointer(folder).save("latest", {"G": net, "D": net}, {"progress": [1, 0, 0]})
    (folder / "latest_net_D.pth").rename(folder / "latest_net_D.pth.new")  # stopped between commit and renaming
    files = sources(folder, "latest", ["G", "D"])
    assert {name: path.name for name, path in files.items()} == {
        "G": "latest_net_G.pth",
        "D": "latest_net_D.pth.new",
    }
    (folder / "latest_net_D.pth.new").unlink()  # G alone was handed on
    assert sources(folder, "latest", ["G", "D"]).keys() == {"G"}
    (folder / "latest_net_G.pth").write_bytes(b"x")
    with pytest.raises(UserError, match="has other content"):
        sources(folder, "latest", ["G", "D"])
