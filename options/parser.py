"""From rows of options to argparse: a row holds an option's default, type, allowed values, help and reach."""

from __future__ import annotations

import argparse
import ast
import contextlib
import math
import os
import shlex
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import NoReturn

from options.legacy import modernise
from options.typos import explain_typos
from util.errors import did_you_mean

ROOT = Path(__file__).resolve().parents[1]


class Table:
    """The names in a table or a tuple of another module, such as `models.networks.GENERATORS`.

    Plug-ins may add to the table. Until its module is imported, which would import PyTorch, the source is read.
    """

    def __init__(self, path: str):
        self.module, _, self.name = path.rpartition(".")

    def __iter__(self) -> Iterator[str]:
        return iter(self.read())

    def read(self) -> Mapping[str, object]:
        """Return the table; values that are not literals are None if it is read from the source."""
        if self.module in sys.modules:
            table = getattr(sys.modules[self.module], self.name)
            return table if isinstance(table, Mapping) else dict.fromkeys(table)
        file = ROOT / self.module.replace(".", "/")
        source = (file / "__init__.py" if file.is_dir() else file.with_suffix(".py")).read_text(encoding="utf-8")
        assigned = (node for node in ast.parse(source).body if isinstance(node, ast.Assign))
        value = next(node.value for node in assigned if ast.unparse(node.targets[0]) == self.name)
        if isinstance(value, ast.Tuple):
            return dict.fromkeys(ast.literal_eval(value))
        return {key.value: getattr(item, "value", None) for key, item in zip(value.keys, value.values, strict=True)}


@dataclass(frozen=True)
class Row:
    """The facts about an option of this project that argparse does not store. `free_for`: "model" or "dataset"."""

    action: argparse.Action
    values: Iterable[str] | None = None  # a closed list
    at_least: float = -math.inf
    at_most: float = math.inf
    below: float = math.nan
    free_for: str = ""  # `values` and `at_most` do not bind plug-ins of this kind
    network: str = ""  # G or D: its architecture depends on the option, so its file may show the value
    test: bool = False  # test.py takes the value from the training run, as it does for `network`
    resume: bool = True  # a resumed run keeps the value
    new: bool = False  # the reference lacks the option; abbreviations mean its options first

    def obstacle(self, value, is_free: bool) -> str:
        """Return why a value is not allowed, empty if it is; `is_free`: for a plug-in that `free_for` names."""
        if self.values is not None and not is_free and value is not None and value not in self.values:
            return f"allowed: {', '.join(self.values)}.{did_you_mean(value, self.values)}"
        at_most = math.inf if is_free else self.at_most
        if not isinstance(value, (int, float)) or not (value < self.at_least or value > at_most or value >= self.below):
            return ""
        limits = (("at least", self.at_least), ("at most", at_most), ("below", self.below))
        return "must be " + " and ".join(f"{word} {limit}" for word, limit in limits if math.isfinite(limit))


ROW = {field.name for field in fields(Row)} - {"action"}


def shown(default: object) -> str:
    """Write a default as the help and docs/options.md do."""
    if isinstance(default, bool):
        return "on" if default else "off"
    return "none" if default is None else str(default) or "empty"


class Formatter(argparse.HelpFormatter):
    """Add the default to each option's help, unless the help names it."""

    def _get_help_string(self, action):
        if action.default == argparse.SUPPRESS or "default" in action.help:
            return action.help
        usual = "required" if action.required else f"default: {shown(action.default)}".replace("%", "%%")
        return f"{action.help} ({usual})"


class OneLine(argparse.ArgumentParser):
    """argparse with messages of one line."""

    def error(self, message: str) -> NoReturn:
        """End with a message and status 2; of torchrun's processes only the main one prints."""
        self.exit(2, f"{self.prog}: error: {message}\n" if os.environ.get("RANK", "0") == "0" else None)


