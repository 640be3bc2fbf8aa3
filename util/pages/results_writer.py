"""Results of a test set: threads encode and write pictures while the network runs; rows follow in order."""

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

PNG_LEVEL = 2  # of compression: 8 ms and 94 KiB for a 256-pixel photo; Pillow's default 6 takes 25 ms for 91 KiB
SAVE_INTERVAL = 0.1  # seconds between two saves of the page
MAX_WAITING = 64 * 2**20  # bytes of pictures that wait for a thread; a single image may be larger


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
    the file's stem. If the page has that name already, folders and a number are added, so no image is replaced.
    """
    pictures = {label: to_pictures(visual) for label, visual in visuals.items()}
    rows = list(name_rows(webpage, pictures, image_path))
    for row in rows:
        write_row(webpage, row, aspect_ratio)
        show_row(webpage, row, width)
    if use_wandb:
        log_to_wandb(pictures)
    return [row.name for row in rows]


def name_rows(webpage: HTML, pictures: Pictures, image_path: list[str] | str) -> Iterator[Row]:
    """Give each item of a batch a unique name on the page; `pictures`: label -> an array for each item."""
    paths = [image_path] if isinstance(image_path, (str, Path)) else list(image_path)
    for i in range(max(map(len, pictures.values()), default=0)):
        path = str(paths[min(i, len(paths) - 1)])
        name = webpage.unique_name(path)
        own = {label: images[i] for label, images in pictures.items() if i < len(images)}
        yield Row(name, {label: f"{name}_{file_label(label)}.png" for label in own}, own, path)


def write_row(webpage: HTML, row: Row, aspect_ratio: float) -> None:
    """Write a row's pictures and thumbnails."""
    for label in row.files:
        write_picture(Path(webpage.get_image_dir()), row, label, aspect_ratio)
    if isinstance(webpage, ResultsPage):
        webpage.write_thumbs(row)


def write_picture(folder: Path, row: Row, label: str, aspect_ratio: float = 1.0) -> None:
    """Write one of a row's pictures."""
    write_png(stretched(three_channels(row.pictures[label]), aspect_ratio), folder / row.files[label])


def write_png(image: Image.Image, path: Path) -> None:
    """Write a picture that appears whole, or not at all."""
    with replacing(path) as new:
        image.save(new, "PNG", compress_level=PNG_LEVEL)


def show_row(webpage: HTML, row: Row, width: int) -> None:
    """Add a row, whose pictures are written, to the page."""
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
    """Write pictures and rows of a page while the network runs.

    with Results(webpage, device) as results:
        for batch in dataset:
            with results.running():
                ...  # the network
            results.add(visuals, paths)

    Rows are in the order of the images; each is shown once its pictures are on disk. When the body ends, or fails
    with a UserError, all are written. After another error, also Ctrl-C, tasks that no thread has begun are dropped.
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
        self.pool = ThreadPoolExecutor(min(8, core_count()), "pictures")  # zlib releases the interpreter's lock
        self.rows: deque[tuple[Row, Future]] = deque()  # not shown yet, in order, each with the task that writes it
        self.waiting = 0  # bytes of their pictures
        self.due = 0.0  # when the page will be saved next
        self.busy = 0.0  # seconds that the device has worked; on CUDA it is known at the end
        self.spans: list[tuple] = []  # CUDA events: beginnings and ends of its work

    def __enter__(self):
        return self

    def __exit__(self, kind, *_):
        complete = kind is None or issubclass(kind, UserError)
        try:
            while complete and self.rows:
                self._show(at_least_one=True)
        finally:
            self.pool.shutdown(cancel_futures=True)
            done = [row for row, task in self.rows if not (task.cancelled() or task.exception())]
            with contextlib.suppress(OSError):  # a full disk has raised an error before
                self._add_to_page(done)
        if complete and self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
            self.busy = sum(begin.elapsed_time(end) for begin, end in self.spans) / 1000

    def add(self, visuals: dict[str, object], image_path: list[str] | str) -> list[str]:
        """Take a batch's pictures, as `save_images` does; wait only if too many bytes wait for the threads."""
        pictures, ready = fetch(visuals)
        with uninterrupted():
            rows = list(name_rows(self.webpage, pictures, image_path))
            for row in rows:
                self.rows.append((row, self.pool.submit(self._write, row, ready)))
                self.waiting += row.size
        if self.use_wandb:
            if ready:
                ready.synchronize()
            log_to_wandb({label: [three_channels(image) for image in images] for label, images in pictures.items()})
        if time.perf_counter() > self.due:
            self._show()
        while self.waiting > MAX_WAITING and len(self.rows) > 1:
            self._show(at_least_one=True)
        return [row.name for row in rows]

    def _write(self, row: Row, ready: torch.cuda.Event | None) -> None:
        if ready:
            ready.synchronize()
        write_row(self.webpage, row, self.aspect_ratio)

    def _show(self, at_least_one: bool = False) -> None:
        """Show the first rows whose pictures are written; raise the threads' errors. `at_least_one` waits for it."""
        written = []
        for row, task in self.rows:
            if not (task.done() or (at_least_one and not written)):
                break
            task.result()
            written.append(row)
        if written:
            self._add_to_page(written)

    def _add_to_page(self, rows: list[Row]) -> None:
        """Add the first of the waiting rows and save the page; a Ctrl-C takes effect afterwards."""
        with uninterrupted():
            for row in rows:
                show_row(self.webpage, row, self.width)
                self.waiting -= row.size
                self.rows.popleft()
            self.webpage.save()
        self.due = time.perf_counter() + SAVE_INTERVAL

    # ---- how long the device works ----

    @contextlib.contextmanager
    def running(self):
        """Count the body as the device's work. CUDA measures its times by events, so nothing waits for it.

        On a CPU the network needs all cores at once, and another thread would delay them. So pictures are written
        there while images are loaded, and not while the network runs.
        """
        if self.device.type == "cpu":
            wait([task for _, task in self.rows])
        if self.device.type == "cuda":
            begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
            begin.record(torch.cuda.current_stream(self.device))
            yield
            end.record(torch.cuda.current_stream(self.device))
            self.spans.append((begin, end))
            return
        begin = time.perf_counter()
        yield
        if self.device.type == "mps":
            torch.mps.synchronize()
        self.busy += time.perf_counter() - begin


def fetch(visuals: dict[str, object]) -> tuple[Pictures, torch.cuda.Event | None]:
    """Begin to copy visuals to uint8 arrays (N, H, W, C); on CUDA the arrays are filled once the event has passed."""
    pictures, ready = {}, None
    for label, visual in visuals.items():
        if isinstance(visual, torch.Tensor):
            pictures[label] = to_bytes(visual).to("cpu", non_blocking=visual.is_cuda).numpy()  # pinned memory, on CUDA
        else:
            pictures[label] = to_pictures(visual)
    devices = {visual.device for visual in visuals.values() if isinstance(visual, torch.Tensor) and visual.is_cuda}
    for device in devices:
        ready = torch.cuda.Event(blocking=True)  # a thread that waits for it sleeps
        ready.record(torch.cuda.current_stream(device))
    return pictures, ready


@contextlib.contextmanager
def uninterrupted():
    """Delay a Ctrl-C until the body ends."""
    former = signal.getsignal(signal.SIGINT)
    if threading.current_thread() is not threading.main_thread() or not callable(former):
        yield
        return
    received = []
    signal.signal(signal.SIGINT, lambda *call: received.append(call))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, former)
        if received:
            former(*received[0])
