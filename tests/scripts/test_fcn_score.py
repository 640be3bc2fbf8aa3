"""FCN-score: scores worked out by hand, label maps, networks, and the command."""

from __future__ import annotations

import io
import itertools
import json
import math
import re
import shutil

import numpy as np
import pytest
import torch
from conftest import ROOT, type_command
from PIL import Image

from scripts import fcn_score
from scripts.evaluation.label_maps import find_results, match_label_maps
from scripts.evaluation.segmentation import SCORES, Protocol, scores_with_intervals
from scripts.evaluation.segmenters import load_segmenter
from util.errors import UserError

pytestmark = pytest.mark.filterwarnings("ignore:.*deprecated", "ignore:No complete tensor")  # torch on its own files
CITYSCAPES = ROOT / "scripts/eval_cityscapes/cityscapes.json"
CPU = torch.device("cpu")
COLOURS = [(128, 64, 128), (0, 0, 142), (107, 142, 35), (220, 20, 60)]
VOID = (0, 0, 0)
PAINT = np.eye(4, 3, dtype=np.uint8) * 255  # red, green, blue, black: photos whose colour is the prediction
# Rows are the truth. 20 pixels; class 3 is predicted once and is in no truth.
MATRIX = [[5, 1, 0, 0], [2, 6, 1, 1], [0, 0, 4, 0], [0, 0, 0, 0]]


@pytest.fixture(autouse=True)
def _algorithms():
    """The command asks for deterministic algorithms, which is not for the tests that follow."""
    yield
    torch.use_deterministic_algorithms(False)


def write_config(path, **changes):
    """Write a configuration of four classes: ids 1 to 4, and 0 ignored."""
    names = ("ground", "car", "tree", "man")
    classes = [{"name": n, "trainId": k, "ids": [k + 1], "colour": COLOURS[k]} for k, n in enumerate(names)]
    fields = {"name": "shapes", "classes": classes, "ignored": [{"name": "void", "ids": [0], "colour": VOID}]}
    path.write_text(json.dumps({**fields, **changes}))
    return path


def write(path, array):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.asarray(array, np.uint8)).save(path)
    return path


NETWORK = """
import torch

class Painted(torch.nn.Module):
    def forward(self, x):  # 0 where the photo is red, 1 green, 2 blue, 3 black
        return ANSWER(torch.cat([x, torch.full_like(x[:, :1], 0.5)], dim=1))

def network(classes):
    return Painted()
"""


def write_network(path, answer="lambda logits: logits"):
    path.write_text(NETWORK.replace("ANSWER", f"({answer})"))
    return path


@pytest.fixture
def case(tmp_path):
    """A result that makes up MATRIX with four ignored pixels, the network that reads it, a configuration."""
    true = [i for i in range(4) for j in range(4) for _ in range(MATRIX[i][j])]
    said = [j for i in range(4) for j in range(4) for _ in range(MATRIX[i][j])]
    true, said = (np.reshape([*row, *more], (4, 6)) for row, more in ((true, [-1] * 4), (said, [0, 1, 2, 3])))
    palette = np.array([*COLOURS, VOID], np.uint8)  # void is the last, -1
    for label, image in (("real_A", palette[true]), ("fake_B", PAINT[said]), ("real_B", PAINT[true])):
        write(tmp_path / f"results/images/a_{label}.png", image)
    write(tmp_path / "labels/a.png", true + 1)
    write_network(tmp_path / "net.py")
    write_config(tmp_path / "config.json")
    return tmp_path


def run_here(folder, *words, segmenter="net.py"):
    """Run the command in this process and return what it wrote to its JSON file."""
    common = [folder / "results", "--config", folder / "config.json", "--gpu_ids", -1]
    which = ["--segmenter", folder / segmenter] if segmenter else []
    fcn_score.main([str(word) for word in (*common, *which, *words)])
    return json.loads((folder / "results/fcn_score.json").read_text())


# ---- scores ----


