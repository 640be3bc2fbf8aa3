"""argparse as the options use it, and how they read and leave out words."""

from __future__ import annotations

import argparse
import contextlib
import math


class Formatter(argparse.ArgumentDefaultsHelpFormatter):
    """Add defaults to the help, but those that say nothing."""

    def _get_help_string(self, action):
        return action.help if action.default in (None, False, True, "") else super()._get_help_string(action)


class Parser(argparse.ArgumentParser):
    """A parser that lists what a plug-in adds under a title of its own (`section`)."""

    section: str | None = None

    def __init__(self):
        super().__init__(
            usage="%(prog)s --dataroot FOLDER --name NAME --model MODEL [options]",
            formatter_class=Formatter,
            add_help=False,
            allow_abbrev=False,  # options.legacy completes prefixes
            conflict_handler="resolve",  # a plug-in that defines one of our options means its own
        )

    def add_argument(self, *args, **kwargs):
        if self.section is None:
            return super().add_argument(*args, **kwargs)
        titled = [group for group in self._action_groups if group.title == self.section]
        group = titled[0] if titled else self.add_argument_group(self.section)
        return group.add_argument(*args, **kwargs)


def size_or_inf(text: str) -> float:
    """Read a number of images: a whole number from 1, or `inf`."""
    with contextlib.suppress(ValueError):
        size = math.inf if text.lower() == "inf" else int(text)
        if size >= 1:
            return size
    raise argparse.ArgumentTypeError(f"{text!r} is neither a whole number from 1 nor inf")


def without(words: list[str], *flags: str) -> list[str]:
    """Return what was typed, without some flags and their values."""
    kept, skip = [], False
    for word in words:
        if word.startswith("--"):
            skip = word.split("=")[0] in flags
        if not skip:
            kept.append(word)
    return kept
