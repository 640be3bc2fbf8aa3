"""Write one page over all experiments and results, to look through, sort, filter and compare two.

    python scripts/pages.py                                   ./checkpoints and ./results: checkpoints/index.html
    python scripts/pages.py --checkpoints_dir /data/runs --results_dir /data/results --out /data/index.html

The page is a picture of the moment: type the command again for a new one. docs/pages.md tells more.
"""

from __future__ import annotations

import argparse
import base64
import contextlib
import io
import os
import sys
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path
from urllib.parse import quote

CHECKPOINTS, RESULTS = Path("checkpoints"), Path("results")
THUMBS, SIDE = 3, 128  # images of a row that stand in the page itself, and their height in pixels
PIXELS = 30_000_000  # of an image that is made smaller
MARK = "scripts/pages.py of pix2pix and CycleGAN"  # by which the page is known
COLUMNS = {  # their heads, and both ways to sort by them
    "name": ("Experiment", "A to Z", "Z to A"),
    "done": ("Epochs", "most first", "fewest first"),
    "best": ("Validation", "highest first", "lowest first"),
    "test": ("Results", "highest first", "lowest first"),
    "begun": ("Begun", "newest first", "oldest first"),
    "saved": ("Saved", "newest first", "oldest first"),
}
# Options that say where and how a run works, not what it learns: told in comparisons alone.
QUIET = {
    *("gpu_ids", "verbose", "num_threads", "epoch", "load_iter", "phase", "device", "cache", "fast", "dataset_mode"),
    *("print_freq", "display_freq", "update_html_freq", "save_latest_freq", "save_epoch_freq", "save_by_iter"),
    *("display_id", "display_server", "display_port", "display_env", "display_ncols", "display_winsize", "no_html"),
    *("use_wandb", "wandb_project_name", "use_tensorboard", "val_freq", "best_metric", "deterministic"),
}
SILENT = {"name", "model", "checkpoints_dir", "suffix", "isTrain", "continue_train", "epoch_count", "speed"}


