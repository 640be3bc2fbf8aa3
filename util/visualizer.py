"""One interface to all loggers of a run: console, log files, web page, visdom, TensorBoard, Weights & Biases."""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

from util.checkpoint import run_folder
from util.loggers.base import Guard, Pictures, Sink, Step
from util.loggers.console import Meter, loss_line
from util.loggers.log_files import LogFiles
from util.loggers.run_summary import closing_lines, run_header
from util.loggers.tensorboard import TensorboardSink
from util.loggers.visdom import VisdomSink
from util.loggers.visuals import to_pictures
from util.loggers.wandb import WandbSink
from util.metrics.table import METRICS
from util.monitor.diagnosis import Diagnosis
from util.monitor.first_batch import draw_first_batch
from util.monitor.validation import watched_metric
from util.pages.results_writer import save_images  # noqa: F401 - training loops import save_images from here
from util.pages.training_page import TrainingPage
from util.runtime import processes

DEFAULTS = {  # of the options that may be missing in the `opt` of a user's own loop
    **{"isTrain": True, "continue_train": False, "n_epochs": 0, "n_epochs_decay": 0, "val_freq": 0},
    **{"no_html": False, "use_wandb": False, "use_tensorboard": False, "display_server": ""},
    **{"display_winsize": 256, "display_id": 0, "display_port": 8097, "display_ncols": 4},
}


