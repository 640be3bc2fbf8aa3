"""Read thousands of damaged image files: each is an image or a UserError that names it, soon and in bounded memory.

Every reading process is a fork, so a decoder that crashes or hangs is noticed, and the next file is read.
"""

from __future__ import annotations

import io
import json
import os
import random
import re
import resource
import select
import signal
import struct
import sys
import tempfile
import time
import zlib
from pathlib import Path
from typing import NamedTuple

import numpy as np
from faults.driver import damage
from PIL import Image, features

from data.formats import pillow
from util.errors import UserError

MOST_SECONDS, MOST_MEMORY = 2.0, 2**30
HANGING = 20  # seconds, after which a reader is ended


class Outcome(NamedTuple):
    """The outcome of a file: `text` is `MODE WxH` with its first pixel, or the UserError, or anything else, which is
    a violation; `noise` is what was written to stdout and stderr meanwhile."""

    text: str
    seconds: float  # of the processor
    memory: int  # bytes by which the reading process had grown at most
    noise: str = ""

    def is_image(self) -> bool:
        """Whether an image was read."""
        return self.text.startswith("RGB ")

    def violates(self, path: Path) -> bool:
        """Whether this is anything but an image or an error that names its file, soon and in bounded memory."""
        named = self.text.startswith(f"cannot read {path}: ")
        noisy = any(" (said once)" not in line for line in self.noise.splitlines())
        bounded = self.seconds <= MOST_SECONDS and self.memory <= MOST_MEMORY
        return not (self.is_image() or named) or noisy or not bounded


def read_one(path: Path) -> str:
    """Read a file and say what came of it."""
    try:
        image = pillow.load(path)
        assert (type(image.size), image.getbands()) == (tuple, ("R", "G", "B"))
        return f"{image.mode} {image.width}x{image.height} {image.getpixel((0, 0))}"
    except UserError as error:
        return str(error)
    except BaseException as error:  # whatever it is, it is what is looked for here
        return f"raised {type(error).__name__}: {error}"


def read_all(paths: list[Path], reader=read_one) -> list[Outcome]:
    """Read the files one by one in a forked process, and in another one behind a file at which that ended."""
    outcomes: list[Outcome] = []
    while len(outcomes) < len(paths):
        ears, mouth = os.pipe()
        child = os.fork()
        if child == 0:
            os.close(ears)
            _read_in_child(paths[len(outcomes) :], reader, mouth)
        os.close(mouth)
        outcomes += _listen(ears, child)
        _, status = os.waitpid(child, 0)
        if len(outcomes) < len(paths):
            outcomes.append(Outcome(f"ended its process: {os.waitstatus_to_exitcode(status)}", HANGING, 0))
    return outcomes


def _read_in_child(paths: list[Path], reader, mouth: int) -> None:
    with tempfile.TemporaryFile() as noise:
        for number in (1, 2):  # including the output of C libraries
            os.dup2(noise.fileno(), number)
        sys.stdout = io.TextIOWrapper(open(1, "wb", 0), errors="backslashreplace", write_through=True)  # noqa: SIM115
        sys.stderr = sys.stdout
        heard = 0
        for path in paths:
            before = _peak(anew=True)
            began = time.process_time()  # of this process alone: a busy machine is no fault of an image
            text = reader(path)
            seconds = time.process_time() - began
            said = os.pread(noise.fileno(), 2**20, heard)
            heard += len(said)
            line = [text, seconds, _peak() - before, said.decode(errors="replace")]
            os.write(mouth, json.dumps(line).encode() + b"\n")
    os._exit(0)


def _peak(anew: bool = False) -> int:
    """Return the most bytes that this process has held, since it was last asked `anew` where Linux can tell."""
    try:
        if anew:
            Path("/proc/self/clear_refs").write_text("5")
        status = Path("/proc/self/status").read_text()
        return int(re.search(r"VmHWM:\s*(\d+) kB", status)[1]) * 1024
    except OSError:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def _listen(ears: int, child: int) -> list[Outcome]:
    """Collect a child's outcomes until it ends; one that hangs is ended."""
    lines = b""
    with open(ears, "rb", buffering=0) as pipe:
        while True:
            if not select.select([pipe], [], [], HANGING)[0]:
                os.kill(child, signal.SIGKILL)
            piece = pipe.read(2**16)
            if not piece:
                return [Outcome(*json.loads(line)) for line in lines.splitlines(keepends=True) if line.endswith(b"\n")]
            lines += piece


# ---- files, and how they are damaged ----


def picture(width: int = 24, height: int = 16, seed: int = 0) -> Image.Image:
    """Draw something that is neither flat nor noise."""
    small = np.random.default_rng(seed).integers(0, 256, (4, 5, 3), dtype=np.uint8)
    return Image.fromarray(small).resize((width, height), Image.Resampling.BICUBIC)