def test_the_command_prints_these_scores_and_leaves_ignored_pixels_out(case, capsys):
    report = run_here(case)
    results, real = report["scores"]["results"], report["scores"]["real"]
    assert results["matrix"] == MATRIX
    expected = [15 / 20, (5 / 6 + 6 / 10 + 4 / 4) / 3, (5 / 8 + 6 / 11 + 4 / 5) / 3]
    assert [results[name]["value"] for name in SCORES] == pytest.approx(expected)
    assert results["classes"]["tree"] == {"accuracy": 1.0, "iou": 0.8, "pixels": 4}
    assert results["classes"]["man"] == {"accuracy": None, "iou": None, "pixels": 0}
    assert [real[name]["value"] for name in SCORES] == [1, 1, 1]
    assert report["pixels"] == {"all": 24, "ignored": 4, "far_from_every_colour": 0}
    printed = capsys.readouterr().out
    assert re.search(r"results +0\.750 \(0\.750 to 0\.750\) .*\nreal photos +1\.000 ", printed)
    assert "16.7% of the pixels are not scored; 0.0% have no class's colour within 30" in printed
    assert "no label map has man" in printed
    assert run_here(case, "--labels", case / "labels")["scores"] == report["scores"]  # ids, not colours


def test_intervals_are_those_of_a_mean_and_vanish_where_all_images_are_alike():
    hits = np.random.default_rng(0).random(200) < 0.7  # images of one class, all right or all wrong
    matrices = np.array([[[hit, 1 - hit], [0, 0]] for hit in hits.astype(int)])
    pixel = scores_with_intervals(matrices)["per_pixel_accuracy"]
    p = hits.mean()
    spread = 1.96 * math.sqrt(p * (1 - p) / 200)
    assert pixel["value"] == p
    assert pixel["high"] - p == pytest.approx(p - pixel["low"])
    assert spread / 2 < p - pixel["low"] < 2 * spread  # ten groups estimate it roughly
    alike = scores_with_intervals(np.repeat([MATRIX], 5, 0))
    assert all(it["low"] == pytest.approx(it["value"]) == pytest.approx(it["high"]) for it in alike.values())


# ---- label maps ----


def test_cityscapes_classes_ids_and_colours():
    it = Protocol(CITYSCAPES)
    assert it.synthesis_size == [256, 256]
    assert it.ignore_label == 255
    names = "road,sidewalk,building,wall,fence,pole,traffic light,traffic sign,vegetation,terrain,sky,person,rider,car,"
    assert it.names == (names + "truck,bus,train,motorcycle,bicycle").split(",")
    evaluated = [7, 8, 11, 12, 13, 17, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 31, 32, 33]
    expected = [evaluated.index(i) if i in evaluated else 255 for i in [*range(34), 255]]
    assert it.from_ids(np.array([*range(34), 255])).tolist() == expected
    own = np.array([[c["colour"] for c in it.classes]], np.uint8)
    assert it.from_colours(own)[0].tolist() == [list(range(19))]
    void = np.array([[(0, 0, 0), (111, 74, 0), (81, 0, 81), (0, 0, 90), (0, 0, 110)]], np.uint8)
    assert it.from_colours(void)[0].tolist() == [[255] * 5]


def test_invalid_configurations_and_ids_without_a_class_are_errors(tmp_path):
    for changes, message in (
        ({"tolerence": 3}, "no field 'tolerence'. Did you mean 'tolerance'"),
        ({"classes": [{"trainId": 0}, {"trainId": 1}]}, "the field 'name' is missing"),
        ({"classes": [{"name": "a", "trainId": 1}, {"name": "b", "trainId": 2}]}, "trainIds have to be 0, 1, 2"),
        ({"ignored": [{"name": "void", "ids": [1]}]}, "an id occurs twice"),
        ({"synthesis_size": [256]}, r"a size has to be \[width, height\]"),
    ):
        with pytest.raises(UserError, match=message):
            Protocol(write_config(tmp_path / "c.json", **changes))
    it = Protocol(write_config(tmp_path / "c.json"))
    assert it.from_ids(np.array([[0, 3, 255]]), "trainIds").tolist() == [[0, 3, 255]]
    with pytest.raises(UserError, match=r"trainIds that .*c.json lacks: 4, 9"):
        it.from_ids(np.array([[9, 4, 0]]), "trainIds")
    with pytest.raises(UserError, match=r"ids that .*c.json lacks: 70"):
        it.from_ids(np.array([[0, 70, 1]]))


def test_colours_survive_jpeg_and_others_are_ignored(tmp_path):
    it = Protocol(write_config(tmp_path / "c.json"))
    truth = np.kron(np.random.default_rng(0).integers(0, 4, (8, 8)), np.ones((16, 16), int))
    drawn, file = Image.fromarray(np.array(COLOURS, np.uint8)[truth]), io.BytesIO()
    drawn.save(file, "JPEG", quality=75, subsampling=0)
    for image in (drawn, Image.open(file)):
        labels, far = it.from_colours(np.asarray(image))
        assert (labels == truth)[~far].all()
        assert far.mean() < 0.05
    spot = np.array([[(128, 64, 128 + 30), (128, 64, 128 + 31), (255, 255, 255), VOID]], np.uint8)
    labels, far = it.from_colours(spot)  # 30 away is near, 31 is far
    assert labels.tolist() == [[0, 255, 255, 255]]
    assert far.tolist() == [[False, True, True, False]]


