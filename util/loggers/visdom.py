"""visdom: draws in a server that the user has started, and never waits for it."""

from __future__ import annotations

import argparse
import atexit
import contextlib
import html
import json
import logging
import math
import queue
import threading
import time
from urllib.parse import urlsplit

import numpy as np

from util.loggers.base import Pictures, Say, Sink, Step
from util.loggers.run_summary import run_header
from util.loggers.visuals import contact_sheet
from util.runtime.run_facts import run_facts

TIMEOUT = 1.0  # seconds, of every request to the server
Cells = list[tuple[str, np.ndarray]]


class VisdomSink(Sink):
    """Draw in a visdom server from a separate thread.

    Windows: the losses in `display_id`, the images in the next (one each from there when `display_ncols` <= 0), their
    labels in the one after. Windows named `display_id` and a word: `run` describes the run, `lr` is the learning rate,
    `validation/<metric>` and `validation` are scores and images of the split val. The caller only puts a job in a
    queue; a full queue drops it.
    """

    def __init__(self, opt: argparse.Namespace, say: Say):
        """Look for the server for at most a second, set `alive`, and print one line about it."""
        server = opt.display_server if "://" in opt.display_server else f"http://{opt.display_server}"
        self.url, self.say, self.name = f"{server}:{opt.display_port}", say, opt.name
        self.window, self.ncols = opt.display_id, opt.display_ncols
        self.jobs: queue.Queue = queue.Queue(maxsize=32)
        self.drawn: dict[str, list[str]] = {}  # window -> names of its curves
        self.resumed = False  # whether a window may hold the curves of this run's first part
        self.vis = connect(server, opt.display_port, getattr(opt, "display_env", "main"))
        self.alive = self.vis is not None
        if not self.alive:
            start = "start one with `python -m visdom.server`"
            say(f"visdom: no server at {self.url} ({start}); continuing without it")
            return
        say(f"visdom: showing this run at {self.url}")
        self.thread = threading.Thread(target=self._work, name="visdom", daemon=True)
        self.thread.start()
        atexit.register(self.close)
        differing = {name: value for name, (value, _) in run_facts(opt).differing.items()}
        header = run_header(opt)
        self._put(self._draw_header, header, {**header["options"], **differing})

    def cut(self, total_iters: float, epoch: float = math.inf) -> None:
        """Continue the curves of a resumed run, if the server still has them."""
        self.resumed = total_iters > 0

    def losses(self, step: Step, losses: dict[str, float]) -> None:
        """Add a point to the plot of the losses, at epoch + share of the epoch."""
        self._put(self._draw_losses, step.x + 1, dict(losses), step.lr)

    def images(self, step: Step, pictures: Pictures) -> None:
        self._put(self._draw_images, pictures)

    def validation(self, step: Step, values: dict[str, float], pictures: Pictures) -> None:
        """Add a point to the plot of each metric, at the end of the epoch, and show the images, a row each."""
        self._put(self._draw_validation, step.epoch, dict(values), pictures)

    def close(self, epochs: int = 0) -> None:
        """Give waiting jobs two seconds to be sent."""
        if self.alive:
            end = time.monotonic() + 2
            with contextlib.suppress(queue.Full):
                self.jobs.put((None,), timeout=2)
            self.thread.join(timeout=max(end - time.monotonic(), 0))
            self.alive = False

    def _put(self, *job: object) -> None:
        if self.alive:
            with contextlib.suppress(queue.Full):  # a slow server misses a picture; training does not wait for it
                self.jobs.put_nowait(job)

    def _work(self) -> None:
        """Send one job after the other, until the server fails."""
        while True:
            action, *args = self.jobs.get()
            if action is None:
                return
            try:
                action(*args)
            except Exception as error:
                self.alive = False
                self.say(f"warning: visdom: the server at {self.url} failed ({error}); continuing without it")
                return

    # ---- in the thread ----

    def _draw_header(self, header: dict, options: dict) -> None:
        """Describe the run. visdom shows HTML, so every text is escaped."""
        rows = {"model": header["model"], **options, "device": header["device"], **header["versions"]}
        cells = [f"<tr><td>{escaped(k)}&emsp;</td><td>{escaped(v)}</td></tr>" for k, v in rows.items() if v != ""]
        text = f"<h4>{escaped(header['name'])}</h4><p><code>{escaped(header['command'])}</code></p>"
        self._write("run", f"{text}<table>{''.join(cells)}</table>", f"{self.name} run")

    def _write(self, window: str | int, text: str, title: str) -> None:
        win = str(self.window + window) if isinstance(window, int) else f"{self.window} {window}"
        self.vis.text(text, win=win, opts={"title": title})

    def _draw_losses(self, x: float, losses: dict[str, float], lr: float | None) -> None:
        self._add_point(str(self.window), x, losses, f"{self.name} loss over time", "loss")
        if lr is not None:
            self._add_point(f"{self.window} lr", x, {"lr": lr}, f"{self.name} learning rate", "lr")

    def _draw_validation(self, epoch: int, values: dict[str, float], pictures: Pictures) -> None:
        for name, value in values.items():  # one plot each: their scales differ
            name = f"validation/{name}"
            self._add_point(f"{self.window} {name}", epoch + 1, {name: value}, f"{self.name} {name}", name)
        if pictures:
            title = f"{self.name} validation, after epoch {epoch}"
            self._draw_sheet(f"{self.window} validation", title, in_rows(cells_of(pictures), len(pictures)))

    def _add_point(self, win: str, x: float, values: dict[str, float], title: str, unit: str) -> None:
        """Add a point to each curve of a window; a changed list of curves starts the plot again."""
        names = list(values)
        xs, ys, known = [x], [list(values.values())], self.drawn.get(win) == names
        if self.resumed and win not in self.drawn:
            earlier = self._earlier(win, title, names, x)
            xs, ys = [px for px, _ in earlier] + xs, [row for _, row in earlier] + ys
        xs, ys = np.repeat(np.array(xs, float)[:, None], len(names), axis=1), np.array(ys, float)
        opts = {"title": title, "legend": names, "xlabel": "epoch", "ylabel": unit}
        self.vis.line(Y=ys, X=xs, win=win, opts=opts, update="append" if known else None)
        self.drawn[win] = names

    def _earlier(self, win: str, title: str, names: list[str], x: float) -> list[tuple[float, list[float]]]:
        """Return the points before `x` that a window shows of this run."""
        shown = json.loads(self.vis.get_window_data(win)) if self.vis.win_exists(win) else {}
        traces = {trace.get("name"): trace for trace in (shown.get("content") or {}).get("data", [])}
        if shown.get("title") != title or list(traces) != names:
            return []
        points = zip(traces[names[0]]["x"], *(traces[name]["y"] for name in names), strict=True)
        return [(px, list(row)) for px, *row in points if px < x]

    def _draw_images(self, pictures: Pictures) -> None:
        cells = cells_of(pictures)
        if self.ncols <= 0:
            for i, (label, image) in enumerate(cells, start=1):
                opts = {"title": label, "caption": label}
                self.vis.image(image.transpose(2, 0, 1), win=str(self.window + i), opts=opts)
            return
        rows = in_rows(cells, self.ncols)
        self._draw_sheet(str(self.window + 1), f"{self.name} images", rows)
        table = "".join(f"<tr>{''.join(f'<td>{escaped(label)}</td>' for label, _ in row)}</tr>" for row in rows)
        self._write(2, f"<table>{table}</table>", f"{self.name} labels")

    def _draw_sheet(self, win: str, title: str, rows: list[Cells]) -> None:
        """Show pictures in rows, each under its label."""
        sheet = np.array(contact_sheet(rows))  # (H, W, 3)
        caption = ", ".join(label for row in rows for label, _ in row)
        self.vis.image(sheet.transpose(2, 0, 1), win=win, opts={"title": title, "caption": caption})