def encoded(image: Image.Image, kind: str, **options) -> bytes:
    """Return an image as the bytes of a file."""
    box = io.BytesIO()
    image.save(box, kind, **options)
    return box.getvalue()


def seeds() -> dict[str, bytes]:
    """Return a good file of each kind: twelve formats, the same ones in several variants."""
    rgb, frames = picture(), [picture(seed=1), picture(seed=2)]
    exif = Image.Exif()
    exif[0x0112], exif[0x010E] = 6, "a description"
    several = {"save_all": True, "append_images": frames}
    files = {
        "JPEG": encoded(rgb, "JPEG", exif=exif),
        "JPEG progressive": encoded(rgb, "JPEG", progressive=True),
        "MPO": encoded(rgb, "MPO", **several),
        "PNG": encoded(rgb, "PNG"),
        "PNG palette": encoded(rgb.convert("P"), "PNG", transparency=3),
        "PNG 16 bit": encoded(Image.fromarray(np.arange(384, dtype=np.uint16).reshape(16, 24) * 170), "PNG"),
        "APNG": encoded(rgb, "PNG", **several),
        "GIF": encoded(rgb, "GIF", **several),
        "BMP": encoded(rgb, "BMP"),
        "TIFF": encoded(rgb, "TIFF"),
        "TIFF LZW": encoded(rgb, "TIFF", compression="tiff_lzw"),
        "TIFF group 4": encoded(rgb.convert("1"), "TIFF", compression="group4"),
        "TIFF float": encoded(rgb.convert("F"), "TIFF"),
        "WEBP": encoded(rgb, "WEBP"),
        "WEBP lossless, animated": encoded(rgb.convert("RGBA"), "WEBP", lossless=True, **several),
        "PPM": encoded(rgb, "PPM"),
        "ICO": encoded(rgb, "ICO", sizes=[(16, 16)]),
        "TGA": encoded(rgb, "TGA"),
        "EPS": encoded(rgb, "EPS"),
    }
    if features.check("avif"):
        files["AVIF"] = encoded(rgb, "AVIF")
    return files


def mutant(good: bytes, rng: random.Random) -> bytes:
    """Damage a file; headers hold sizes, counts and offsets, so half of the damage goes there."""
    bad = damage(good, rng, 0, min(len(good), 64) if rng.random() < 0.5 else len(good))
    # A wrong checksum ends the reading of a PNG at once; half of them get the right ones.
    return with_checksums(bad) if bad.startswith(b"\x89PNG") and rng.random() < 0.5 else bad


def with_checksums(png: bytes) -> bytes:
    """Return a PNG with each whole chunk's checksum made right."""
    parts, place = [png[:8]], 8
    while place + 12 <= len(png):
        length = struct.unpack_from(">I", png, place)[0]
        chunk = png[place + 4 : place + 8 + length]
        if len(chunk) < 4 + length:
            break
        parts.append(struct.pack(">I", length) + chunk + struct.pack(">I", zlib.crc32(chunk)))
        place += 12 + length
    return b"".join(parts) + png[place:]


def mutants(count: int, folder: Path, seed: int = 0) -> list[Path]:
    """Write `count` damaged files, of all kinds in turn, and return their paths."""
    rng, files = random.Random(seed), seeds()
    kinds, paths = list(files), []
    for i in range(count):
        kind = kinds[i % len(kinds)]
        path = folder / f"{i:05d} {kind}.png"
        path.write_bytes(mutant(files[kind], rng))
        paths.append(path)
    return paths


def campaign(count: int = 6_000) -> list[tuple[str, int, int, str]]:
    """Return a row for each kind of file."""
    with tempfile.TemporaryDirectory() as folder:
        paths = mutants(count, Path(folder))
        outcomes = read_all(paths)
    rows = []
    for kind in seeds():
        those = [(path, outcome) for path, outcome in zip(paths, outcomes, strict=True) if path.stem[6:] == kind]
        wrong = [(path, outcome) for path, outcome in those if outcome.violates(path)]
        for path, outcome in wrong:
            print(f"{path.name}: {outcome}")
        good = sum(outcome.is_image() for _, outcome in those)
        seconds, memory = (max(getattr(outcome, name) for _, outcome in those) for name in ("seconds", "memory"))
        remark = f"{good} read, the rest refused by name; at most {seconds:.2f} s, {memory / 2**20:.0f} MB"
        rows.append((f"{kind} files, damaged", len(those), len(wrong), remark))
        print(*rows[-1], sep=" | ", flush=True)
    return rows
