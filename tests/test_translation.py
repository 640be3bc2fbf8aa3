"""Translating a test set in batches and threads gives the same images as translating them one by one."""

from __future__ import annotations

import errno
import os
import re
import signal
import threading
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import make_image, names, pixels, program
from html_page import Page, image
from PIL import Image
from terminal import shown_rows

from data import create_dataset
from models import create_model, networks
from models.colorization_model import ColorizationModel
from options.test_options import TestOptions as TestingOptions
from options.test_options import loading_processes
from util.errors import explained_errors
from util.loggers.visuals import three_channels, to_pictures
from util.pages import results_writer
from util.pages.document import HTML
from util.pages.results_writer import Results
from util.runtime import seeds
from util.speed.batching import batch_size
from util.util import tensor2im

SIZES = [(32, 32)] * 3 + [(40, 32)] * 2 + [(32, 32), (40, 32)] + [(48, 36)] * 4  # with --preprocess none: 5 batches


@pytest.fixture
def away(away):
    """A folder to stand in, with a folder of images of several sizes."""
    for i, (width, height) in enumerate(SIZES):
        make_image(away / f"photos/{i:02d}.png", width, height, seed=i)
    return away


def put(away, name, norm="instance", dropout=False):
    """Make an experiment of a generator whose weights are large enough to show what goes into it."""
    torch.manual_seed(1)
    net = networks.define_G(3, 3, 4, "resnet_6blocks", norm, dropout, "normal", 0.5)
    (away / "checkpoints" / name).mkdir(parents=True)
    torch.save(net.state_dict(), away / f"checkpoints/{name}/latest_net_G.pth")


def options(line):
    return TestingOptions(f"--dataroot photos --gpu_ids -1 --num_test inf --crop_size 32 {line}").parse()


def translate(line, monkeypatch, folder="results"):
    """Run test.py within this process; return its result, and the number of images in each pass of the generator."""
    script, passes = program("test"), []

    def create(opt):
        model = create_model(opt)
        model.netG.register_forward_pre_hook(lambda _, inputs: passes.append(len(inputs[0])))
        return model

    monkeypatch.setattr(script, "create_model", create)
    return script.translate(options(f"{line} --results_dir {folder}")), passes


def written(name, folder="results"):
    """Return the pixels of a run's pictures by their names, and the heads of its rows."""
    web = Path(folder) / name / "test_latest"
    pictures = {path.name: pixels(path).astype(int) for path in (web / "images").iterdir()}
    return pictures, [Path(shown).stem for shown, _ in shown_rows(web)]


def one_by_one(line):
    """Translate with the plainest of loops; return the pixels by the files' names."""
    opt = options(line)
    dataset, model = create_dataset(opt), create_model(opt)
    model.setup(opt)
    pictures = {}
    for i, batch in enumerate(dataset):
        seeds.seed_all(opt.seed, "test", i)
        model.set_input(batch)
        model.test()
        for label, visual in model.get_current_visuals().items():
            pictures[f"{Path(model.get_image_paths()[0]).stem}_{label}.png"] = tensor2im(visual).astype(int)
    return pictures


def differ(pictures, expected):
    """Return by how many levels, of 255, two sets of pictures differ at most."""
    assert pictures.keys() == expected.keys()
    return max(np.abs(pictures[name] - expected[name]).max() for name in expected)


# ---- batches ----


def test_batches_give_what_one_by_one_gives_whatever_the_sizes(away, monkeypatch):
    put(away, "x")
    for preprocess, passes_of_4 in (("none", [3, 2, 1, 1, 4]), ("resize_and_crop", [4, 4, 3])):
        expected = one_by_one(f"--name x --preprocess {preprocess}")
        for size, threads in ((1, 0), (4, 2), (100, 1)):
            words = f"--name x --preprocess {preprocess} --batch_size {size} --num_threads {threads}"
            done, passes = translate(words, monkeypatch)
            pictures, rows = written("x")
            assert differ(pictures, expected) <= (1 if size > 1 else 0)
            assert rows == [f"{i:02d}" for i in range(len(SIZES))]
            assert passes == {1: [1] * 11, 4: passes_of_4, 100: [3, 2, 1, 1, 4] if preprocess == "none" else [11]}[size]
            assert done.images == 11
            assert 0 < done.busy <= 1


