"""Metrics equal independent computations on the same images; intervals; checks of the networks' weights."""

from __future__ import annotations

import hashlib
import math
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
import torchmetrics
import torchvision
from file_server import Served, serving
from skimage.metrics import structural_similarity

from util.errors import UserError
from util.metrics import features, intervals, pairs, sets
from util.metrics.evaluation import Evaluation, default_metrics
from util.metrics.table import METRICS

LITE0 = ["fd_lite0", "kid_lite0"]


def waves(count, height=40, width=32, channels=3, shift=0.0, seed=0):
    """Make images (N, C, H, W), waves with noise, that are functions of numbers alone."""
    n, c, y, x = np.meshgrid(*map(np.arange, (count, channels, height, width)), indexing="ij")
    wave = (
        np.sin(x / (3 + n) + shift + seed)
        + np.cos(y / (2 + c) - n)
        + 0.2 * np.sin(12.9898 * x * y + 78.233 * (n + seed))
    )
    return torch.from_numpy((127.5 + 57 * wave).round().clip(0, 255).astype(np.uint8))


def score_all(names, fake, real, size=100, intervals=True):
    evaluation = Evaluation(names)
    for begin in range(0, len(fake), size):
        evaluation.add(fake[begin : begin + size], real[begin : begin + size])
    return evaluation.compute(intervals)


def numpy_frechet(a, b):
    """The Frechet distance of rows; tr sqrt(CaCb) is the sum of the singular values of the centred sets' product."""
    (ma, mb), (ca, cb) = (a.mean(0), b.mean(0)), ((z - z.mean(0)) / math.sqrt(len(z) - 1) for z in (a, b))
    cross = np.linalg.svd(ca @ cb.T, compute_uv=False).sum()
    return ((ma - mb) ** 2).sum() + (ca**2).sum() + (cb**2).sum() - 2 * cross


def looped_kernel(a, b):
    """The kernel distance, pair by pair."""
    k = lambda x, y: (float(x @ y) / len(x) + 1) ** 3  # noqa: E731
    within = [
        sum(k(z[i], z[j]) for i in range(len(z)) for j in range(len(z)) if i != j) / (len(z) * (len(z) - 1))
        for z in (a, b)
    ]
    return sum(within) - 2 * sum(k(x, y) for x in a for y in b) / (len(a) * len(b))


# ---- of pairs ----


@pytest.mark.parametrize(("height", "width", "channels"), [(37, 45, 3), (11, 12, 3), (33, 64, 1)])
@pytest.mark.parametrize("divisor", [1, 64, 1000], ids=["bright", "dark", "flat"])
def test_l1_psnr_and_ssim_equal_numpy_and_skimage(height, width, channels, divisor):
    fake, real = waves(3, height, width, channels), waves(3, height, width, channels, shift=0.4, seed=1)
    fake, real = fake // divisor + (divisor == 1000) * 250, real // divisor + 3
    found = Evaluation(["psnr", "ssim", "l1"]).add(fake, real)
    assert list(found) == ["l1", "psnr", "ssim"]  # in the order of METRICS
    for i, (a, b) in enumerate(zip(fake.double().numpy(), real.double().numpy(), strict=True)):
        assert found["l1"][i] == pytest.approx(np.abs(a - b).mean() / 255, rel=1e-12)
        assert found["psnr"][i] == pytest.approx(20 * math.log10(255 / math.sqrt(((a - b) ** 2).mean())), abs=1e-5)
        ssim = structural_similarity(
            a, b, gaussian_weights=True, sigma=1.5, use_sample_covariance=False, data_range=255, channel_axis=0
        )
        assert found["ssim"][i] == pytest.approx(ssim, abs=1e-9)


@pytest.mark.parametrize("size", [(176, 180), (207, 233)])
def test_ms_ssim_equals_torchmetrics(size):
    fake, real = waves(2, *size).double(), waves(2, *size, shift=0.4, seed=1).double()
    expected = torchmetrics.functional.image.multiscale_structural_similarity_index_measure(fake, real, data_range=255)
    assert float(pairs.ms_ssim(fake, real)) == pytest.approx(float(expected), abs=1e-7)


def test_ssim_takes_little_time_and_memory():
    fake, real = waves(1, 256, 256).double(), waves(1, 256, 256, shift=0.4).double()
    begin = time.thread_time()
    for _ in range(5):
        pairs.ssim(fake, real)
    assert time.thread_time() - begin < 1  # 0.07 s on a quiet core; filters of 11 x 11 took 4 s
    with torch.profiler.profile(profile_memory=True) as profile:
        pairs.ssim(fake, real)
    allocated = sum(max(0, event.self_cpu_memory_usage) for event in profile.events())
    assert allocated < 60 * fake.nbytes  # of all operations together; filters of 11 x 11 allocated 650


