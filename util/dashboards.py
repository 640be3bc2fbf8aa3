"""The dashboards that a user may have: visdom, Weights & Biases, TensorBoard. None can hold up or end a run."""

from __future__ import annotations

import argparse
import atexit
import contextlib
import html
import importlib
import logging
import os
import queue
import threading
import time
from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np

from util.pictures import Pictures, Step, contact_sheet
from util.util import UserError

Say = Callable[[str], None]
TIMEOUT = 1.0  # seconds, of every request to a visdom server


class Guard:
    """Call a logger so that its failures cost one warning, and no run."""

    def __init__(self, name: str, say: Say):
        self.name, self.say = name, say
        self.warned = False

    def __call__(self, action: Callable, *args):
        """Return the action's result; None when it failed."""
        try:
            return action(*args)
        except UserError:
            raise
        except Exception as error:
            if not self.warned:
                self.say(f"warning: {self.name}: {type(error).__name__}: {error} (the run goes on)")
            self.warned = True
            return None


def need(module: str, package: str, flag: str):
    """Import an optional package; where it is missing, raise a UserError with the command that installs it."""
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise UserError(f"{flag} needs the package {package} ({error}). Install it: pip install {package}") from None


def plain_options(opt: argparse.Namespace) -> dict[str, object]:
    """Return the options as values that every logger takes."""
    plain = (bool, int, float, str, type(None))
    options = {key: value for key, value in sorted(vars(opt).items()) if key not in ("given", "typed", "differing")}
    return {key: value if isinstance(value, plain) else str(value) for key, value in options.items()}


# ---- visdom ----


class VisdomSink:
    """Draw in a visdom server that the user has started, from a thread of its own.

    Windows: the losses in `display_id`, the images in the next (one each from there when `display_ncols` <= 0), their
    labels in the one after. Whatever the server does, the caller only puts a job in a queue, or drops it where that is
    full.
    """

    def __init__(self, opt: argparse.Namespace, say: Say):
        """Look for the server for at most a second; `alive` tells whether it was found, and one line says so."""
        server = opt.display_server if "://" in opt.display_server else f"http://{opt.display_server}"
        self.url, self.say, self.name = f"{server}:{opt.display_port}", say, opt.name
        self.window, self.ncols = opt.display_id, opt.display_ncols
        self.jobs: queue.Queue = queue.Queue(maxsize=32)
        self.legend: list[str] = []
        self.measured: set[str] = set()  # metrics that have a plot
        self.vis = connect(server, opt.display_port, getattr(opt, "display_env", "main"))
        self.alive = self.vis is not None
        if not self.alive:
            start = "start one with `python -m visdom.server`"
            say(f"visdom: no server at {self.url} ({start}); going on without it")
            return
        say(f"visdom: showing this run at {self.url}")
        self.thread = threading.Thread(target=self._work, name="visdom", daemon=True)
        self.thread.start()
        atexit.register(self.close)

    def losses(self, step: Step, losses: dict[str, float]) -> None:
        """Add a point to the plot of the losses, at epoch + share of the epoch."""
        self._put(self._draw_losses, step.x + 1, dict(losses))

    def images(self, step: Step, pictures: Pictures) -> None:
        """Show the images of one step in place of the last ones."""
        self._put(self._draw_images, pictures)

    def validation(self, step: Step, values: dict[str, float], pictures: Pictures) -> None:
        """Add a point to the plot of each metric."""
        self._put(self._draw_validation, step.epoch, dict(values))

    def close(self) -> None:
        """Give what waits two seconds to be sent."""
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
                self.say(f"warning: visdom: the server at {self.url} failed ({error}); going on without it")
                return

    def _draw_losses(self, x: float, losses: dict[str, float]) -> None:
        names = list(losses)
        known, self.legend = names == self.legend, names
        opts = {"title": f"{self.name} loss over time", "legend": names, "xlabel": "epoch", "ylabel": "loss"}
        place, values = np.full((1, len(names)), x), np.array([list(losses.values())])
        self.vis.line(Y=values, X=place, win=str(self.window), opts=opts, update="append" if known else None)

    def _draw_validation(self, epoch: int, values: dict[str, float]) -> None:
        for name, value in values.items():  # a plot each: their scales have nothing in common
            opts = {"title": f"{self.name} validation {name}", "xlabel": "epoch", "ylabel": name}
            place, value = np.array([epoch]), np.array([value])
            update = "append" if name in self.measured else None
            self.vis.line(Y=value, X=place, win=f"{self.window} validation {name}", opts=opts, update=update)
            self.measured.add(name)

    def _draw_images(self, pictures: Pictures) -> None:
        cells = [
            (f"{label} {i}" if i else label, images[i])
            for i in range(max(map(len, pictures.values()), default=0))
            for label, images in pictures.items()
            if i < len(images)
        ]
        if self.ncols <= 0:
            for i, (label, image) in enumerate(cells, start=1):
                opts = {"title": label, "caption": label}
                self.vis.image(image.transpose(2, 0, 1), win=str(self.window + i), opts=opts)
            return
        rows = [cells[i : i + self.ncols] for i in range(0, len(cells), self.ncols)]
        sheet = np.array(contact_sheet(rows))  # (H, W, 3)
        title = f"{self.name} images"
        caption = ", ".join(label for label, _ in cells)
        opts = {"title": title, "caption": caption}
        self.vis.image(sheet.transpose(2, 0, 1), win=str(self.window + 1), opts=opts)
        table = "".join(f"<tr>{''.join(f'<td>{html.escape(label)}</td>' for label, _ in row)}</tr>" for row in rows)
        self.vis.text(f"<table>{table}</table>", win=str(self.window + 2), opts={"title": f"{self.name} labels"})


