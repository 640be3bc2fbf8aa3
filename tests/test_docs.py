"""README and docs against the code: options, files, links, and commands and examples that work as written."""

from __future__ import annotations

import ast
import re
import shlex
import subprocess
import sys

import overview
import pytest
from conftest import ROOT, make_aligned, make_image
from experiments import trained_copy

import models
from options import legacy
from options.parser import Parser, size_or_inf
from options.test_options import TestOptions as TestingOptions
from options.train_options import TrainOptions

PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
OPTIONS = ROOT / "docs/options.md"
TYPES = {"text": (str, None), "int": (int, size_or_inf), "float": (float,)}


def tables(page):
    """Return the page's tables: for each the `##` heading above it, its head and its rows, as lists of cells."""
    found, heading, previous = [], "", ""
    for line in page.read_text(encoding="utf-8").splitlines():
        if line.startswith("## "):
            heading = line[3:]
        if line.startswith("|"):
            cells = [cell.strip() for cell in line.strip("|").split("|")]
            if not previous.startswith("|"):
                found.append((heading, cells, []))
            elif not set(line) <= set("|- "):
                found[-1][2].append(cells)
        previous = line
    return found


def blocks(page, language):
    """Return the texts of a page's code blocks."""
    fence = rf"^( *)```{language}\n(.*?)^ *```$"
    text = page.read_text(encoding="utf-8")
    return [re.sub(rf"(?m)^{m[1]}", "", m[2]) for m in re.finditer(fence, text, re.DOTALL | re.MULTILINE)]


def without_code(page):
    """Return a page's text without its code."""
    text = re.sub(r"^ *```.*?^ *```$", "", page.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)
    return re.sub(r"`[^`\n]*`", "code", text)


# ---- options ----


def documented_options(is_train):
    """Map each option that docs/options.md describes for a program to its type and default, as texts."""
    program = "training" if is_train else "testing"
    result = {}
    for heading, head, rows in tables(OPTIONS):
        for cells in rows if "meaning" in head and head[0] == "option" else []:
            row = dict(zip(head, cells, strict=True))
            scope = f"{heading} {row.get('of', '')}".lower()
            if program in scope or not ("training" in scope or "testing" in scope):
                result[row["option"].strip("`").removeprefix("--")] = row["type"], row["default"]
    return result


def documented_default(text, is_train):
    """Read a default: one for both programs, or `286 (train), 256 (test)`."""
    phases = {phase: word for word, phase in re.findall(r"(\S+) \((train|test)\)", text)}
    return phases.get("train" if is_train else "test", text).strip("`")


def shown(default, required=False):
    """Write a parser's default as docs/options.md does."""
    words = {True: "on", False: "off"} if isinstance(default, bool) else {None: "none", "": "empty"}
    return "required" if required else words.get(default, str(default))


def parser_of(is_train, words=""):
    """Return the parser that a command line leads to."""
    options = (TrainOptions if is_train else TestingOptions)(f"--dataroot D {words}")
    options.gather_options()
    return options.parser


def actions(is_train, words=""):
    """Map the options of a parser, but for hidden ones, to their actions."""
    found = {action.dest: action for action in parser_of(is_train, words)._actions}
    return {name: action for name, action in found.items() if "help" not in name and action.help != "==SUPPRESS=="}


@pytest.mark.parametrize("is_train", [True, False])
def test_every_option_is_described_with_its_type_and_default(away, is_train):
    everything = {}
    for model in models.BUILT_IN:
        if not (is_train and model == "test"):
            everything |= actions(is_train, f"--model {model}")
    everything |= actions(is_train, "--model template --dataset_mode template")
    documented = documented_options(is_train)
    assert documented.keys() == everything.keys()

    options = (TrainOptions if is_train else TestingOptions)("--dataroot D")
    plain = {action.dest: action.default for action in options.initialize(Parser())._actions}  # as no model changed it
    for name, (kind, default) in documented.items():
        action = everything[name]
        if kind.startswith("flag"):  # `flag, or auto` takes a value
            assert (action.nargs, action.const) == ("?" if "," in kind else 0, True), name
        else:
            assert action.type in TYPES[kind], name
        is_default = shown(plain.get(name, action.default), action.required)
        assert documented_default(default, is_train) == is_default, name