def main(words: list[str]) -> None:
    """Read all folders, write the page, say where it is."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--checkpoints_dir", type=Path, default=CHECKPOINTS, help="experiments [./checkpoints]")
    parser.add_argument("--results_dir", type=Path, default=RESULTS, help="what test.py wrote [./results]")
    parser.add_argument("--out", type=Path, help="the page [index.html in the folder of experiments]")
    args = parser.parse_args(words)
    write_index(args.checkpoints_dir, args.results_dir, args.out)


def write_index(checkpoints: Path, results: Path, out: Path | None) -> None:
    """Write the page; raise UserError where there is nothing to show, or something else would be replaced."""
    from scripts.experiments.reader import find
    from util.errors import UserError, printable

    for folder, usual, flag in ((checkpoints, CHECKPOINTS, "checkpoints_dir"), (results, RESULTS, "results_dir")):
        if folder != usual and not folder.is_dir():
            raise UserError(f"--{flag} {printable(folder)}: there is no such folder.{near(folder)}")
    out = out or (checkpoints if checkpoints.is_dir() else results) / "index.html"
    out = out / "index.html" if out.is_dir() else out
    found = find(checkpoints, results)
    if not found:
        raise UserError(
            f"no experiments in {printable(checkpoints)} and no results in {printable(results)}: train.py and test.py "
            "make them. If they lie elsewhere, type --checkpoints_dir FOLDER --results_dir FOLDER"
        )
    check_ours(out)
    write_page(out, found)
    trained = sum(one.folder is not None for one in found)
    tested = sum(len(one.results) for one in found)
    print(f"{counted(trained, 'experiment')}, {counted(tested, 'results folder')}: {printable(out)}")
    for one in found:
        if one.notes:
            print(f"  {printable(one.name)}: {'; '.join(map(printable, one.notes))}")


def near(folder: Path) -> str:
    """Suggest a folder of a similar name."""
    from util.errors import did_you_mean

    with contextlib.suppress(OSError):
        return did_you_mean(folder.name, [path.name for path in folder.parent.iterdir() if path.is_dir()])
    return ""


def check_ours(out: Path) -> None:
    """Refuse to replace a file that this program did not write."""
    from scripts.experiments.reader import read_start
    from util.errors import UserError, printable

    if out.exists() and MARK.encode() not in read_start(out, 2000):
        raise UserError(f"{printable(out)} is there and was not written by this program: name another file, --out FILE")
    if not out.parent.is_dir():
        raise UserError(f"--out {printable(out)}: there is no folder {printable(out.parent)}")


def counted(count: int, what: str) -> str:
    """Write a number of things."""
    return f"{count:,} {what}{'' if count == 1 else 's'}"


# ---- options ----


@cache
def defaults(model: str, mode: str) -> dict[str, str]:
    """Return the defaults of training options, as text, with a model and a data set of ours; else those of all."""
    import data
    import models
    from options.train_options import TrainOptions
    from scripts.experiments.reader import as_text

    words = ["--dataroot", ""]
    words += ["--model", model] * (model in models.BUILT_IN) + ["--dataset_mode", mode] * (mode in data.BUILT_IN)
    return {name: as_text(value) for name, value in vars(TrainOptions(words).gather_options()).items()}


def differing(found: list) -> tuple[list[str], dict[str, str], list[list[str]]]:
    """Compare the options of all experiments, each with its defaults, which are the model's own.

    Returns those that differ among experiments; those that more than half of them changed to the same value; and for
    each experiment those in which it is unlike most: another value, or changed where most have the default.
    """
    changes = [changed(one) for one in found]
    trained = [
        {**usual_of(one), **one.options} for one in found if one.options
    ]  # what older versions lack: the default
    names = sorted({name for one in found for name in one.options} - SILENT)
    varying = [name for name in names if len({options.get(name) for options in trained}) > 1]
    counts = Counter(change for own in changes for change in own.items())
    usual = {
        name: value for (name, value), count in sorted(counts.items()) if len(trained) > 1 and 2 * count > len(trained)
    }
    told = [
        [name for name in one.options if is_loud(name) and own.get(name) != usual.get(name)]
        for one, own in zip(found, changes, strict=True)
    ]
    return varying, usual, told


def usual_of(one) -> dict[str, str]:
    """Return the defaults of an experiment's options."""
    return {**defaults(one.options.get("model", ""), one.options.get("dataset_mode", "")), **one.told_defaults}


def is_loud(name: str) -> bool:
    """Whether an option says what is learned, from what, or how."""
    return name not in QUIET | SILENT


def changed(one) -> dict[str, str]:
    """Return an experiment's options that differ from the defaults, and the seed if it was typed."""
    usual = usual_of(one)
    found = {name: value for name, value in one.options.items() if is_loud(name) and value != usual.get(name)}
    if not is_typed(found.get("seed", "")):
        found.pop("seed", None)
    return found


def is_typed(seed: str) -> bool:
    """Whether a seed was typed: of those that are drawn, one in 200,000 is that small."""
    return seed.isdecimal() and int(seed) < 10_000


# ---- the page ----


def write_page(out: Path, found: list) -> None:
    """Write the page, whole or not at all."""
    from util.checkpoint.atomic_files import write_whole

    varying, usual, told = differing(found)
    link = Links(out.parent)
    with ThreadPoolExecutor(os.cpu_count()) as pool:  # decoding and encoding let the others run
        images = list(pool.map(link.images, found))
    runs = [link.run(*parts, varying) for parts in zip(found, told, images, strict=True)]
    text = document(runs, usual, metrics(found))
    write_whole(out, text)


def metrics(found: list) -> list[str]:
    """Return all metrics, the one first that fills most cells of the table, psnr before others."""
    cells = [scores for one in found for scores in (one.best, *(results.scores for results in one.results))]
    counts = Counter(name for scores in cells for name in scores)
    return sorted(counts, key=lambda name: (-counts[name], name != "psnr", name))


