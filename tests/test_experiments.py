"""The experiments that other tests copy are there, whole, and built once."""

from __future__ import annotations

import experiments
import pytest
import torch
from experiments import KINDS, trained_copy


@pytest.mark.parametrize("kind", KINDS)
def test_a_copy_holds_data_checkpoints_and_results(tmp_path, kind):
    folder = trained_copy(kind, tmp_path, results=True)
    assert {path.name for path in folder.iterdir()} == {"data", "checkpoints", "results"}
    saved = {path.name for path in (folder / "checkpoints/toy").glob("*_net_G*.pth")}
    nets = ("G_A", "G_B") if kind == "cycle_gan" else ("G",)
    assert saved == {f"{prefix}_net_{net}.pth" for prefix in ("latest", "1", "2") for net in nets}
    assert (folder / "results/toy/test_latest/index.html").exists()
    built = (experiments.shared / kind / "done").stat().st_mtime_ns
    trained_copy(kind, tmp_path / "again")
    assert (experiments.shared / kind / "done").stat().st_mtime_ns == built


def test_a_checkpoint_is_the_references_set_of_files(tmp_path):
    folder = trained_copy("cycle_gan", tmp_path) / "checkpoints/toy"
    assert not list(folder.glob("*.new"))
    for prefix in ("latest", "1", "2"):
        for net in ("G_A", "G_B", "D_A", "D_B"):
            state = torch.load(folder / f"{prefix}_net_{net}.pth", weights_only=True)
            assert all(tensor.device.type == "cpu" for tensor in state.values())
            assert next(iter(state)) == ("model.1.weight" if net.startswith("G") else "model.0.weight")
            assert not any(key.startswith(("module.", "_orig_mod.")) for key in state)