class Visualizer:
    """Show and log a run. Under torchrun only the main process does; in the others every method is silent.

    Training scripts read the attributes `saved`, `current_epoch`, `vis`, the display options and the paths.
    """

    def __init__(self, opt: argparse.Namespace, model=None):
        """Begin the log and, in training, the web page and the dashboards that `opt` asks for.

        With a `model`, logs follow its progress, and those of a new run begin after its first step: a run that fails
        before that leaves the folder as it was.
        """
        self.opt, self.name = opt, opt.name
        self.options = options = argparse.Namespace(**{**DEFAULTS, **vars(opt)})
        self.folder = Path(opt.checkpoints_dir) / opt.name
        self.log_name = str(self.folder / "loss_log.txt")
        self.web_dir, self.img_dir = str(self.folder / "web"), str(self.folder / "web" / "images")
        self.use_html, self.use_wandb = options.isTrain and not options.no_html, options.use_wandb
        self.win_size, self.ncols = options.display_winsize, options.display_ncols
        self.display_id, self.port = options.display_id, options.display_port
        self.last_epoch = options.n_epochs + options.n_epochs_decay
        self.current_epoch, self.saved = 0, False  # `saved`: whether this epoch's images are on the page
        self.active = processes.is_main()
        self.progress, self.optimizers, self.dataset_size = None, (), 0  # progress: .epoch, .epoch_iter, .total_iters
        self.meter = Meter()
        self.log = self.page = self.vis = None  # `vis`: visdom's client
        self.sinks: list[tuple[Guard, Sink]] = []
        self._log_guard = Guard("log files", self.say)
        self._plotted = 0  # images at the last plotted losses
        self.began, self.finished, self.best = (time.monotonic(), 0), False, None  # began: the time, the images so far
        self._first: dict | None = None  # the run's first batch, until it is drawn
        if self.active and self.options.isTrain and (model is None or self.options.continue_train):
            self._begin()
        if model is not None:
            self.resume(model.progress, model.optimizers)

    # ---- start-up ----
    def _begin(self) -> None:
        """Open the log files, the page and the dashboards that the options ask for."""
        run_folder.begin(self.opt)
        self.log = LogFiles(self.folder)
        self.log.write_line(f"{'=' * 16} Training Loss ({time.strftime('%c')}) {'=' * 16}")
        self.sinks.append((self._log_guard, self.log))
        if self.use_html:
            self.say(f"create web directory {self.web_dir}...")
            best = watched_metric(self.opt) if self.options.val_freq else ""
            lower = [name for name, metric in METRICS.items() if metric.lower]
            header = {**run_header(self.opt), "epochs": self.last_epoch, "best": best, "lower": lower}
            title = f"Experiment name = {self.name}"
            self.page = self._add_sink("web page", TrainingPage, self.web_dir, title, self.win_size, header)
        for guard, sink in self.sinks:
            guard(sink.cut, math.inf if self.options.continue_train else 0)  # until `resume` knows better
        self.create_visdom_connections()
        if self.use_wandb:
            self._add_sink("wandb", WandbSink, self.opt, self.say)
        if self.options.use_tensorboard:
            self._add_sink("tensorboard", TensorboardSink, self.opt, self.folder)
        self._add_sink("diagnosis", Diagnosis, self.opt, self._report)

    def _add_sink(self, name: str, make: Callable[..., Sink], *args) -> Sink | None:
        """Make a logger and return it; it is not used where that fails."""
        guard = Guard(name, self.say)
        sink = guard(make, *args)
        if sink is not None and sink.alive:
            self.sinks.append((guard, sink))
        return sink

    def create_visdom_connections(self) -> None:
        """Connect to the user's visdom server if it answers; none is ever started."""
        if self.active and self.vis is None and self.display_id > 0 and self.options.display_server:
            sink = self._add_sink("visdom", VisdomSink, self.opt, self.say)
            self.vis = sink.vis if sink is not None else None

    def resume(self, progress, optimizers: Sequence = ()) -> None:
        """Follow `progress`, discard log entries beyond it, and log the first optimizer's learning rate."""
        self.progress, self.optimizers = progress, optimizers
        self.began = time.monotonic(), progress.total_iters
        self._cut(progress.total_iters, progress.epoch)

    def _cut(self, total_iters: int, epoch: int) -> None:
        for guard, sink in self.sinks:
            guard(sink.cut, total_iters, epoch)

    def say(self, line: str) -> None:
        """Print a line in the main process, above the progress bar if there is one."""
        if self.active:
            self.meter.say(line)

    def _report(self, line: str) -> None:
        """Print a line and log it."""
        self.say(line)
        if self.log is not None:
            self._log_guard(self.log.write_line, line)

    def set_dataset_size(self, dataset_size: int) -> None:
        """Set the number of images of an epoch, for the axis of epochs."""
        self.dataset_size = dataset_size

    # ---- one epoch ----
    def reset(self) -> None:
        """Begin an epoch: its first images go to the web page."""
        self.saved = False

    def track(self, dataset: Iterable, progress) -> Iterator[dict]:
        """Yield the epoch's batches with a progress bar and timing, and draw the run's first batch.

        `len(dataset)` counts images; the caller advances `progress` once for each batch.
        """
        self.dataset_size = self.dataset_size or len(dataset)
        if not self.active:
            yield from dataset
            return
        self.progress = progress
        first = not progress.total_iters  # a resumed run has drawn its first batch already
        title = f"epoch {progress.epoch}/{self.last_epoch}" if self.last_epoch else f"epoch {progress.epoch}"
        for batch in self.meter.track(dataset, title, progress):
            if first:
                first, self._first = False, batch
                self._draw_first()
            yield batch

    def _draw_first(self) -> None:
        """Draw the run's first batch, once the run has a folder."""
        if self.log is not None and self._first is not None:
            with self.meter.showing():
                self._log_guard(draw_first_batch, self._first, self.folder, self.say)
            self._first = None

    def report_step(self, model) -> None:
        """Show the images and print the losses where a step has passed --display_freq or --print_freq.

        Page, tables and dashboards also have the run's first step and its last one; the printed log does not.
        """
        progress = model.progress
        if self.active and self.log is None:  # a new run's first step
            self._begin()
            self._cut(0, progress.epoch)
            self._draw_first()
        first, last = progress.total_iters == progress.step, self._is_last(progress)  # a resumed run has had its first
        if first or last or progress.passed(self.opt.display_freq):
            model.compute_visuals()
            save_result = first or last or progress.passed(self.opt.update_html_freq)
            epoch = progress.epoch - first  # before the first epoch; that epoch's own images follow
            self.display_current_results(model.get_current_visuals(), epoch, progress.total_iters, save_result)
        printed = progress.passed(self.opt.print_freq)
        if first or last or printed:
            losses = model.get_current_losses()
            write = self.print_current_losses if printed else self._write_losses
            write(progress.epoch, progress.epoch_iter, losses, *self.timing())
            self.plot_current_losses(progress.total_iters, losses)

    def _is_last(self, progress) -> bool:
        """Whether training ends with this step, or may end with it (--early_stop)."""
        stops = self.opt.early_stop and progress.epoch % self.opt.val_freq == 0
        return progress.epoch_iter >= self.dataset_size and (progress.epoch == self.last_epoch or stops)

    def timing(self) -> tuple[float, float]:
        """Return seconds per image since the last call: training, and waiting for data."""
        return self.meter.timing(self.progress.total_iters if self.progress else 0)

    # ---- images ----
    def display_current_results(
        self, visuals: dict[str, object], epoch: int, total_iters: int | bool | None = None, save_result: bool = False
    ) -> None:
        """Show the images; the web page gets them when they are the epoch's first or `save_result` is set.

        Also takes the older (visuals, epoch, save_result).
        """
        if isinstance(total_iters, bool):
            total_iters, save_result = None, total_iters
        if total_iters is None:
            total_iters = self.progress.total_iters if self.progress else self._plotted
        self.current_epoch = epoch
        on_page = save_result or (self.page is not None and not self.page.has(epoch))
        sinks = [(guard, sink) for guard, sink in self.sinks if sink.alive and (on_page or sink is not self.page)]
        if not sinks:
            return
        with self.meter.showing():
            pictures = {label: to_pictures(visual) for label, visual in visuals.items()}
            for guard, sink in sinks:
                guard(sink.images, Step(epoch, total_iters, 0.0), pictures)
        self.saved = self.use_html

    # ---- losses ----
    def print_current_losses(
        self, epoch: int, iters: int, losses: dict[str, float], t_comp: float, t_data: float
    ) -> None:
        """Print the losses and log them; `iters`: images of this epoch, the times: seconds per image."""
        self.current_epoch = epoch
        values = {name: float(value) for name, value in losses.items()}
        self._report(loss_line(epoch, iters, values, t_comp, t_data))
        self._write_losses(epoch, iters, values, t_comp, t_data)

    def _write_losses(self, epoch: int, iters: int, values: dict[str, float], t_comp: float, t_data: float) -> None:
        """Append the losses to metrics.csv."""
        if self.log is not None:
            total_iters = self.progress.total_iters if self.progress else ""
            self._log_guard(self.log.add_losses, epoch, iters, total_iters, values, t_comp, t_data)

    def plot_current_losses(self, total_iters: int, losses: dict[str, float] | float, *older: dict[str, float]) -> None:
        """Draw the losses at `total_iters` images; also takes the older (epoch, counter_ratio, losses)."""
        if not self.sinks:
            return
        if older:
            step, losses = self._older_step(total_iters, losses), older[0]
        else:
            step = self._step(total_iters)
        self._plotted = step.total_iters
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

    # ---- validation ----
    def display_validation(self, epoch: int, total_iters: int, values: dict[str, float], samples: Pictures) -> None:
        """Print, log and show the scores after an epoch, and pictures of the same images every time."""
        with self.meter.showing():
            scores = ", ".join(f"{name} {value:.4g}" for name, value in values.items())
            self._report(f"validation after epoch {epoch}: {scores}")
            for guard, sink in self.sinks:
                guard(sink.validation, Step(epoch, total_iters, float(epoch)), values, samples)

    # ---- end ----
    def flush(self) -> None:
        """Wait until everything shown is on disk."""
        for guard, sink in self.sinks:
            guard(sink.flush)

    def finish(self, best=None) -> None:
        """Note that training is complete; `close` then prints how it went. `best`: the best epoch, if one is chosen."""
        self.finished, self.best = True, best

    def close(self) -> None:
        """Remove the progress bar and let every sink write what is left; the end of the program also does."""
        self.meter.close_bar()
        epochs = self.progress.epoch - 1 if self.progress else 0
        for guard, sink in self.sinks:
            guard(sink.close, epochs)
        if self.finished:
            seconds, images = time.monotonic() - self.began[0], self.progress.total_iters - self.began[1]
            page = Path(self.web_dir, "index.html") if self.use_html else None
            for line in closing_lines(self.opt, images, seconds, self.best, page):
                self.say(line)
