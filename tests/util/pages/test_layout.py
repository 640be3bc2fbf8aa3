"""The geometry of the results page: at no size of window, zoom or image does a row reach into the next one."""

from __future__ import annotations

import itertools

import pytest
from browser import Visitor
from page_geometry import FAULTS, faults_at, make_page

SIZES = [(1280, 900), (960, 1040), (1100, 900), (1280, 1024), (360, 740), (1920, 1080), (2560, 1440)]
SIZES += [(740, 360), (820, 1180), (500, 500)]
# Images in a row, rows, width and height of the images.
PAGES = [(1, 1, 256, 256), (2, 3, 512, 256), (3, 40, 256, 256), (6, 40, 64, 64), (3, 3, 64, 512)]


@pytest.mark.parametrize("page", PAGES, ids=str)
def test_no_row_reaches_into_the_next_at_any_size(tmp_path, page):
    make_page(tmp_path, *page)
    for size in SIZES[:4]:  # as opened, with a scrollbar that comes with the rows
        visitor = Visitor(*size).open(tmp_path, "", "seen.size > 0")
        assert visitor.js(FAULTS, [], []) == [], size
    for size, factor in [*zip(SIZES, itertools.repeat(1)), ((1280, 900), 1.25), ((360, 740), 3)]:
        assert faults_at(visitor, size, factor, [1] if factor == 1 else [0.8, 1.5]) == [], (size, factor)