def escaped(value: object) -> str:
    """Escape a value for HTML; bytes that are not UTF-8 become question marks."""
    return html.escape(str(value).encode("utf-8", "replace").decode())


def cells_of(pictures: Pictures) -> Cells:
    """Return pictures under their labels, one item of the batch after the other."""
    return [
        (f"{label} {i}" if i else label, images[i])
        for i in range(max(map(len, pictures.values()), default=0))
        for label, images in pictures.items()
        if i < len(images)
    ]


def in_rows(cells: Cells, columns: int) -> list[Cells]:
    """Cut a list into rows."""
    return [cells[i : i + columns] for i in range(0, len(cells), columns)]


def connect(server: str, port: int, env: str):
    """Return a visdom client, or None where no visdom server answers within a second."""
    answer: list = []

    def ask() -> None:
        try:
            import requests  # visdom's own way to its server

            session = requests.Session()
            # A proxy must not come between this machine and its own server.
            session.trust_env = urlsplit(server).hostname not in ("localhost", "127.0.0.1", "::1")
            reply = session.post(f"{server}:{port}/env_state", data="{}", timeout=TIMEOUT)
            if isinstance(reply.json(), list):  # the names of visdom's environments
                answer.append(session)
        except Exception:
            return  # whatever answered is not a visdom server

    asking = threading.Thread(target=ask, daemon=True)  # looking up a host name ignores time-outs
    asking.start()
    asking.join(timeout=TIMEOUT)
    return make_client(server, port, env, answer[0]) if answer else None


def make_client(server: str, port: int, env: str, session):
    """Make a visdom client that sends through `session`, waits no longer than TIMEOUT and listens to nothing."""
    logging.getLogger("visdom").setLevel(logging.ERROR)
    try:
        import visdom
    except ImportError:
        return None

    class Client(visdom.Visdom):
        def _handle_post(self, url, data=None):
            try:
                reply = session.post(url, data=data or {}, timeout=TIMEOUT)
                reply.raise_for_status()
            except OSError as error:  # what requests raises; visdom would print it, for some calls
                raise RuntimeError(type(error).__name__) from error
            return reply.text

    try:
        return Client(server=server, port=port, env=env, raise_exceptions=True, use_incoming_socket=False)
    except Exception:
        return None  # it answered once, then stopped