@pytest.mark.parametrize(
    ("norm", "dropout", "reason"),
    [
        ("batch", False, "batch norm takes its statistics over the batch (--eval uses training's)"),
        ("instance", True, "dropout, drawn for each image by its number, would be drawn for the batch"),
    ],
)
def test_where_a_batch_would_change_the_result_it_is_said_and_not_done(
    away, monkeypatch, capsys, norm, dropout, reason
):
    put(away, "x", norm, dropout)
    expected = one_by_one("--name x")
    _, passes = translate("--name x --batch_size 4", monkeypatch)
    assert passes == [1] * 11
    assert differ(written("x")[0], expected) == 0
    assert f"--batch_size 4: images are translated one by one, because {reason}" in capsys.readouterr().out
    _, passes = translate("--name x --eval --batch_size 4", monkeypatch, "batches")
    assert passes == [4, 4, 3]
    translate("--name x --eval", monkeypatch, "single")
    assert differ(written("x", "batches")[0], written("x", "single")[0]) <= 1
    assert "one by one" not in capsys.readouterr().out


def test_a_model_that_shows_one_image_of_a_batch_gets_them_one_by_one(capsys):
    model = object.__new__(ColorizationModel)
    model.model_names = []
    assert batch_size(model, 3) == 1
    said = "--batch_size 3: images are translated one by one, because ColorizationModel computes"
    assert said in capsys.readouterr().out
    assert batch_size(model, 1) == 1
    assert capsys.readouterr().out == ""


# ---- loading ----


def test_images_are_loaded_ahead_where_that_pays_and_by_as_many_processes_as_typed(away, monkeypatch):
    monkeypatch.setattr("options.test_options.core_count", lambda: 16)
    put(away, "x")
    for method, words, expected in (
        ("fork", "", 8),
        ("fork", "--num_test 3", 0),
        ("fork", "--num_threads 0", 0),
        ("spawn", "--num_threads 3", 3),
        ("spawn", "--num_test 1000", 4),
    ):
        monkeypatch.setattr("multiprocessing.get_start_method", lambda allow_none, method=method: method)
        opt = options(f"--name x {words}")
        assert loading_processes(opt) == (expected if "num_threads" in words else 0)  # on a CPU
        opt.device = torch.device("cuda")
        assert loading_processes(opt) == expected
        assert opt.num_threads == (expected if "num_threads" in words else 0)
    assert (options("--name x --batch_size 7").batch_size, options("--name x").batch_size) == (7, 1)


# ---- pictures ----


@pytest.mark.parametrize("channels", [1, 3])
def test_a_batch_becomes_pictures_as_each_image_does(channels):
    tensor = torch.randn(5, channels, 7, 9, generator=torch.Generator().manual_seed(1)) * 1.2
    levels = torch.arange(-1, 257).float().repeat(2)[: 7 * 9 * 8].reshape(-1)  # what rounding could move
    tensor.view(-1)[: len(levels)] = (levels / 255 * 2 - 1)[: tensor.numel()]
    for kind in (torch.float32, torch.bfloat16):
        expected = [three_channels(tensor2im(tensor.to(kind)[i : i + 1])) for i in range(5)]
        for found, one in zip(to_pictures(tensor.to(kind)), expected, strict=True):
            assert np.array_equal(found, one)
    assert np.array_equal(to_pictures(tensor[0])[0], three_channels(tensor2im(tensor[:1])))


def test_a_picture_appears_whole_or_not_at_all(tmp_path, monkeypatch):
    old, new = (Image.fromarray(np.full((90, 90, 3), value, np.uint8)) for value in (1, 2))
    results_writer.write_png(old, tmp_path / "a.png")

    def full(self, path, *_, **__):
        path.write_bytes(b"half")
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(Image.Image, "save", full)
        with pytest.raises(OSError, match="No space left"):
            results_writer.write_png(new, tmp_path / "a.png")
    assert [path.name for path in tmp_path.iterdir()] == ["a.png"]
    assert pixels(tmp_path / "a.png").max() == 1


# ---- rows ----


