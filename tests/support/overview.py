"""Writes the list of files in docs/overview.md from the files' own first lines: python tests/support/overview.py"""

from __future__ import annotations

import ast
import re
import subprocess
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs/overview.md"
BEGIN, END = "<!-- files: written by tests/support/overview.py -->\n", "<!-- end of files -->\n"
WHOLE = {  # folders with one line for all their files
    "datasets/bibtex": "citations of the datasets",
    "docs/img": "pictures of the pages",
    "tests/golden": "figures computed by the reference project",
    "tests/plugins": "models, datasets and training loops as users of the reference project wrote them",
}
FOLDERS = {  # folders without an __init__.py
    "": "the programs and their settings",
    ".ci": "continuous integration",
    "datasets": "scripts that fetch or make datasets",
    "docs": "one page per question",
    "scripts/studies": "the papers' experiments, one command each",
    "scripts/eval_cityscapes": "the Cityscapes classes, and the pix2pix paper's FCN-8s",
    "tests": "tests of the programs; the folders mirror the tree",
    "tests/support": "code that tests share",
    "tests/faults": "long campaigns of faults (`bash scripts/run_tests.sh --faults`)",
    "util/pages/assets": "scripts and styles of the pages",
}
FILES = {  # files that can't describe themselves
    ".ci/run": "the command to run in a fresh clone",
    ".gitignore": "data, checkpoints and results stay out of the repository",
    "LICENSE": "MIT",
    "README.md": "the commands to type",
    "pyproject.toml": "settings of ruff, pytest and import-linter, with the layers of imports",
    "requirements.txt": "packages that the project needs",
    "requirements-extra.txt": "packages of single features",
    "scripts/eval_cityscapes/cityscapes.json": "Cityscapes' classes, and how its results are scored",
    "scripts/perceptual/page.html": "the page of the study",
    "util/pages/assets/results.html": "the body of the results page",
    "util/pages/assets/training.html": "the body of the training page",
    "tests/faults/shim.c": "a library that records or fails a process's disk operations",
}


def tracked() -> list[str]:
    """Return the repository's files."""
    words = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    return sorted(file for file in set(listed.splitlines()) if (ROOT / file).is_file())


def describe(file: str) -> str:
    """Return a file's first sentence: docstring, first comment, or a page's heading and first paragraph."""
    if file in FILES:
        return FILES[file]
    text = (ROOT / file).read_text(encoding="utf-8")
    if file.endswith(".py"):
        text = ast.get_docstring(ast.parse(text)) or ""
    elif file.endswith(".md"):
        text = text.partition("\n")[0].lstrip("# ")
    else:
        comment = re.search(r"^\s*(?:# |// |/\* |<!-- )(?!shellcheck)(.*)$", text, re.MULTILINE)
        text = comment[1].removesuffix("*/").removesuffix("-->") if comment else ""
    return re.split(r"\.\s", " ".join(text.split("\n\n")[0].split()) + " ", maxsplit=1)[0].strip().rstrip(".:")


def lines() -> list[str]:
    """Return the list: a heading and a sentence for each folder, a line for each of its files."""
    folders: dict[str, list[str]] = {}
    for file in tracked():
        if not file.startswith(tuple(f"{folder}/" for folder in WHOLE)):
            folders.setdefault("" if "/" not in file else str(Path(file).parent), []).append(file)
    written = []
    for folder, files in sorted(folders.items()):
        init = f"{folder}/__init__.py"
        about = FOLDERS.get(folder) or (
            describe(init) if init in files else f"tests of {folder.removeprefix('tests/')}/"
        )
        written += [f"### {folder}/" if folder else "### Top level", "", f"{about[:1].upper()}{about[1:]}.", ""]
        written += [f"- `{Path(file).name}`: {describe(file)}" for file in files if file != init]
        written += [f"- `{Path(f).name}/`: {text}" for f, text in WHOLE.items() if str(Path(f).parent) == folder]
        written.append("")
    return written


def page() -> str:
    """Return the page with the list as it should be."""
    before, _, rest = PAGE.read_text(encoding="utf-8").partition(BEGIN)
    return before + BEGIN + "\n" + "\n".join(lines()) + END + rest.partition(END)[2]


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
