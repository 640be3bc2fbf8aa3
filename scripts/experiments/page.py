"""The index of experiments: a table, written as HTML, that index.js sorts and filters."""

from __future__ import annotations

import re
import time
from pathlib import Path

import dominate
from dominate import tags

from scripts.experiments.reader import Experiment
from util.pages.document import page_address, prepare_head, relative_address, script, valid_utf8

MARK = "scripts/pages.py of pix2pix and CycleGAN"  # identifies the page
COLUMNS = ("Images", "Experiment", "Epoch", "Losses", "Validation", "Results", "Updated")
FILTER = {"type": "search", "placeholder": "Filter: name, model, option", "aria_label": "Filter"}
# Options that say where and how a run works, and not what it learns.
HIDDEN = re.compile(
    "name|model|isTrain|checkpoints_dir|suffix|phase|epoch|load_iter|epoch_count|continue_train|n_epochs.*|seed|verbose|"
    "gpu_ids|device|speed|fast|num_threads|cache|deterministic|.*_freq|save_.*|display_.*|no_html|use_.*|wandb_.*"
)


def document(experiments: list[Experiment], base: Path) -> str:
    """Return the page, whose addresses begin in the folder `base`."""
    page = dominate.document(title="Experiments")
    page.head.add(tags.meta(name="generator", content=MARK))
    prepare_head(page, "index")
    heads = [tags.th(tags.button(name, type="button") if name != "Images" else "", scope="col") for name in COLUMNS]
    rows = (tags.tr(cells(experiment, base)) for experiment in experiments)
    page.add(
        tags.h1("Experiments"),
        tags.div(tags.input_(id="filter", **FILTER), tags.output(id="count", aria_live="polite"), id="find"),
        tags.table(tags.thead(tags.tr(heads)), tags.tbody(rows)),
        tags.p(f"Made {day(time.time())} by python scripts/pages.py; run it again to update.", cls="note"),
        *script("index"),
    )
    return page.render(pretty=False)


def cells(experiment: Experiment, base: Path) -> list[tags.td]:
    """Return the cells of a row; `data-key` is the value that sorts it."""
    total, images = experiment.epochs, experiment.images
    labels = [label for label in dict.fromkeys(("real_A", "fake_B", "real_B", *sorted(images))) if label in images]
    best = [number(name, value, f"epoch {epoch}") for name, (value, epoch) in experiment.best.items()]
    scores = [score for _, values in experiment.results for score in values.values()]
    contents = [
        ([thumbnail(label, relative_address(images[label], base)) for label in labels[:3]], ""),
        (description(experiment, base), valid_utf8(experiment.name)),
        (f"{experiment.epoch or ''}" + f" of {total}" * bool(total), experiment.epoch or ""),
        ([number(name, value) for name, value in experiment.losses.items()], [*experiment.losses.values(), ""][0]),
        (best, [*(value for value, _ in experiment.best.values()), ""][0]),
        ([results(folder, values, base) for folder, values in experiment.results], [*scores, ""][0]),
        (day(experiment.updated), experiment.updated or ""),
    ]
    return [
        tags.td(content, data_key=str(key), data_label=name, cls=name.lower())
        for name, (content, key) in zip(COLUMNS, contents, strict=True)
    ]


def day(seconds: float) -> str:
    """Write a local time."""
    return time.strftime("%Y-%m-%d %H:%M", time.localtime(seconds)) if seconds else ""


def number(name: str, value: float, more: str = "") -> tags.div:
    """Return a line with a value of four digits."""
    return tags.div(f"{valid_utf8(name)} ", tags.b(f"{value:.4g}"), tags.small(f" {more}"))


def thumbnail(label: str, address: str) -> tags.a:
    """Return an image that is linked to its file."""
    return tags.a(tags.img(src=address, alt=label, loading="lazy"), href=address, title=label)


def description(experiment: Experiment, base: Path) -> list:
    """Return the name, linked to the training page, the model, the changed options, and the notes."""
    name, folder = valid_utf8(experiment.name), experiment.folder
    web = folder / "web" if folder and (folder / "web").is_dir() else folder
    title = tags.a(name, href=page_address(web, base)) if web else tags.b(name)
    changed = {option: value for option, value in experiment.changed.items() if not HIDDEN.fullmatch(option)}
    options = [tags.span(f"{option} ", tags.b(valid_utf8(value)), " ") for option, value in changed.items()]
    notes = tags.p("; ".join(map(valid_utf8, experiment.notes)), cls="bad")
    return [title, tags.small(" ", experiment.options.get("model", "")), tags.p(options), notes]


def results(folder: Path, scores: dict[str, float], base: Path) -> tags.div:
    """Return the links to a results page and its evaluation, and the scores."""
    line = tags.div(tags.a(valid_utf8(folder.name), href=page_address(folder, base)))
    if (folder / "evaluation.html").is_file():
        line.add(" ", tags.a("evaluation", href=relative_address(folder / "evaluation.html", base)))
    line.add(number(name, value) for name, value in scores.items())
    return line
