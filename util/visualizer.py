"""One interface to everything that reports a run: console, log files, web page, visdom, dashboards."""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from util.errors import warn
from util.loggers.base import Guard, Pictures, Sink, Step
from util.loggers.console import Meter
from util.loggers.log_files import LogFiles
from util.loggers.run_summary import run_header
from util.loggers.tensorboard import TensorboardSink
from util.loggers.visdom import VisdomSink
from util.loggers.visuals import batch_sheet, three_channels
from util.loggers.wandb import WandbSink
from util.metrics.table import METRICS
from util.monitor.diagnosis import Diagnosis
from util.monitor.first_batch import find_useless_items
from util.monitor.validation import watched_metric
from util.pages.results_writer import fetch, save_images  # noqa: F401 - training loops import save_images from here
from util.pages.training_page import TrainingPage
from util.runtime import processes


class Visualizer:
    """Show and log a run. Under torchrun only the main process does; in the others every method is silent.

    Training scripts read the attributes `saved`, `current_epoch`, `vis` and the paths.
    """

    def __init__(self, opt: argparse.Namespace):
        """Begin the log and, in training, the web page and the dashboards that `opt` asks for."""
        self.opt = opt
        self.name = opt.name
        self.active = processes.is_main()
        training = getattr(opt, "isTrain", True)
        folder = Path(opt.checkpoints_dir) / opt.name
        self.folder = folder
        self.log_name = str(folder / "loss_log.txt")
        self.web_dir, self.img_dir = str(folder / "web"), str(folder / "web" / "images")
        self.use_html = training and not getattr(opt, "no_html", False)
        self.use_wandb = getattr(opt, "use_wandb", False)
        self.win_size = getattr(opt, "display_winsize", 256)
        self.display_id = getattr(opt, "display_id", 0)
        self.port = getattr(opt, "display_port", 8097)
        self.ncols = getattr(opt, "display_ncols", 4)
        self.saved = False  # whether this epoch's images are on the page
        self.current_epoch = 0
        self.vis = None  # visdom's client
        self.progress = None
        self.optimizers: Sequence = ()
        self.dataset_size = 0
        self.meter = Meter()
        self.page: TrainingPage | None = None
        self.log: LogFiles | None = None
        self.validations: LogFiles | None = None
        self.sinks: list[tuple[Guard, Sink]] = []
        self._first_batch = True
        self._last = 0  # images at the last plotted losses
        self._files = Guard("log files", self.say)
        if self.active and training:
            self._begin()

    def _begin(self) -> None:
        """Open the log files and the sinks that the options ask for."""
        done = math.inf if getattr(self.opt, "continue_train", False) else 0  # until `resume` knows better
        self.log = LogFiles(self.folder)
        self.log.write_line(f"{'=' * 16} Training Loss ({time.strftime('%c')}) {'=' * 16}")
        self.validations = LogFiles(self.folder, "validation.csv")
        for table in (self.log, self.validations):
            table.cut(done)
        if self.use_html:
            self.say(f"create web directory {self.web_dir}...")
            title = f"Experiment name = {self.name}"
            self.page = TrainingPage(self.web_dir, title, self.win_size, self._about())
            self.page.cut(done)
            self._add_sink("web page", self.page)
        self.create_visdom_connections()
        if self.use_wandb:
            guard = Guard("wandb", self.say)
            sink = guard(WandbSink, self.opt, self.say)
            self.sinks += [(guard, sink)] if sink is not None else []
        if getattr(self.opt, "use_tensorboard", False):
            self._add_sink("tensorboard", TensorboardSink(self.opt, self.folder))
        self._add_sink("diagnosis", Diagnosis(self.opt, self._log_line))

    def _about(self) -> dict:
        """Return the facts in the head of the page, and those by which it shows progress and the best epoch."""
        epochs = getattr(self.opt, "n_epochs", 0) + getattr(self.opt, "n_epochs_decay", 0)
        best = watched_metric(self.opt) if getattr(self.opt, "val_freq", 0) else ""
        lower = [name for name, metric in METRICS.items() if metric.lower]
        return {**run_header(self.opt), "epochs": epochs, "best": best, "lower": lower}

    def _log_line(self, line: str) -> None:
        """Print a line and log it."""
        self.say(line)
        self._files(self.log.write_line, line)

    def _add_sink(self, name: str, sink: Sink) -> None:
        self.sinks.append((Guard(name, self.say), sink))

    def create_visdom_connections(self) -> None:
        """Connect to the user's visdom server if it answers; none is ever started."""
        wanted = self.display_id > 0 and hasattr(self.opt, "display_server")
        if self.active and wanted and self.vis is None:
            sink = VisdomSink(self.opt, self.say)
            if sink.alive:
                self.vis = sink.vis
                self._add_sink("visdom", sink)

    def say(self, line: str) -> None:
        """Print a line in the main process, above the progress bar if there is one."""
        if self.active:
            self.meter.say(line)

    def resume(self, progress, optimizers: Sequence = ()) -> None:
        """Follow `progress` (.epoch, .epoch_iter, .total_iters), and discard log entries beyond it.

        The logged learning rate is the first optimizer's.
        """
        self.progress, self.optimizers = progress, optimizers
        if self.log is not None:
            self._files(self.log.cut, progress.total_iters)
            self._files(self.validations.cut, progress.total_iters, progress.epoch)
            for guard, sink in self.sinks:
                guard(sink.cut, progress.total_iters, progress.epoch)

    def flush(self) -> None:
        """Wait until everything shown is on disk."""
        for guard, sink in self.sinks:
            guard(sink.flush)

    def close(self) -> None:
        """Remove the progress bar and let every sink write what is left; the end of the program also does."""
        self.meter.close_bar()
        epochs = self.progress.epoch - 1 if self.progress else 0
        for guard, sink in self.sinks:
            guard(sink.close, epochs)

    def set_dataset_size(self, dataset_size: int) -> None:
        """Set the number of images of an epoch, for the axis of epochs."""
        self.dataset_size = dataset_size

    def reset(self) -> None:
        """Begin an epoch: its first images go to the web page."""
        self.saved = False

    def track(self, dataset: Iterable, progress) -> Iterator[dict]:
        """Yield the epoch's batches with a progress bar and timing, and draw the run's first batch.

        `len(dataset)` counts images; the caller advances `progress` once for each batch.
        """
        if not self.active:
            yield from dataset
            return
        self.progress = progress
        self._first_batch &= not progress.total_iters  # a resumed run has drawn it already
        self.dataset_size = self.dataset_size or len(dataset)
        if self.meter.lap_images is None:
            self.meter.lap_images = progress.total_iters
        self.meter.open_bar(self._title(progress.epoch), len(dataset), progress.epoch_iter)
        try:
            for batch in self.meter.track(dataset):
                if self._first_batch:
                    self._first_batch = False
                    with self.meter.showing():
                        self._files(self._draw_first_batch, batch)
                yield batch
                self.meter.move_bar(progress.epoch_iter)
        finally:
            self.meter.close_bar()

    def timing(self) -> tuple[float, float]:
        """Return seconds per image since the last call: training, and waiting for data."""
        return self.meter.timing(self.progress.total_iters if self.progress else 0)

    def display_current_results(
        self, visuals: dict[str, object], epoch: int, total_iters: int | bool | None = None, save_result: bool = False
    ) -> None:
        """Show the images; the web page gets them when they are the epoch's first or `save_result` is set.

        Also takes the older (visuals, epoch, save_result).
        """
        if isinstance(total_iters, bool):
            total_iters, save_result = None, total_iters
        self.current_epoch = epoch
        on_page = save_result or (self.page is not None and not self.page.has(epoch))
        sinks = [(guard, sink) for guard, sink in self.sinks if sink.alive and (on_page or sink is not self.page)]
        if not sinks:
            return
        if total_iters is None:
            total_iters = self.progress.total_iters if self.progress else self._last
        with self.meter.showing():
            pictures = fetched(visuals)
            for guard, sink in sinks:
                guard(sink.images, Step(epoch, total_iters, 0.0), pictures)
        self.saved = self.use_html

    def plot_current_losses(self, total_iters: int, losses: dict[str, float] | float, *older: dict[str, float]) -> None:
        """Draw the losses at `total_iters` images; also takes the older (epoch, counter_ratio, losses)."""
        if not self.sinks:
            return
        if older:
            step, losses = self._older_step(total_iters, losses), older[0]
        else:
            step = self._step(total_iters)
        self._last = step.total_iters
        values = {name: float(value) for name, value in losses.items()}
        with self.meter.showing():
            for guard, sink in self.sinks:
                guard(sink.losses, step, values)

    def _step(self, total_iters: int) -> Step:
        """Return the point of the run; without progress or dataset size, x counts images."""
        if self.progress and self.dataset_size:
            share = min(self.progress.epoch_iter / self.dataset_size, 1.0)
            lr = float(self.optimizers[0].param_groups[0]["lr"]) if self.optimizers else None
            return Step(self.progress.epoch, total_iters, self.progress.epoch - 1 + share, lr)
        return Step(self.current_epoch, total_iters, total_iters / (self.dataset_size or 1))

    def _older_step(self, epoch: int, ratio: float) -> Step:
        """Return the point of the run for an epoch and its fraction; an unknown epoch's size counts as 1000."""
        done = epoch - 1 + ratio
        total_iters = self.progress.total_iters if self.progress else round(done * (self.dataset_size or 1000))
        return Step(epoch, total_iters, done)

    def print_current_losses(
        self, epoch: int, iters: int, losses: dict[str, float], t_comp: float, t_data: float
    ) -> None:
        """Print the losses and log them; `iters`: images of this epoch, the times: seconds per image."""
        if not self.active:
            return
        self.current_epoch = epoch
        values = {name: float(value) for name, value in losses.items()}
        line = f"(epoch: {epoch}, iters: {iters}, time: {t_comp:.3f}, data: {t_data:.3f}) "
        line += "".join(f"{name}: {value:.3f} " for name, value in values.items())
        self.say(line)
        if self.log is None:
            return
        total_iters = self.progress.total_iters if self.progress else ""
        row = {
            "epoch": epoch,
            "iters": iters,
            "total_iters": total_iters,
            "time": f"{t_comp:.6f}",
            "data": f"{t_data:.6f}",
        }
        self._files(self.log.write_line, line)
        self._files(self.log.add, row | {name: f"{value:.7g}" for name, value in values.items()})

    def display_validation(self, epoch: int, total_iters: int, values: dict[str, float], samples: Pictures) -> None:
        """Print, log and show the scores after an epoch, and pictures of the same images every time."""
        if not self.active:
            return
        with self.meter.showing():
            line = f"validation after epoch {epoch}: " + ", ".join(f"{k} {v:.4g}" for k, v in values.items())
            self.say(line)
            if self.validations is not None:
                row = {"epoch": epoch, "total_iters": total_iters} | {k: f"{v:.7g}" for k, v in values.items()}
                self._files(self.validations.write_line, line)
                self._files(self.validations.add, row)
            for guard, sink in self.sinks:
                guard(sink.validation, Step(epoch, total_iters, float(epoch)), values, samples)

    def _title(self, epoch: int) -> str:
        """Name an epoch on the progress bar."""
        last = getattr(self.opt, "n_epochs", 0) + getattr(self.opt, "n_epochs_decay", 0)
        return f"epoch {epoch}/{last}" if last else f"epoch {epoch}"

    def _draw_first_batch(self, batch: dict) -> None:
        """Save a picture of the network's first input, so that swapped domains are seen at once."""
        if isinstance(batch, dict):
            for line in find_useless_items(batch):
                warn(line)
        sheet = batch_sheet(batch) if isinstance(batch, dict) else None
        if sheet is not None:
            file = self.folder / "first_batch.png"
            sheet.save(file)
            self.say(f"the first batch, as the network sees it: {file}")


def fetched(visuals: dict[str, object]) -> Pictures:
    """Return a model's visuals as pictures, waiting for the device once."""
    arrays, ready = fetch(visuals)
    if ready:
        ready.synchronize()
    return {label: [three_channels(image) for image in images] for label, images in arrays.items()}
