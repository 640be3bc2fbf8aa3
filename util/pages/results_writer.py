"""A test set's results: threads encode and write pictures while the network goes on; rows follow in order."""

from __future__ import annotations

import contextlib
import signal
import threading
import time
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from pathlib import Path

import torch
from PIL import Image

from util.checkpoint.atomic_files import replacing
from util.errors import UserError, need
from util.loggers.base import Guard, Pictures
from util.loggers.visuals import file_label, stretched, three_channels, to_bytes, to_pictures
from util.loggers.wandb import wandb_images
from util.pages.document import HTML
from util.pages.results_page import ResultsPage, Row
from util.runtime.machine import core_count

LEVEL = 2  # zlib's effort for a PNG: of a 256-pixel photo 8 ms for 94 KiB; Pillow's own 6 takes 25 ms for 91 KiB
EVERY = 0.1  # seconds: the page is saved, with what was written since
WAITING = 64 * 2**20  # bytes of pictures that wait for a thread, at most; one image may be more


def save_images(
    webpage: HTML,
    visuals: dict[str, object],
    image_path: list[str] | str,
    aspect_ratio: float = 1.0,
    width: int = 256,
    use_wandb: bool = False,
) -> list[str]:
    """Write a test batch's images as <name>_<label>.png, add a row for each item, and return the items' names.

    `visuals`: label -> tensor (N, C, H, W) in [-1, 1] or array (H, W, C); `image_path`: a file for each item. A name is
    the file's stem; when the page has it already, folders and a number keep the older images safe.
    """
    pictures = {label: to_pictures(visual) for label, visual in visuals.items()}
    rows = list(name_rows(webpage, pictures, image_path))
    for row in rows:
        for label in row.files:
            write_picture(Path(webpage.get_image_dir()), row, label, aspect_ratio)
        if isinstance(webpage, ResultsPage):
            webpage.write_thumbs(row)
        show_row(webpage, row, width)
    if use_wandb:
        log_to_wandb(pictures)
    return [row.name for row in rows]


def name_rows(webpage: HTML, pictures: Pictures, image_path: list[str] | str) -> Iterator[Row]:
    """Give each item of a batch a name of its own on the page; `pictures`: label -> an array for each item."""
    paths = [image_path] if isinstance(image_path, (str, Path)) else list(image_path)
    for i in range(max(map(len, pictures.values()), default=0)):
        path = str(paths[min(i, len(paths) - 1)])
        name = webpage.unique_name(path)
        own = {label: images[i] for label, images in pictures.items() if i < len(images)}
        yield Row(name, {label: f"{name}_{file_label(label)}.png" for label in own}, own, path)


def write_picture(folder: Path, row: Row, label: str, aspect_ratio: float = 1.0) -> None:
    """Write one of a row's pictures."""
    write_png(stretched(three_channels(row.pictures[label]), aspect_ratio), folder / row.files[label])


def write_png(image: Image.Image, path: Path) -> None:
    """Write an image that appears whole or not at all."""
    with replacing(path) as new:
        image.save(new, "PNG", compress_level=LEVEL)


def show_row(webpage: HTML, row: Row, width: int) -> None:
    """Add a row to the page, whose pictures are written."""
    if isinstance(webpage, ResultsPage):
        webpage.add_row(row)
        return
    files = list(row.files.values())
    webpage.add_header(row.name)
    webpage.add_images(files, list(row.files), files, width=width)


def log_to_wandb(pictures: Pictures) -> None:
    """Log a batch's pictures, if a run of W&B has begun."""
    wandb = need("wandb", "wandb", "--use_wandb")
    if wandb.run is not None:
        Guard("wandb", print)(wandb.log, wandb_images(wandb, pictures))


