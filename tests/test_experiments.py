"""The experiments that other tests copy are there, whole, and built once."""

from __future__ import annotations

import experiments
import pytest
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