class Links:
    """What the page holds of experiments, with addresses from its folder on.

    They are relative: a page that moves together with the folders stays whole, and so does one on a server. Thumbnails
    are in the page: hundreds of full images take long to load, and the page can be sent to others by itself.
    """

    def __init__(self, base: Path):
        self.base = os.path.abspath(base)  # noqa: PTH100 - links are left as they are

    def to(self, path: Path) -> str:
        """Return a file's address, whatever characters its name holds."""
        try:
            inside = os.path.relpath(path, self.base)
        except ValueError:  # another drive of Windows
            return path.resolve().as_uri()
        return quote(inside.replace(os.sep, "/"), errors="surrogateescape")

    def page(self, folder: Path) -> str:
        """Return the address of a folder's page, or of the folder."""
        page = folder / "index.html"
        return self.to(page) if page.is_file() else self.to(folder) + "/"

    def images(self, one) -> list[list]:
        """Return label, address, width, height and, of the first images, the thumbnail."""
        images = []
        for label, path in one.images.items():
            seen = (0, 0, "")
            try:
                seen = look_at(path, len(images) < THUMBS)
            except Exception as error:  # whatever Pillow has to say of a file that is none, or is not yet whole
                one.notes.append(f"{path.name} is damaged ({type(error).__name__})")
            images.append([label, self.to(path), *seen])
        return images

    def results(self, one) -> list[list]:
        """Return name, address, scores of each results folder, and the address of its evaluation's page."""
        pages = [results.folder / "evaluation.html" for results in one.results]
        return [
            [results.folder.name, self.page(results.folder), results.scores, self.to(page) if page.is_file() else ""]
            for results, page in zip(one.results, pages, strict=True)
        ]

    def run(self, one, told: list[str], images: list, varying: list[str]) -> dict:
        """Return all that the page holds of an experiment."""
        web = one.folder / "web" if one.folder else None
        home = self.page(web if web and web.is_dir() else one.folder or one.results[0].folder.parent)
        return {
            "name": one.name,
            "href": home,
            "model": one.options.get("model", ""),
            "begun": day(one.begun),
            "saved": day(one.saved),
            **{key: getattr(one, key) for key in ("done", "total", "best", "shown", "notes")},
            "results": self.results(one),
            "told": [[name, short(name, one.options[name])] for name in told],
            "facts": facts(one, varying),
            "images": images,
            "curves": {**{f"validation {name}": curve for name, curve in one.measured.items()}, **one.losses},
        }


def day(seconds: float | None) -> str | None:
    """Return the local time, in the order that sorts."""
    with contextlib.suppress(OverflowError, OSError, ValueError, TypeError):
        return time.strftime("%Y-%m-%d %H:%M", time.localtime(seconds)) if seconds else None


def short(name: str, value: str) -> str:
    """Shorten a path to its last part, and what is long."""
    value = Path(value).name or value if name == "dataroot" else value
    return value if len(value) <= 40 else f"{value[:38]} …"


def facts(one, varying: list[str]) -> dict[str, str]:
    """Return what two experiments are compared by, beside images and curves."""
    scores: dict[str, list[str]] = {name: [f"{value:.4g} (epoch {epoch})"] for name, (value, epoch) in one.best.items()}
    for result in one.results:
        for name, value in result.scores.items():
            scores.setdefault(name, []).append(f"{value:.4g} ({result.folder.name})")
    trained = {"epochs": f"{one.done} of {one.total}" if one.total else str(one.done or "–")}
    options = {f"--{name}": one.options[name] for name in varying if name in one.options}
    return {**trained, **{name: ", ".join(scores[name]) for name in sorted(scores)}, **options}


def look_at(path: Path, thumb: bool) -> tuple[int, int, str]:
    """Return an image's width and height and, with `thumb`, an address that holds a small JPEG of it.

    That is empty of an image that takes long to read.
    """
    from PIL import Image

    with Image.open(path) as image:
        width, height = image.size
        if not thumb or width * height > PIXELS:
            return width, height, ""
        image.draft("RGB", (2 * SIDE, SIDE))
        small = image.convert("RGB")
    small.thumbnail((2 * SIDE, SIDE), reducing_gap=2.0)
    file = io.BytesIO()
    small.save(file, "JPEG", quality=80)
    return width, height, f"data:image/jpeg;base64,{base64.b64encode(file.getvalue()).decode()}"