def test_the_defaults_that_models_change_are_those_of_the_table(away):
    head, rows = next((head, rows) for _, head, rows in tables(OPTIONS) if "`cycle_gan`" in head)
    for cells in rows:
        name = cells[0].strip("`").removeprefix("--")
        for model, cell in zip(head[1:], cells[1:], strict=True):
            if cell != "(none)":
                model = model.strip("`")
                assert cell.strip("`") == shown(parser_of(model != "test", f"--model {model}").get_default(name)), name
    changed = parser_of(True, "--model template --dataset_mode template")
    assert changed.get_default("max_dataset_size") == 10


def test_every_value_of_a_closed_list_is_named(away):
    text = OPTIONS.read_text(encoding="utf-8")
    for name, row in parser_of(True).rows.items():
        for word in row.values or ():
            assert f"`{word}`" in text, f"--{name} {word}"


def test_the_options_that_testing_takes_from_training_are_listed(away):
    rows = parser_of(True).rows
    section = OPTIONS.read_text(encoding="utf-8").split("test.py takes from the training run\n")[1].split("\n\n")[1]
    listed = {name for name in re.findall(r"`(\w+)`", section) if name in rows}
    assert listed == {"model", *(name for name, row in rows.items() if row.test or row.network)}


def test_every_old_name_is_in_the_table_of_old_names():
    old = dict(next(rows for _, head, rows in tables(OPTIONS) if head == ["old", "now"]))
    for before, now in legacy.RENAMED.items():
        assert old[f"`--{before}`"] == f"`--{now}`"
    for before, words in legacy.FLAGS.items():
        assert old[f"`--{before}`"] == f"`{' '.join(words)}`"
    for (option, before), now in legacy.VALUES.items():
        assert old[f"`--{option} {before}`"].startswith(f"`--{option} {now}`")
    for before in legacy.DROPPED:
        assert old[f"`--{before}`"].startswith("nothing")


# ---- the overview and the list of defects ----


def test_the_overview_lists_every_folder_and_file_with_a_sentence():
    if subprocess.run(["git", "rev-parse"], cwd=ROOT, capture_output=True, check=False).returncode:
        pytest.skip("not a git clone")
    page = overview.page()
    assert page == overview.PAGE.read_text(encoding="utf-8"), "type python tests/support/overview.py"
    assert re.findall(r"(?m)^- `[^`]+`: *$|^\.$", page) == []


def test_every_defect_is_accounted_for_once_and_in_order():
    rows = [row for _, head, rows in tables(ROOT / "docs/compatibility.md") if head[0] == "#" for row in rows]
    assert [int(row[0]) for row in rows] == list(range(1, 87))
    assert all(len(row) == 3 and row[1] and re.match("fixed|.*kept|not here", row[2]) for row in rows)


# ---- links, commands, examples ----


def slug(heading):
    """Return the name by which a heading is linked to."""
    words = re.sub(r"[^\w\- ]", "", heading.replace("`", "").lower())
    return words.replace(" ", "-")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_to_files_and_headings_that_are_there(page):
    for target in re.findall(r"(?:\]\(|src=\")([^)\s\"]+)", without_code(page)):
        if target.startswith(("http:", "https:")):
            continue
        path, _, anchor = target.partition("#")
        file = (page.parent / path).resolve() if path else page
        assert file.exists(), f"{page.name}: {target}"
        if anchor:
            headings = re.findall(r"(?m)^#+ (.*)$", file.read_text(encoding="utf-8"))
            assert anchor in map(slug, headings), f"{page.name}: {target}"


def commands(page):
    """Return the lines of a page's bash blocks, comments and continuations resolved, as lists of words."""
    lines = "".join(blocks(page, "bash")).replace("\\\n", " ").splitlines()
    return [words for line in lines if (words := shlex.split(line, comments=True))]