def test_images_that_are_too_small_for_a_metric_are_reported():
    evaluation = Evaluation(["l1", "ssim", "ms_ssim"])
    assert all(map(math.isnan, evaluation.add(waves(1, 175, 175), waves(1, 175, 175, shift=1))["ms_ssim"]))
    assert list(evaluation.compute()) == ["l1", "ssim"]
    assert evaluation.missing == {"ms_ssim": "images are smaller than 176 pixels"}
    evaluation.add(waves(1, 176, 176), waves(1, 176, 176, shift=1))
    assert evaluation.compute()["ms_ssim"].images == 1
    assert evaluation.notes == ["ms_ssim: without 1 images that are smaller than 176 pixels"]


def test_pairs_of_two_sizes_and_floats_fail():
    with pytest.raises(UserError, match="2 of 32 x 40 and 2 of 33 x 40"):
        Evaluation(["l1"]).add(waves(2), waves(2, width=33))
    with pytest.raises(ValueError, match=r"not torch.float32 \(2, 3, 40, 32\)"):
        Evaluation(["l1"]).add(waves(2).float(), waves(2))


# ---- of sets ----


def test_distances_of_lite0_equal_the_formulas_on_its_features():
    evaluation = Evaluation(LITE0)
    evaluation.add_fake(waves(6))
    evaluation.add_real(waves(5, 36, 50, shift=0.8))
    found = evaluation.compute(intervals=False)
    fake, real = (side.rows().astype(np.float64) for side in evaluation.sets["lite0"])
    assert fake.shape == (6, 1280)
    assert found["fd_lite0"].value == pytest.approx(numpy_frechet(fake, real), rel=1e-5)
    assert found["fd_lite0"].images == 6
    evaluation.add_real(waves(1, shift=0.8))
    fake, real = (side.rows().astype(np.float64) for side in evaluation.sets["lite0"])
    found = evaluation.compute(intervals=False)
    assert found["kid_lite0"].value == pytest.approx(looped_kernel(fake, real), rel=1e-9)


def test_sets_of_few_images_get_a_note_or_a_reason():
    evaluation = Evaluation([*LITE0, "l1"])
    evaluation.add(waves(1), waves(1, shift=1))
    assert list(evaluation.compute()) == ["l1"]
    assert evaluation.missing["kid_lite0"] == "each set needs at least two images; there are 1 and 1"
    evaluation.add(waves(2), waves(2, shift=1))
    assert list(evaluation.compute()) == ["l1", *LITE0]
    assert not evaluation.missing
    assert evaluation.notes[0].startswith("fd_lite0: 3 images are too few for covariances of 1,280 features")


def distance_of(distance, fake, real, interval=False):
    return sets.distance_and_half_interval(distance, fake, real, interval)


def test_a_kid_of_uneven_or_many_images_is_the_mean_over_subsets(monkeypatch):
    rng = np.random.default_rng(0)
    fake, real = rng.normal(size=(24, 8)).astype(np.float32), (rng.normal(size=(60, 8)) + 1).astype(np.float32)
    exact = looped_kernel(fake.astype(float), real.astype(float))
    assert distance_of(sets.kernel, fake, real)[0] == pytest.approx(exact, rel=0.05)
    monkeypatch.setattr(sets, "SUBSET", 12)
    monkeypatch.setattr(sets, "WHOLE", 20)
    assert distance_of(sets.kernel, fake, real)[0] == pytest.approx(exact, rel=0.1)
    whole = numpy_frechet(fake.astype(float), real.astype(float))  # below in chunks of 12 images
    assert distance_of(sets.frechet, fake, real)[0] == pytest.approx(whole, rel=1e-9)


# ---- figures that stay ----


def test_values_of_fixed_images_stay():
    names = METRICS.keys() - {"lpips", "fid", "kid"}
    found = score_all(names, waves(5, 176, 180), waves(5, 176, 180, shift=0.3, seed=1), intervals=False)
    golden = {"l1": 0.1759481581, "psnr": 13.96120856, "ssim": 0.5085469731, "ms_ssim": 0.6054780524}
    golden |= {"fd_lite0": 11.47653352, "kid_lite0": -0.08350196133}
    assert {name: score.value for name, score in found.items()} == pytest.approx(golden, rel=1e-4)


def test_scores_do_not_depend_on_batches_or_order_and_change_no_random_state():
    names = ["psnr", "kid_lite0"]
    fake, real = waves(17), waves(17, shift=0.8)
    torch.manual_seed(5)
    first = score_all(names, fake, real)
    drawn = torch.rand(3)
    assert score_all(names, fake, real, size=7) == first
    torch.manual_seed(5)
    assert torch.equal(torch.rand(3), drawn)
    for name, score in score_all(names, fake.flip(0), real.flip(0)).items():
        assert tuple(score) == pytest.approx(tuple(first[name]), rel=1e-4)