def test_photos_go_to_the_syntheses_size_then_to_the_label_maps(tmp_path):
    config = write_config(tmp_path / "c.json", synthesis_size=[16, 16], mean=[0.1, 0.2, 0.3], std=[1, 2, 4])
    photo = Image.fromarray(np.random.default_rng(0).integers(0, 256, (30, 40, 3), dtype=np.uint8))
    resized = photo.resize((16, 16), Image.Resampling.BILINEAR).resize((64, 32), Image.Resampling.BILINEAR)
    x = Protocol(config).prepare(photo, (64, 32))
    expected = (np.asarray(resized) / 255 - np.array([0.1, 0.2, 0.3])) / np.array([1, 2, 4])
    assert x.shape == (1, 3, 32, 64)
    assert np.allclose(x[0].permute(1, 2, 0).numpy(), expected, atol=1e-6)


def write_street(folder, city, n, seed):
    """Write a label map as Cityscapes' are named, ids and colours, of large areas; return the colours."""
    rng, ids = np.random.default_rng(seed), np.full((24, 48), 7)
    x, y = rng.integers(8, 36), rng.integers(6, 18)
    ids[:y, :x], ids[y:, :x], ids[:y, x:] = rng.permutation([11, 21, 23])
    colours = {it["ids"][0]: it["colour"] for it in Protocol(CITYSCAPES).classes}
    colours = np.array([[colours[i] for i in row] for row in ids], np.uint8)
    for kind, array in (("labelIds", ids), ("color", colours), ("instanceIds", ids + 100)):
        write(folder / city / f"{city}_000000_{n:06d}_gtFine_{kind}.png", array)
    return colours


def test_numbers_of_the_prepared_cityscapes_match_their_label_maps(tmp_path):
    gt, photos, out = tmp_path / "gtFine", tmp_path / "leftImg8bit", tmp_path / "prepared"
    for split, cities, count in (("train", ("aachen", "bremen"), 1), ("val", ("ulm", "bonn"), 12)):
        for seed, (city, n) in enumerate(itertools.product(cities, range(count)), start=100 * count):
            colours = write_street(gt / split, city, n, seed)
            write(photos / split / city / f"{city}_000000_{n:06d}_leftImg8bit.png", colours)
    options = "--gtFine_dir", gt, "--leftImg8bit_dir", photos, "--output_dir", out
    done = type_command("datasets/prepare_cityscapes_dataset.py", *options)
    assert done.returncode == 0, done.stderr
    places = {0: "bonn_000000_000000", 11: "bonn_000000_000011", 12: "ulm_000000_000000", 23: "ulm_000000_000011"}
    (tmp_path / "results").mkdir()
    for n, (label, side) in itertools.product(places, (("real_A", "B"), ("real_B", "A"), ("fake_B", "A"))):
        Image.open(out / f"test{side}/{n}_{side}.jpg").save(tmp_path / f"results/{n}_{label}.png")
    it, results = Protocol(CITYSCAPES), find_results(tmp_path / "results", "B")
    matched = match_label_maps(results, str(gt / "val"), it)
    assert {int(it.name): it.label_map.name for it in matched} == {
        n: f"{place}_gtFine_labelIds.png" for n, place in places.items()
    }
    for result in matched:
        fcn_score.read_labels(result, it)
    (shifted, *_) = match_label_maps(results[:1], str(gt), it)  # train comes first
    with pytest.raises(UserError, match=r"is not the label map of \d+: it agrees with .* in only"):
        fcn_score.read_labels(shifted, it)
    with pytest.raises(UserError, match=r"numbered up to 23, and .*train has 2 label maps: name the folder of one"):
        match_label_maps(results, str(gt / "train"), it)
    for label in ("fake_B", "real_B"):
        write(tmp_path / f"named/ulm_000000_000003_leftImg8bit_{label}.png", np.zeros((4, 4, 3)))
    (result,) = match_label_maps(find_results(tmp_path / "named", "B"), str(gt), it)
    assert (result.label_map.name, result.kind) == ("ulm_000000_000003_gtFine_labelIds.png", "ids")


# ---- networks ----


