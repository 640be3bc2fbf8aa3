"""data.js: lines that open pages load while a run writes them."""

from __future__ import annotations

import pytest

from util.pages import data_file
from util.pages.data_file import PageData, as_line


def filled(folder, count, room=10**6):
    data = PageData(folder, room)
    data.begin("run")
    for k in range(count):
        data.append(as_line("point", {"k": k}))
    return data


def points(data):
    return [values[0]["k"] for call, values in data.read() if call == "point"]


def test_lines_are_read_as_they_were_written(tmp_path):
    data = filled(tmp_path, 2)
    data.append(as_line("odd", "</script>\n//", [1, None], float("nan")))
    text = (tmp_path / "data.js").read_text()
    assert text.startswith('begin("run");\npoint({"k": 0});\npoint({"k": 1});\n')
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
    assert [text.endswith("\nnext();\n") for text in texts] == [True] * (len(files) - 1) + [False]
    assert all(text.startswith('begin("run");\n') and len(text) < 300 for text in texts)
    data.append(as_line("point", {"k": 40}))
    assert [data.path(k).read_text() for k in range(len(files) - 1)] == texts[:-1]
    assert points(PageData(tmp_path, 200)) == list(range(41))  # another program continues them


@pytest.mark.parametrize("last", [0, 17])
def test_lines_are_dropped_and_files_before_them_are_left_alone(tmp_path, last):
    before = filled(tmp_path, 40, room=200).path(0).read_bytes()
    data = PageData(tmp_path, 200)
    data.keep(lambda line: line[1][0]["k"] <= last)
    data.append(as_line("point", {"k": "new"}))
    assert points(data) == [*range(last + 1), "new"]
    assert (data.path(0).read_bytes() == before) == (last > 4)
    assert len(list(tmp_path.iterdir())) == len(data._files())  # nothing is left over


@pytest.mark.parametrize("end", ["//", ' point({"k": 2'])
def test_a_file_of_an_older_version_is_continued_wherever_it_was_cut_off(tmp_path, end):
    """Those ended with a comment, in which the next line was written."""
    (tmp_path / "data.js").write_text('//\nbegin("run");\n//\npoint({"k": 0});\n//\npoint({"k": 1});\n' + end)
    data = PageData(tmp_path)
    data.keep(lambda line: True)
    data.append(as_line("point", {"k": 3}))
    assert points(data) == [0, 1, 3]
    assert (tmp_path / "data.js").read_text().count("\n") == 4


def test_a_failed_write_leaves_the_file_as_it_was(tmp_path, monkeypatch):
    data = filled(tmp_path, 2)
    whole = (tmp_path / "data.js").read_bytes()

    def full(path, text):
        raise OSError(28, "No space left on device", str(path))

    with monkeypatch.context() as patch:
        patch.setattr(data_file, "write_whole", full)
        with pytest.raises(OSError, match="No space left"):
            data.append(as_line("point", {"k": 2}))
    assert (tmp_path / "data.js").read_bytes() == whole
    data.append(as_line("point", {"k": 3}))
    assert points(data) == [0, 1, 3]