class Results:
    """Write pictures and rows of a page while the network goes on.

    with Results(webpage, device) as results:
        for batch in dataset:
            with results.running():
                ...  # the network
            results.add(visuals, paths)

    Rows stand in the order of the images, each shown when its pictures are on disk; the page is whole at any time.
    When the body ends, or fails by a UserError, all are written. By any other error, Ctrl-C among them, those are given
    up that no thread has begun.
    """

    def __init__(
        self,
        webpage: HTML,
        device: torch.device | str = "cpu",
        aspect_ratio: float = 1.0,
        width: int = 256,
        use_wandb: bool = False,
    ):
        self.webpage, self.device = webpage, torch.device(device)
        self.aspect_ratio, self.width, self.use_wandb = aspect_ratio, width, use_wandb
        self.pool = ThreadPoolExecutor(min(8, core_count()), "pictures")  # zlib lets the others run
        self.rows: deque[tuple[Row, list[Future]]] = deque()  # not shown yet, in order, and their pictures' tasks
        self.waiting = 0  # their bytes
        self.due = 0.0  # when the page is to be saved again
        self.busy = 0.0  # seconds that the device has worked, as far as it is known
        self.spans: deque[tuple] = deque()  # beginnings and ends of work that may still go on

    def __enter__(self):
        return self

    def __exit__(self, kind, *_):
        well = kind is None or issubclass(kind, UserError)
        try:
            while well and self.rows:
                self._show(at_least_one=True)
        finally:
            self.pool.shutdown(cancel_futures=True)
            well = lambda task: not task.cancelled() and not task.exception()  # noqa: E731
            left = [row for row, tasks in self.rows if all(map(well, tasks))]
            with contextlib.suppress(OSError):  # a disk that is full was an error before
                self._add_to_page(left)
        self._count_work()

    def add(self, visuals: dict[str, object], image_path: list[str] | str) -> None:
        """Take a batch's pictures, as `save_images` does; waits only where too much waits for the threads."""
        pictures, ready = fetch(visuals)
        folder = Path(self.webpage.get_image_dir())
        with uninterrupted():
            for row in name_rows(self.webpage, pictures, image_path):
                tasks = [self.pool.submit(self._write, folder, row, label, ready) for label in row.files]
                if isinstance(self.webpage, ResultsPage):
                    tasks.append(self.pool.submit(self._write_thumbs, row, ready))
                self.rows.append((row, tasks))
                self.waiting += _size(row)
        if self.use_wandb:
            if ready:
                ready.synchronize()
            log_to_wandb({label: [three_channels(image) for image in images] for label, images in pictures.items()})
        if time.perf_counter() > self.due:
            self._show()
        while self.waiting > WAITING and len(self.rows) > 1:
            self._show(at_least_one=True)

    def _write(self, folder: Path, row: Row, label: str, ready: torch.cuda.Event | None) -> None:
        if ready:
            ready.synchronize()
        write_picture(folder, row, label, self.aspect_ratio)

    def _write_thumbs(self, row: Row, ready: torch.cuda.Event | None) -> None:
        if ready:
            ready.synchronize()
        self.webpage.write_thumbs(row)

    def _show(self, at_least_one: bool = False) -> None:
        """Show the first rows, as far as they are written; raise what went wrong. `at_least_one` waits for it."""
        written = []
        for row, tasks in self.rows:
            if not (all(task.done() for task in tasks) or (at_least_one and not written)):
                break
            for task in tasks:
                task.result()
            written.append(row)
        if written:
            self._add_to_page(written)

    def _add_to_page(self, rows: list[Row]) -> None:
        """Add rows, the first of those that wait, and save the page; a Ctrl-C takes effect behind that."""
        with uninterrupted():
            for row in rows:
                show_row(self.webpage, row, self.width)
                self.waiting -= _size(row)
                self.rows.popleft()
            self.webpage.save()
        self.due = time.perf_counter() + EVERY

    # ---- how long the device works ----

    @contextlib.contextmanager
    def running(self):
        """Count the body as the device's work. CUDA tells the times itself, later, so that nothing waits for it.

        On a CPU the network needs all cores at once: a thread that takes one of them has the others wait for it. So
        pictures are written while images are loaded there, and not beside the network.
        """
        if self.device.type == "cpu":
            wait([task for _, tasks in self.rows for task in tasks])
        begin = self._now()
        yield
        self.spans.append((begin, self._now()))
        self._count_work()

    def _now(self) -> float | torch.cuda.Event:
        if self.device.type == "cuda":
            event = torch.cuda.Event(enable_timing=True)
            event.record(torch.cuda.current_stream(self.device))
            return event
        if self.device.type == "mps":
            torch.mps.synchronize()
        return time.perf_counter()

    def _count_work(self) -> None:
        cuda = self.device.type == "cuda"
        while self.spans and (not cuda or self.spans[0][1].query()):
            begin, end = self.spans.popleft()
            self.busy += begin.elapsed_time(end) / 1000 if cuda else end - begin


def fetch(visuals: dict[str, object]) -> tuple[Pictures, torch.cuda.Event | None]:
    """Begin to copy what a model shows to uint8 arrays (N, H, W, C); on CUDA they hold it once the event has passed."""
    pictures, ready = {}, None
    for label, visual in visuals.items():
        if isinstance(visual, torch.Tensor):
            pictures[label] = to_bytes(visual).to("cpu", non_blocking=visual.is_cuda).numpy()  # of CUDA: pinned
        else:
            pictures[label] = to_pictures(visual)
    devices = {visual.device for visual in visuals.values() if isinstance(visual, torch.Tensor) and visual.is_cuda}
    for device in devices:
        ready = torch.cuda.Event(blocking=True)  # who waits for it sleeps, and leaves the core to others
        ready.record(torch.cuda.current_stream(device))
    return pictures, ready


def _size(row: Row) -> int:
    return sum(picture.nbytes for picture in row.pictures.values())


@contextlib.contextmanager
def uninterrupted():
    """Let a Ctrl-C wait for the end of the body."""
    former = signal.getsignal(signal.SIGINT)
    if threading.current_thread() is not threading.main_thread() or not callable(former):
        yield
        return
    heard = []
    signal.signal(signal.SIGINT, lambda *call: heard.append(call))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, former)
        if heard:
            former(*heard[0])