def document(runs: list[dict], usual: dict[str, str], names: list[str]) -> str:
    """Return the page; index.js draws what the data tell."""
    import dominate
    from dominate import tags
    from dominate.util import raw

    from scripts.experiments.reader import lower_is_better
    from util.pages.data_file import as_line
    from util.pages.document import script, shown, style

    made = time.strftime("%Y-%m-%d %H:%M")
    lower = [name for name in names if lower_is_better(name)]
    doc = dominate.document(title="Experiments")
    doc["lang"] = "en"
    with doc.head:
        tags.meta(charset="utf-8")
        tags.meta(name="viewport", content="width=device-width, initial-scale=1")
        tags.meta(name="generator", content=MARK)
        style("index")
    doc.header.add(tags.h1("Experiments"))
    with doc.add(tags.main(id="index")):
        choices(names, lower)
        if usual:
            told = [tags.span(f"{shown(name)} ", tags.b(shown(short(name, value)))) for name, value in usual.items()]
            tags.p(
                "Usual here: ",
                *told,
                cls="about note",
                title="what most experiments have; told of others is what differs",
            )
        columns()
        with tags.noscript():
            tags.ul([tags.li(tags.a(shown(run["name"]), href=run["href"])) for run in runs])
        with tags.div(id="pair", hidden=True, role="region", aria_label="Chosen"):
            tags.span(id="chosen")
            tags.button("Compare", id="open", type="button")
            tags.button("Clear", id="clear", type="button")
        tags.p(f"Made {made} by ", tags.code("python scripts/pages.py"), "; type it again for what is new.", cls="note")
    with doc.add(tags.section(id="compare", tabindex=-1, aria_label="Two experiments compared")):
        tags.header()
        tags.div(id="bar")
        tags.div(id="images")
        tags.div(id="more")
    doc.add(*script("viewer", "index"))
    doc.add(tags.script(raw(as_line("show", runs, lower))))
    return doc.render(pretty=False)


def choices(names: list[str], lower: list[str]) -> None:
    """Add the filter, and the lists of metrics and orders."""
    from dominate import tags

    from util.pages.document import shown

    with tags.form(id="find", onsubmit="return false"):
        words = {"type": "search", "placeholder": "Filter: name, model, option", "aria_label": "Filter"}
        tags.input_(id="filter", **words)
        better = {name: "lower is better" if name in lower else "higher is better" for name in names}
        options = [tags.option(f"{shown(name)} ({text})", value=shown(name)) for name, text in better.items()]
        tags.label("Metric ", tags.select(options, id="metric"), hidden=len(names) < 2)
        ways = {key: (key, f"-{key}") if key == "name" else (f"-{key}", key) for key in COLUMNS}
        options = [
            tags.option(f"{name}, {text}", value=way)
            for key, (name, *texts) in COLUMNS.items()
            for way, text in zip(ways[key], texts, strict=True)
        ]
        tags.label("Sort ", tags.select(options, id="sort"), cls="narrow")
        tags.output(id="count", aria_live="polite")


def columns() -> None:
    """Add the table, whose rows index.js draws."""
    from dominate import tags

    with tags.table():
        with tags.thead(), tags.tr():
            tags.td(colspan=2)
            for key, (name, *_) in COLUMNS.items():
                with tags.th(scope="col"), tags.button(name, type="button", value=key):
                    if key in ("best", "test"):
                        tags.span(cls="metric")
        tags.tbody(id="runs")


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
    if {"-h", "--help"} & set(sys.argv[1:]):
        main(sys.argv[1:])
    from util.errors import explained_errors
    from util.runtime.signals import unbreakable_output

    unbreakable_output()
    with explained_errors():
        main(sys.argv[1:])