# ---- intervals ----


def test_the_interval_of_a_mean_is_the_textbooks():
    values = np.random.default_rng(1).normal(20, 3, 400)
    mean, half, count = intervals.mean_and_half_interval([*values, math.nan])
    assert (mean, half, count) == pytest.approx((values.mean(), 1.96 * values.std(ddof=1) / 20, 400))
    assert intervals.mean_and_half_interval([3.0])[1] == 0


def test_intervals_of_distances_contain_the_distance_of_more_images():
    rng, hits = np.random.default_rng(0), 0

    def drawn(count, shift):
        return np.maximum(rng.normal(size=(count, 64)) + shift, 0).astype(np.float32)

    everything, _ = distance_of(sets.kernel, drawn(900, 0.3), drawn(900, 0.0))
    for _ in range(40):
        value, half = distance_of(sets.kernel, drawn(40, 0.3), drawn(40, 0.0), interval=True)
        hits += value - half <= everything <= value + half
    assert hits >= 35  # of 40; 38 expected
    assert distance_of(sets.frechet, drawn(40, 0.0), drawn(40, 0.0), interval=True)[1] > 0
    assert distance_of(sets.kernel, drawn(3, 0.3), drawn(3, 0.0), interval=True)[1] == 0  # too few for an interval


# ---- memory ----


def test_features_are_kept_on_the_disk():
    net = torch.nn.Sequential(torch.nn.AdaptiveAvgPool2d(4), torch.nn.Flatten())
    kept = features.Features(lambda images: net(images.float()), "cpu")
    for seed in range(50):
        kept.add(waves(10, seed=seed))
        assert len(kept.waiting) < features.GROUP
    rows = kept.rows()
    assert isinstance(rows, np.memmap)
    assert rows.shape == (500, 48)
    assert rows[250] == pytest.approx(net(waves(10, seed=25).float())[0].numpy())


# ---- names, packages ----


def test_a_missing_package_is_named_with_its_command(monkeypatch):
    features.network.cache_clear()
    monkeypatch.setitem(sys.modules, "efficientnet_lite_pytorch", None)
    with pytest.raises(UserError, match=r"needs the package efficientnet-lite-pytorch .* pip install effi"):
        Evaluation(["kid_lite0"])


# ---- weights ----


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """Empty caches."""
    former = torch.hub.get_dir()
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    torch.hub.set_dir(str(tmp_path / "hub"))
    yield tmp_path / "hub/checkpoints"
    torch.hub.set_dir(former)
    features.network.cache_clear()


def stand_in(monkeypatch, name, path, **more):
    """Take a file for the right one, for arithmetic that does not depend on what a network has learned."""
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    monkeypatch.setitem(features.WEIGHTS, name, features.WEIGHTS[name]._replace(sha256=digest[:8], **more))
    return path


@pytest.mark.parametrize(("metric", "network"), [("kid", "inception"), ("lpips", "lpips")])
def test_missing_weights_are_an_error_with_the_address_and_the_place(hub, monkeypatch, metric, network):
    wanted = features.WEIGHTS[network]
    place = hub / wanted.files[0]
    target = f"Download {wanted.url} and put it at {place}, or name the file: --weights {wanted.metric}=FILE"
    with pytest.raises(UserError) as caught:
        Evaluation([metric], download=False)
    assert target in str(caught.value)
    assert "is missing, and --no_download forbids fetching it" in str(caught.value)
    monkeypatch.setitem(features.WEIGHTS, network, wanted._replace(url="http://127.0.0.1:9/x.pth"))
    with pytest.raises(
        UserError, match=r"is missing and cannot be downloaded \(.*refused.*Download http://127.0.0.1:9/x.pth"
    ):
        Evaluation([metric])
    assert list(hub.iterdir()) == []
    with pytest.raises(UserError, match=rf"--weights {wanted.metric}=nowhere.pth: no such file"):
        Evaluation([metric], weights={metric: Path("nowhere.pth")})


def test_a_download_appears_complete_or_not_at_all(hub, tmp_path, monkeypatch):
    path, target = tmp_path / "net.pth", hub / "served.pth"
    torch.save({"x": torch.ones(3)}, path)
    with serving() as server:
        stand_in(monkeypatch, "lpips", path, url=f"{server.url}/served.pth", files=(target.name,))
        server.files["/served.pth"] = Served(path.read_bytes())
        assert features.find_weights("lpips") == target
        assert features.find_weights("lpips", download=False) == target
        assert target.read_bytes() == path.read_bytes()
        target.unlink()
        cut = Served(path.read_bytes(), cut=99)
        for reason, served in {"invalid hash": Served(b"x"), "404": Served(status=404), "hash|whole": cut}.items():
            server.files["/served.pth"] = served
            with pytest.raises(UserError, match=rf"cannot be downloaded \(.*({reason})"):
                features.find_weights("lpips")
            assert list(hub.iterdir()) == []


