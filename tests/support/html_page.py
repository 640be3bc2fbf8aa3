"""A page as its tags, and small images to show on it."""

from __future__ import annotations

from html.parser import HTMLParser
from pathlib import Path

import torch


class Page(HTMLParser):
    """Collect the tags, attributes and texts of `web_dir`/index.html."""

    VOID = {"meta", "img", "br", "link", "input"}

    def __init__(self, web_dir):
        super().__init__()
        self.tags, self.open, self.texts = [], [], {}
        self.feed((Path(web_dir) / "index.html").read_text(encoding="utf-8"))
        assert self.open == []  # every tag is closed

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and data.strip():
            self.texts.setdefault(self.open[-1], []).append(data)

    def all(self, tag):
        return [attributes for name, attributes in self.tags if name == tag]


def image(seed=0, channels=3, count=1, height=6, width=8):
    """Return random images (count, channels, height, width) in [-1, 1]."""
    return torch.rand(count, channels, height, width, generator=torch.Generator().manual_seed(seed)) * 2 - 1