def connect(server: str, port: int, env: str):
    """Return a visdom client, or None where no visdom server answers within a second."""
    answer: list = []

    def ask() -> None:
        try:
            import requests  # visdom's own way to its server

            session = requests.Session()
            # A proxy for the outer world would only be in the way of a server on this machine.
            session.trust_env = urlsplit(server).hostname not in ("localhost", "127.0.0.1", "::1")
            reply = session.post(f"{server}:{port}/env_state", data="{}", timeout=TIMEOUT)
            if isinstance(reply.json(), list):  # the names of visdom's environments
                answer.append(session)
        except Exception:
            return  # whatever came, it was no visdom server

    asking = threading.Thread(target=ask, daemon=True)  # a name server may take longer than any time-out says
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
        return None  # it answered once and no more


# ---- Weights & Biases ----


def start_wandb(opt: argparse.Namespace, say: Say = print):
    """Start or join a W&B run and return the module; offline where there is no API key, without asking for one."""
    wandb = need("wandb", "wandb", "--use_wandb")
    if wandb.run is not None:
        return wandb
    mode = None
    if not os.environ.get("WANDB_MODE") and not has_wandb_key(wandb):
        mode = "offline"
        say("wandb: no API key is configured (`wandb login`): logging offline; `wandb sync` uploads it later")
    wandb.init(project=opt.wandb_project_name, name=opt.name, config=plain_options(opt), mode=mode)
    return wandb


def has_wandb_key(wandb) -> bool:
    """Whether W&B would not have to ask who the user is."""
    try:
        return bool(wandb.login(prompt=False, verify=False))
    except TypeError:  # before these arguments
        return bool(wandb.api.api_key)


class WandbSink:
    """Log to Weights & Biases: losses under their names, images as results/<label>, by images trained on."""

    alive = True

    def __init__(self, opt: argparse.Namespace, say: Say):
        """Start the run; raise UserError without the package."""
        self.wandb = start_wandb(opt, say)

    def losses(self, step: Step, losses: dict[str, float]) -> None:
        """Log one step's losses."""
        self.wandb.log(dict(losses), step=step.total_iters)

    def images(self, step: Step, pictures: Pictures) -> None:
        """Log one step's images."""
        self.wandb.log(wandb_images(self.wandb, pictures), step=step.total_iters)

    def validation(self, step: Step, values: dict[str, float], pictures: Pictures) -> None:
        """Log metrics as validation/<name>, images as validation/<label>."""
        named = {f"validation/{name}": value for name, value in values.items()}
        self.wandb.log(named | wandb_images(self.wandb, pictures, "validation"), step=step.total_iters)


def wandb_images(wandb, pictures: Pictures, folder: str = "results") -> dict[str, list]:
    """Wrap pictures for W&B."""
    return {f"{folder}/{label}": [wandb.Image(image) for image in images] for label, images in pictures.items()}


# ---- TensorBoard ----


class TensorboardSink:
    """Write event files to <experiment>/tensorboard: losses under their names, images as results/<label>."""

    alive = True

    def __init__(self, opt: argparse.Namespace, folder: str | Path):
        """Import the package; raise UserError without it."""
        need("tensorboard", "tensorboard", "--use_tensorboard")
        self.tensorboard = need("torch.utils.tensorboard", "tensorboard", "--use_tensorboard")
        self.opt, self.folder = opt, Path(folder) / "tensorboard"
        self.done = 0  # images trained on when this run begins
        self._writer = None

    def cut(self, total_iters: int, epoch: int = 0) -> None:
        """Hide what an earlier run logged beyond `total_iters` images."""
        self.done = total_iters

    @property
    def writer(self):
        """The event file, begun with the first entry; what lies beyond where the run goes on is hidden."""
        if self._writer is None:
            purge = self.done + 1 if self.done else None
            self._writer = self.tensorboard.SummaryWriter(str(self.folder), purge_step=purge, flush_secs=10)
            lines = "\n".join(f"    {key}: {value}" for key, value in plain_options(self.opt).items())
            self._writer.add_text("options", lines, self.done)
            atexit.register(self._writer.close)
        return self._writer

    def close(self) -> None:
        """Write what is left."""
        self.writer.close()

    def losses(self, step: Step, losses: dict[str, float]) -> None:
        """Log one step's losses."""
        for name, value in losses.items():
            self.writer.add_scalar(name, value, step.total_iters)

    def images(self, step: Step, pictures: Pictures) -> None:
        """Log one step's images."""
        for label, images in pictures.items():
            self.writer.add_images(f"results/{label}", np.stack(images), step.total_iters, dataformats="NHWC")

    def validation(self, step: Step, values: dict[str, float], pictures: Pictures) -> None:
        """Log metrics as validation/<name>, images as validation/<label>."""
        for name, value in values.items():
            self.writer.add_scalar(f"validation/{name}", value, step.total_iters)
        for label, images in pictures.items():
            for i, image in enumerate(images):  # their sizes may differ
                self.writer.add_image(f"validation/{label}/{i}", image, step.total_iters, dataformats="HWC")
