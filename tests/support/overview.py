"""Writes the list of files in docs/overview.md from the files' own first lines: python tests/support/overview.py

Files and folders without such a line (settings, folders of scripts) keep the sentence that stands in the page.
"""

from __future__ import annotations

import ast
import re
import subprocess
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs/overview.md"
BEGIN, END = "<!-- files: written by tests/support/overview.py -->\n", "<!-- end of files -->\n"
WHOLE = (
    "datasets/bibtex/",
    "docs/img/",
    "tests/golden/",
    "tests/plugins/",
)  # folders with one line for all their files


def tracked() -> list[str]:
    """Return the repository's files."""
    words = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    return sorted(file for file in set(listed.splitlines()) if (ROOT / file).is_file())


def written() -> dict[str, str]:
    """Return the sentences of the page by path; a folder's path ends in a slash."""
    found, folder = {}, ""
    for line in PAGE.read_text(encoding="utf-8").partition(BEGIN)[2].partition(END)[0].splitlines():
        if line.startswith("### "):
            folder = line[4:].replace("Top level", "")
        elif row := re.fullmatch(r"- `(.*?)`: (.*)", line):
            found[folder + row[1]] = row[2]
        elif line:
            found[folder] = line.removesuffix(".")
    return found


def describe(file: str) -> str:
    """Return a file's first sentence: docstring, first comment, or a page's heading; empty if it has none."""
    text = (ROOT / file).read_text(encoding="utf-8")
    if file.endswith(".py"):
        text = ast.get_docstring(ast.parse(text)) or ""
    elif file.endswith(".md"):
        text = text.partition("\n")[0].lstrip("# ")
    elif file.endswith((".sh", ".js", ".css")):
        comment = re.search(r"^\s*(?:# |// |/\* )(?!shellcheck)(.*)$", text, re.MULTILINE)
        text = comment[1].removesuffix("*/") if comment else ""
    else:
        return ""
    return re.split(r"\.\s", " ".join(text.split("\n\n")[0].split()) + " ", maxsplit=1)[0].strip().rstrip(".:")


def lines() -> list[str]:
    """Return the list: a heading and a sentence for each folder, a line for each of its files."""
    sentences, folders = written(), {}
    for file in tracked():
        path = next((folder for folder in WHOLE if file.startswith(folder)), file)
        folder, _, name = path.removesuffix("/").rpartition("/")
        folders.setdefault(folder + "/" * bool(folder), {})[path] = name + "/" * path.endswith("/")
    lines = []
    for folder, paths in sorted(folders.items()):
        init = f"{folder}__init__.py"
        about = describe(init) if paths.pop(init, None) else sentences.get(folder) or f"tests of {folder[6:]}"
        lines += [f"### {folder or 'Top level'}", "", f"{about[:1].upper()}{about[1:]}.", ""]
        for path, name in sorted(paths.items(), key=lambda item: (item[0] in WHOLE, item)):
            sentence = sentences.get(path, "") if path in WHOLE else describe(path) or sentences.get(path, "")
            lines.append(f"- `{name}`: {sentence}")
        lines.append("")
    return lines


def page() -> str:
    """Return the page with the list as it should be."""
    before, _, rest = PAGE.read_text(encoding="utf-8").partition(BEGIN)
    return before + BEGIN + "\n" + "\n".join(lines()) + END + rest.partition(END)[2]


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