def test_rows_follow_the_images_whichever_is_written_first(tmp_path, monkeypatch):
    write = results_writer.write_picture

    def slow(folder, row, *rest):
        time.sleep(0.1 if int(row.name) % 4 == 0 else 0)
        write(folder, row, *rest)

    monkeypatch.setattr(results_writer, "write_picture", slow)
    with Results(HTML(tmp_path, "t")) as page:
        for i in range(0, 12, 2):
            page.add({"real": image(i, count=2), "fake": image(i, count=2)}, [f"/d/{i}.png", f"/d/{i + 1}.png"])
    seen = Page(tmp_path)
    assert seen.texts["h3"] == [str(i) for i in range(12)]
    assert seen.texts["p"] == ["real", "fake"] * 12
    for i in range(12):
        found = pixels(tmp_path / f"images/{i}_fake.png")
        assert np.array_equal(found, to_pictures(image(i // 2 * 2, count=2))[i % 2])


def rows_and_files(web):
    """Check that a page is whole and shows rows of pictures that are whole; return the rows and the pictures left."""
    files = names(web / "images")
    shown = [attributes["src"].removeprefix("images/") for attributes in Page(web).all("img")]
    for name in files:
        assert pixels(web / "images" / name).size
    assert files >= set(shown)
    return Page(web).texts["h3"], files - set(shown)


def add_rows(web, count, pause=0.0, end=None):
    """Write a page of `count` rows, and call `end` before the writing ends."""
    with Results(HTML(web, "t")) as page:
        for i in range(count):
            page.add({"fake": image(i)}, f"{i}.png")
            time.sleep(pause)
        if end:
            end()


def test_a_full_disk_stops_the_run_with_a_whole_page_and_the_usual_words(tmp_path, monkeypatch):
    write = results_writer.write_png

    def full(picture, path):
        if path.name.startswith("5_"):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        write(picture, path)

    monkeypatch.setattr(results_writer, "write_png", full)
    began = time.monotonic()
    with pytest.raises(SystemExit) as stop, explained_errors():
        add_rows(tmp_path, 1000, 0.01)
    assert str(stop.value) == "error: No space left on device: the files written before are intact"
    assert time.monotonic() - began < 5
    rows, left = rows_and_files(tmp_path)
    assert rows[:5] == ["0", "1", "2", "3", "4"]
    assert "5" not in rows
    assert not left


def test_ctrl_c_gives_up_what_no_thread_has_begun(tmp_path, monkeypatch):
    write = results_writer.write_picture
    monkeypatch.setattr(results_writer, "write_picture", lambda *row: (time.sleep(0.1), write(*row)))
    began = time.monotonic()
    threading.Timer(0.5, lambda: os.kill(os.getpid(), signal.SIGINT)).start()
    with pytest.raises(KeyboardInterrupt):
        add_rows(tmp_path, 300, 0.001, end=lambda: time.sleep(10))
    assert time.monotonic() - began < 3
    rows, left = rows_and_files(tmp_path)
    assert 2 < len(rows) < 200
    assert not left
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("pictures")]


# ---- memory ----


def test_what_waits_to_be_written_is_bounded(tmp_path, monkeypatch):
    monkeypatch.setattr(results_writer, "MAX_WAITING", 10 * 6 * 8 * 3)
    write, most = results_writer.write_picture, 0
    monkeypatch.setattr(results_writer, "write_picture", lambda *row: (time.sleep(0.005), write(*row)))
    with Results(HTML(tmp_path, "t")) as page:
        for i in range(100):
            page.add({"fake": image(i, count=2)}, [f"{i}a.png", f"{i}b.png"])
            most = max(most, len(page.rows))
    assert most <= 10
    assert len(Page(tmp_path).texts["h3"]) == 200


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
def test_a_gpu_gives_the_same_pictures_and_tells_how_long_it_worked(tmp_path):
    tensor = image(0, count=4, height=64, width=64) * 1.2
    assert all(map(np.array_equal, to_pictures(tensor.cuda()), to_pictures(tensor)))
    began = time.monotonic()
    with Results(HTML(tmp_path, "t"), "cuda") as page:
        for i in range(20):
            with page.running():
                torch.cuda._sleep(10**7)  # ticks
            page.add({"fake": tensor.cuda() * (i / 20)}, [f"{i}_{k}.png" for k in range(4)])
        launched = time.monotonic() - began
    assert launched < page.busy < time.monotonic() - began
    assert len(Page(tmp_path).texts["h3"]) == 80
    for i in range(20):
        found = pixels(tmp_path / f"images/{i}_3_fake.png")
        assert np.array_equal(found, to_pictures(tensor * (i / 20))[3])


# ---- what is said ----


def test_the_last_line_says_how_fast_it_was_and_how_busy_the_network(away, monkeypatch, capsys):
    put(away, "x")
    translate("--name x --batch_size 3 --num_test 8", monkeypatch)
    said = capsys.readouterr().out.splitlines()
    assert [line for line in said if line.startswith("processing")] == [
        "processing (0000)-th image... ['photos/00.png']",
        "processing (0005)-th image... ['photos/05.png']",
    ]
    pattern = r"8 of 11 images in \d+\.\d s \(\d+\.\d images/s; the network ran \d+% of the time\): .*index\.html"
    assert re.fullmatch(pattern, said[-1])