def test_a_network_with_another_output_is_an_error(tmp_path):
    for answer, expected in (
        ("lambda x: x[:, [0, 1, 2, 3, 3]]", r"gives \(1, 5, 8, 8\); needed are logits, \(1, 4, height, width\)"),
        ("lambda x: x.argmax(1)", r"gives \(1, 8, 8\); needed"),
        ("lambda x: {'logits': x}", "gives NoneType; needed"),
        ("lambda x: x / 0 * 0", "without nan"),
    ):
        net = load_segmenter(str(write_network(tmp_path / "net.py", answer)), None, 4, CPU)
        with pytest.raises(UserError, match=expected):
            net(torch.rand(1, 3, 8, 8), (8, 8))


def test_other_files_and_unknown_names_are_errors(tmp_path):
    torch.save({"weight": torch.ones(2)}, tmp_path / "other.pth")
    (tmp_path / "page.pth").write_text("<html>")
    (tmp_path / "none.py").write_text("")
    for name, expected in (
        ("other.pth", r"was not saved by --train_fcn. .*: --segmenter fcn_resnet50 --weights .*other.pth"),
        ("page.pth", "it is a web page"),
        ("none.py", r"has no function network\(classes\)"),
        ("none.pt", "none.pt does not exist. It takes a .pth that --train_fcn saved"),
    ):
        with pytest.raises(UserError, match=expected):
            load_segmenter(str(tmp_path / name), None, 4, CPU)
    with pytest.raises(UserError, match="Did you mean 'fcn_resnet50'"):
        load_segmenter("fcn_resnet5", tmp_path / "other.pth", 4, CPU)


def test_a_torchvision_name_with_weights_predicts_what_that_network_predicts(tmp_path):
    from torchvision.models import get_model

    net = get_model("lraspp_mobilenet_v3_large", weights=None, weights_backbone=None, num_classes=4).eval()
    torch.save(net.state_dict(), tmp_path / "w.pth")
    x = torch.rand(1, 3, 64, 96)
    found = load_segmenter("lraspp_mobilenet_v3_large", tmp_path / "w.pth", 4, CPU)
    with torch.no_grad():
        assert torch.equal(found(x, (96, 64)), net(x)["out"][0].argmax(0))
    with pytest.raises(UserError, match="they are not of lraspp_mobilenet_v3_large with 5 classes"):
        load_segmenter("lraspp_mobilenet_v3_large", tmp_path / "w.pth", 5, CPU)


# ---- the small network ----


def test_a_small_network_learns_the_training_split_and_scores_the_held_out_one(tmp_path, capsys):
    """The results are the real photos, then those of other scenes."""
    write_config(tmp_path / "config.json", mean=[0.5] * 3, std=[0.25] * 3)
    images = tmp_path / "results/images"
    for n in range(16):
        rng = np.random.default_rng(n)
        labels = np.kron(rng.integers(0, 4, (6, 6)), np.ones((8, 8), int))
        photo = np.clip(80 + PAINT[labels] / 4 + rng.normal(0, 10, (48, 48, 3)), 0, 255)
        drawn = np.array(COLOURS, np.uint8)[labels]
        if n < 10:
            write(tmp_path / f"data/train/{n}.png", np.concatenate([photo, drawn], axis=1))
        else:
            for label, image in (("real_A", drawn), ("real_B", photo), ("fake_B", photo)):
                write(images / f"{n}_{label}.png", image)
    words = ("--train_fcn", tmp_path / "data", "--train_steps", 40, "--direction")
    scores = run_here(tmp_path, *words, "BtoA", segmenter=None)["scores"]
    assert "trained on 10 pairs in 40 steps, loss" in capsys.readouterr().out
    assert scores["real"]["per_pixel_accuracy"]["value"] > 0.9
    assert scores["real"]["class_iou"]["value"] > 0.8
    assert scores["results"] == scores["real"]
    assert sorted(path.name for path in images.parent.iterdir()) == ["fcn.pth", "fcn_score.json", "images"]
    assert run_here(tmp_path, *words, "BtoA", segmenter=None)["scores"] == scores  # the seed decides
    for n in range(10, 16):
        shutil.copy(images / f"{n}_real_B.png", images / f"{25 - n}_fake_B.png")
    again = run_here(tmp_path, segmenter="results/fcn.pth")["scores"]
    assert again["real"] == scores["real"]
    assert all(again["results"][name]["high"] < again["real"][name]["low"] for name in SCORES)
    with pytest.raises(UserError, match=r"is not a label map of .*further than 30 .* Check --direction"):
        run_here(tmp_path, *words, "AtoB", segmenter=None)