class Parser(OneLine):
    """argparse with rows. Plug-ins add options by argparse's own methods; those have no row."""

    def __init__(self):
        super().__init__(
            usage="%(prog)s --dataroot FOLDER --name NAME --model MODEL [options]",
            formatter_class=Formatter,
            add_help=False,
            allow_abbrev=False,  # options.legacy completes prefixes
            conflict_handler="resolve",  # a plug-in that defines an existing option means its own
        )
        self.rows: dict[str, Row] = {}
        self.group = None

    # ---- adding ----

    def section(self, title: str, description: str | None = None):
        """List the options that follow under a title; return `option`, which adds them."""
        self.group = self.add_argument_group(title, description)
        return self.option

    def option(self, flag: str, default, help: str, **keywords) -> None:
        """Add a row, with keywords of argparse and of Row. The default gives the type; a bool is a switch."""
        row = {key: keywords.pop(key) for key in ROW & keywords.keys()}
        if isinstance(default, bool) and "nargs" not in keywords:
            keywords["action"] = "store_true"
        else:
            keywords.setdefault("type", str if default is None else type(default))
        if row.get("values"):
            help = f"{help}: {' | '.join(row['values'])}".removeprefix(": ")
        action = self.add_argument(flag, default=default, help=help, **keywords)
        self.rows[action.dest] = Row(action, **row)

    def add_argument(self, *args, **kwargs):
        """Add an option, under the title of the section."""
        return super().add_argument(*args, **kwargs) if self.group is None else self.group.add_argument(*args, **kwargs)

    def row(self, action: argparse.Action) -> Row | None:
        """Return an option's row; None for an option of a plug-in, which may have replaced one of the project."""
        row = self.rows.get(action.dest)
        return row if row and row.action is action else None

    def add_chosen(self, option: str, words: list[str], is_train: bool, setter_of: Callable) -> Parser:
        """Add the options of the model or dataset that the words name by `--model` or `--dataset_mode`.

        `setter_of` maps that name to its `modify_commandline_options`.
        """
        name = self.peek(option, words)
        self.section(f"{option} {name}")
        parser = setter_of(name, is_train)(self, is_train) or self
        parser.group = None
        return parser

    # ---- reading ----

    def defaults(self) -> dict[str, object]:
        """Return the defaults by name."""
        return {action.dest: self.get_default(action.dest) for action in self._actions}

    def todays_words(self, words: list[str]) -> list[str]:
        """Return a command line in today's names, without abbreviations."""
        known = {option[2:] for option in self._option_string_actions}
        words = modernise(words, known, {name for name, row in self.rows.items() if not row.new})
        for word in words:
            if word.startswith("--") and word.endswith("=--"):  # argparse makes an empty list of it
                self.error(f"{word}: a value is needed")
        return words

    def peek(self, name: str, words: list[str]):
        """Return the value of one option while others are not yet known, nor required."""
        parser = OneLine(add_help=False, allow_abbrev=False)
        parser.add_argument(f"--{name}", default=self.get_default(name))
        return getattr(parser.parse_known_args(self.todays_words(words))[0], name)

    def parse_leniently(self, words: list[str]) -> argparse.Namespace:
        """Parse while options may be unknown or missing."""
        return self._parse_leniently(self.todays_words(words))[0]

    def _parse_leniently(self, words: list[str], opt=None) -> tuple[argparse.Namespace, list[str]]:
        required = [action for action in self._actions if action.required]
        for action in required:
            action.required = False
        try:
            return self.parse_known_args(words, opt)
        finally:
            for action in required:
                action.required = True

    def parse_args(self, words: list[str], opt=None) -> argparse.Namespace:
        """Parse today's words; words that no option takes are an error, which names the options that may be meant."""
        asks_for_help = {"-h", "-help", "--help", "--help_all"} & {*words}
        if not asks_for_help and self._parse_leniently(words)[1]:
            self.error(explain_typos(words, self._option_string_actions))
        return super().parse_args(words, opt)

    def typed(self, words: list[str]) -> frozenset[str]:
        """Return the names of the options in a command line that parses."""
        missing = object()
        unset = argparse.Namespace(**dict.fromkeys(self.defaults(), missing))
        opt = self.parse_args(self.todays_words(words), unset)
        return frozenset(name for name, value in vars(opt).items() if value is not missing)

    def check(self, opt, typed: frozenset[str], plugins: set[str]) -> None:
        """End with a message if a row does not allow its value; `plugins`: "model", "dataset", both or none."""
        for action in sorted(self._actions, key=lambda action: action.dest not in typed):  # name the typed one first
            name, value, row = action.dest, getattr(opt, action.dest, None), self.row(action)
            if name in typed and (name in self.rows or not plugins):
                if action.type is float and isinstance(value, float) and not math.isfinite(value):
                    self.error(f"--{name} {value}: a finite number is needed")
                if action.type is int and isinstance(value, int) and abs(value) >= 2**63:
                    self.error(f"--{name} {value}: too large a number")
            if row and (obstacle := row.obstacle(value, row.free_for in plugins)):
                self.error(f"--{name} {value}: {obstacle}")


def size_or_inf(text: str) -> float:
    """Read a number of images: a whole number from 1, or `inf`."""
    with contextlib.suppress(ValueError):
        size = math.inf if text.lower() == "inf" else int(text)
        if size >= 1:
            return size
    raise argparse.ArgumentTypeError(f"{text!r} is neither a whole number from 1 nor inf")


def split_words(line: str, windows: bool = os.name == "nt") -> list[str]:
    """Split a command line as a shell does, with quotes; on Windows a backslash is part of a path."""
    lexer = shlex.shlex(line, posix=True, punctuation_chars=False)
    lexer.whitespace_split, lexer.commenters = True, ""
    if windows:
        lexer.escape = ""
    return list(lexer)


def without(words: list[str], *options: str) -> list[str]:
    """Return a command line without some options and their values."""
    kept, skip = [], False
    for word in words:
        if word.startswith("--"):
            skip = word.split("=")[0] in options
        if not skip:
            kept.append(word)
    return kept
