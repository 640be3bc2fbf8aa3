"""Lines that pages read while they are written, work in a thread, and what a run tells of itself."""

from __future__ import annotations

import argparse
import sys
import threading
import time

import pytest
import torch
from conftest import type_command

from util.loggers.run_summary import run_header
from util.pages.data_file import PageData, as_line
from util.runtime.background import Background
from util.runtime.run_facts import set_facts


def filled(folder, count, room=10**6):
    data = PageData(folder, room)
    data.begin("run")
    for k in range(count):
        data.append("point", {"k": k})
    return data


def points(data):
    return [values[0]["k"] for call, values in data.read() if call == "point"]


# ---- lines ----


def test_lines_are_read_as_they_were_written(tmp_path):
    data = filled(tmp_path, 3)
    data.append("odd", "</script>\n//", [1, None], float("nan"))
    text = (tmp_path / "data.js").read_text()
    assert text.startswith('//\nbegin("run");\n//\npoint({"k": 0});\n//\npoint({"k": 1});\n//\n')
    assert "<" not in text
    call, (name, numbers, nan) = data.read()[-1]
    assert (call, name, numbers) == ("odd", "</script>\n//", [1, None])
    assert nan != nan


def test_files_are_numbered_as_they_fill_and_only_the_newest_is_written_to(tmp_path):
    data = filled(tmp_path, 40, room=200)
    files = sorted(path.name for path in tmp_path.iterdir())
    assert files == sorted(["data.js", *(f"data-{k:03d}.js" for k in range(1, len(files)))])
    assert len(files) > 3
    texts = [data.path(k).read_text() for k in range(len(files))]
    assert [text.endswith("//\nnext();\n//") for text in texts] == [True] * (len(files) - 1) + [False]
    assert all(text.startswith('//\nbegin("run");\n') and len(text) < 300 for text in texts)
    assert points(data) == list(range(40))
    data.append("point", {"k": 40})
    assert [data.path(k).read_text() for k in range(len(files) - 1)] == texts[:-1]
    assert points(PageData(tmp_path, 200)) == list(range(41))  # another program goes on with them


@pytest.mark.parametrize("last", [0, 3, 17, 39])
def test_lines_are_dropped_and_what_stands_before_them_is_left_alone(tmp_path, last):
    data = filled(tmp_path, 40, room=200)
    before = data.path(0).read_bytes()
    data = PageData(tmp_path, 200)
    data.keep(lambda line: line[1][0]["k"] <= last)
    data.append("point", {"k": "new"})
    assert points(data) == [*range(last + 1), "new"]
    assert (data.path(0).read_bytes() == before) == (last > 4)
    assert len(list(tmp_path.iterdir())) == len(data._files())  # nothing is left over


def test_a_write_that_is_cut_off_anywhere_leaves_a_comment(tmp_path):
    data = filled(tmp_path, 2)
    whole, line = (tmp_path / "data.js").read_bytes(), as_line("point", {"k": 2}).rstrip().encode()
    assert whole.endswith(b"\n//")
    for cut in range(len(line) + 5):
        for state in (b" %b //" % line)[:cut], b" %b\n//" % line:
            (tmp_path / "data.js").write_bytes(whole + state)
            assert points(data) == [0, 1]
            data = PageData(tmp_path)
            data.keep(lambda line: True)
            assert (tmp_path / "data.js").read_bytes() == whole


def test_half_a_line_of_another_s_making_is_dropped_too(tmp_path):
    filled(tmp_path, 2)
    with (tmp_path / "data.js").open("a") as file:
        file.write('point({"k": 2')
    data = PageData(tmp_path)
    data.keep(lambda line: True)
    data.append("point", {"k": 3})
    assert points(data) == [0, 1, 3]


def test_a_full_disk_leaves_the_file_as_it_was(tmp_path, monkeypatch):
    data = filled(tmp_path, 2)
    whole = (tmp_path / "data.js").read_bytes()
    opened = type(tmp_path).open

    class Full:
        def __init__(self, file):
            self.file = file

        def __getattr__(self, name):
            return getattr(self.file, name)

        def __enter__(self):
            return self

        def __exit__(self, *_):
            self.file.close()

        def write(self, line):
            return self.file.write(line[:9])

    with monkeypatch.context() as patch:
        patch.setattr(type(tmp_path), "open", lambda *a, **k: Full(opened(*a, **k)))
        with pytest.raises(OSError, match="No space left"):
            data.append("point", {"k": 2})
    assert (tmp_path / "data.js").read_bytes() == whole
    data.append("point", {"k": 3})
    assert points(data) == [0, 1, 3]


# ---- work in a thread ----


def test_jobs_are_done_in_order_and_all_of_them():
    done, soon = [], Background("test")
    for k in range(100):
        soon(1, done.append, k)
    soon.finish()
    assert done == list(range(100))


def test_who_brings_more_than_there_is_room_for_waits_and_loses_nothing():
    done, go, soon = [], threading.Event(), Background("test", room=10)
    soon(9, go.wait)
    soon(9, done.append, 1)  # 18 bytes wait
    begin = time.perf_counter()
    threading.Timer(0.2, go.set).start()
    soon(9, done.append, 2)
    assert time.perf_counter() - begin > 0.15
    soon.finish()
    assert done == [1, 2]


def test_an_error_is_raised_by_the_next_call_which_does_its_own_work():
    done, soon = [], Background("test")
    soon(0, [].pop)
    while not soon.jobs[0][1].done():
        time.sleep(0.01)
    with pytest.raises(IndexError):
        soon(0, done.append, 1)
    soon(0, done.append, 2)
    soon.finish()
    assert done == [1, 2]


def test_what_waits_at_the_end_of_a_program_is_done():
    code = "import time; from util.runtime.background import Background; soon = Background('x'); "
    code += "soon(0, time.sleep, 0.3); soon(0, [].pop); soon(0, print, 'done')"
    done = type_command("-c", code)
    assert (done.returncode, done.stdout.split(), done.stderr) == (0, ["done"], "")


# ---- what a run tells of itself ----


def test_a_header_has_the_command_as_typed_what_was_given_and_versions(monkeypatch):
    typed = ["--dataroot", "my photos", "--lr", "0.1", "--name", "x"]
    monkeypatch.setattr(sys, "argv", ["/somewhere/train.py", *typed])
    opt = argparse.Namespace(name="x", model="pix2pix", lr=0.1, dataroot="my photos", crop_size=256, isTrain=True)
    opt.device = torch.device("cpu")
    set_facts(opt, words=tuple(typed), typed=frozenset({"lr", "dataroot", "name"}))
    header = run_header(opt)
    assert header["command"] == "python train.py --dataroot 'my photos' --lr 0.1 --name x"
    assert header["options"] == {"dataroot": "my photos", "lr": 0.1}
    assert header["versions"]["PyTorch"] == torch.__version__
    assert header["device"].startswith("CPU, ")
    assert abs(header["time"] - time.time()) < 5
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert run_header(opt)["command"].startswith("torchrun --nproc_per_node 2 train.py --dataroot")


def test_a_loop_of_one_s_own_has_a_header_too():
    assert run_header(argparse.Namespace(name="x"))["command"] == "python train.py"