def test_weights_of_another_network_fail(hub, tmp_path):
    path = tmp_path / "pt_inception-2015-12-05-6726825d.pth"
    torch.save({"features.0.weight": torch.zeros(2)}, path)
    found = r"other weights \(features.0.weight"
    with pytest.raises(UserError, match=rf"{path} is not FID's InceptionV3 \(95 MB\): .*{found}.*not 6726825d"):
        Evaluation(["fid"], weights={"fid": path})
    hub.mkdir(parents=True)
    (hub / path.name).write_bytes(path.read_bytes())  # in a cache, under its name
    with pytest.raises(UserError, match=f"{hub / path.name} is not FID's InceptionV3"):
        Evaluation(["kid"])


def test_fid_and_kid_use_the_network_of_torch_fidelity(hub, tmp_path, monkeypatch):
    from torch_fidelity import feature_extractor_inceptionv3 as theirs

    kind = theirs.FeatureExtractorInceptionV3
    with monkeypatch.context() as patch:  # random weights: it is the arithmetic that is compared
        patch.setattr(theirs, "load_state_dict_from_url", lambda *_, **__: {})
        patch.setattr(kind, "load_state_dict", lambda *_: None)
        torch.manual_seed(0)
        net = kind("inception-v3-compat", ["2048"])
    for module in net.modules():
        if isinstance(module, torch.nn.Conv2d):
            torch.nn.init.kaiming_normal_(module.weight)
    torch.save(net.state_dict(), tmp_path / "net.pth")
    weights = {"fid": stand_in(monkeypatch, "inception", tmp_path / "net.pth")}
    assert default_metrics(False, weights) == ["fid", "kid", *LITE0]
    assert default_metrics(True, weights) == ["l1", "psnr", "ssim", "ms_ssim", "fid", "kid"]
    fake, real = waves(3), waves(3, shift=1.0)
    evaluation = Evaluation(["fid", "kid"], weights=weights)
    evaluation.add(fake, real)
    rows = [side.rows() for side in evaluation.sets["inception"]]
    with torch.no_grad():
        assert rows[0] == pytest.approx(net(fake)[0].numpy(), rel=1e-5)
        assert rows[1] == pytest.approx(net(real)[0].numpy(), rel=1e-5)
    found, rows = evaluation.compute(0), [side.astype(np.float64) for side in rows]
    assert found["fid"].value == pytest.approx(numpy_frechet(*rows), rel=1e-5)
    assert found["kid"].value == pytest.approx(looped_kernel(*rows), rel=1e-9)


def test_lpips_equals_the_formula_of_its_paper(hub, tmp_path, monkeypatch):
    torch.manual_seed(0)
    alexnet = torchvision.models.alexnet()
    torch.save(alexnet.state_dict(), tmp_path / "net.pth")
    evaluation = Evaluation(["lpips"], weights={"lpips": stand_in(monkeypatch, "lpips", tmp_path / "net.pth")})
    assert not hub.exists()
    fake, real = waves(2, 64, 70), waves(2, 64, 70, shift=1.0)
    found = evaluation.add(fake, real)["lpips"]
    file = Path(torchmetrics.__file__).parent / "functional/image/lpips_models/alex.pth"
    linear = torch.load(file, "cpu", weights_only=True)
    shift, scale = (torch.tensor(x).view(3, 1, 1) for x in ([-0.030, -0.088, -0.188], [0.458, 0.448, 0.450]))
    x, y = ((images / 127.5 - 1 - shift) / scale for images in (fake, real))
    expected, level = torch.zeros(2), 0
    with torch.no_grad():
        for layer in alexnet.features:
            x, y = layer(x), layer(y)
            if isinstance(layer, torch.nn.ReLU):  # unit length over channels, squared difference, weighted sum, mean
                unit = [z / (z.square().sum(1, keepdim=True) + 1e-8).sqrt() for z in (x, y)]
                weight = linear[f"lin{level}.model.1.weight"].view(1, -1, 1, 1)
                expected += ((unit[0] - unit[1]).square() * weight).sum(1).mean((1, 2))
                level += 1
    assert level == 5
    assert found == pytest.approx(expected.tolist(), rel=1e-4)
    assert evaluation.compute()["lpips"].value == pytest.approx(float(expected.mean()), rel=1e-4)