@pytest.fixture
def examples(tmp_path, monkeypatch):
    """The model files of the pages' examples, where `--model` finds them."""
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        for file, code in re.findall(r"`models/(\w+)_model\.py`.*?```python\n(.*?)```", text, re.DOTALL):
            (tmp_path / f"{file}_model.py").write_text(code, encoding="utf-8")
    monkeypatch.setattr(models, "__path__", [*models.__path__, str(tmp_path)])
    names = sorted(path.name.removesuffix("_model.py") for path in tmp_path.glob("*_model.py"))
    yield names
    for name in names:
        sys.modules.pop(f"models.{name}_model", None)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_commands_name_programs_that_are_there_and_options_that_they_take(page, examples, away):
    for words in commands(page):
        programs = [word for word in words if word.endswith((".py", ".sh"))]
        for program in programs[:1]:
            assert (ROOT / program).is_file(), program
        needed = [words[words.index("--init_from") + 1]] if "--init_from" in words else []
        needed += [words[words.index("--name") + 1]] if "--continue_train" in words else []
        for name in needed:  # experiments that have to be there
            (away / "checkpoints" / name).mkdir(parents=True, exist_ok=True)
            (away / "checkpoints" / name / "latest_net_G.pth").touch()
        for program, kind in (("train.py", TrainOptions), ("test.py", TestingOptions)):
            if program in programs and "--help_all" not in words:
                options = kind(words[words.index(program) + 1 :])
                options.check(options.gather_options())


def test_the_example_model_trains_with_the_losses_that_it_names(examples, away, capsys):
    assert examples == ["edges"]
    from train import train

    make_aligned(away / "pairs", phases=("train",), count=2)
    tiny = "--dataroot pairs --netG unet_32 --ngf 2 --ndf 2 --load_size 32 --crop_size 32 --num_threads 0 --no_html"
    tiny += " --n_epochs 1 --n_epochs_decay 0 --print_freq 1 --display_id -1 --gpu_ids -1 --seed 1"
    train(TrainOptions(f"{tiny} --name edges --model edges --lambda_edges 20").parse())
    line = (away / "checkpoints/edges/loss_log.txt").read_text().splitlines()[1]
    losses = {name: float(number) for name, number in re.findall(r"(\w+): ([\d.]+) ", line.partition(")")[2])}
    assert list(losses) == ["G_GAN", "G_L1", "D_real", "D_fake", "G_edges"]
    assert losses["G_edges"] > 0


def test_the_example_from_python_translates_in_any_folder_after_python_s_own_package_test(away):
    trained_copy("cycle_gan", away)
    (away / "checkpoints/toy").rename(away / "checkpoints/horse2zebra_cyclegan")
    make_image(away / "my photos/a.png")
    (code,) = (code for code in blocks(ROOT / "docs/tips.md", "python") if "import translate" in code)
    code = code.replace("/path/to/the/repository", str(ROOT))
    done = subprocess.run([sys.executable, "-c", f"import test.support\n{code}"], capture_output=True, check=False)
    assert done.returncode == 0, done.stderr
    assert (away / "results/horse2zebra_cyclegan/test_latest/images/a_fake.png").is_file()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_python_examples_import_names_that_exist(page):
    for code in blocks(page, "python"):
        for node in ast.walk(ast.parse(code)):
            if isinstance(node, ast.ImportFrom):
                exec(ast.unparse(node), {})


def test_pages_name_no_file_of_the_project_that_is_not_there():
    named = re.compile(r"`((?:scripts|datasets|data|util|options|tests)/[a-z0-9_/]+\.(?:py|sh|txt))`")
    for page in PAGES:
        for name in named.findall(page.read_text(encoding="utf-8")):
            assert (ROOT / name).exists(), f"{page.name}: {name}"


def test_the_pictures_of_the_pages_are_light():
    pictures = [path for path in (ROOT / "docs").rglob("*") if path.suffix in (".png", ".jpg", ".gif", ".svg")]
    assert all(path.stat().st_size < 200_000 for path in pictures), [path.name for path in pictures]
