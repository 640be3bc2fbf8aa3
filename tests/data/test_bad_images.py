"""Image files of all kinds are read, or refused with name and reason, in bounded time and memory."""

from __future__ import annotations

import os
import re
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from conftest import make_image, names
from data_options import data_options
from experiments import trained_copy
from faults.images import Outcome, encoded, picture, read_all, with_checksums
from PIL import Image, features
from terminal import copy_tree, shown_rows, type_fast

import data
from data.formats import pillow
from util.errors import UserError

RGB = picture()  # 24x16
PNG, JPEG = encoded(RGB, "PNG"), encoded(RGB, "JPEG")
KINDS = {"png": "PNG", "jpg": "JPEG", "bmp": "BMP", "tif": "TIFF", "webp": "WEBP", "ppm": "PPM", "gif": "GIF"}
GOOD = {suffix: encoded(RGB, kind) for suffix, kind in KINDS.items()}
DAMAGED = "it is damaged, or none of JPEG, PNG,"
LARGE = r"megapixels, and at most \d+.* are read. Make it"
CUT = "truncated|is damaged|cut short|data end before|"
CUT += "decoder error|not enough|could not create decoder|failed to read|Truncated File Read|broken data stream"


# ---- files that no program writes ----


def png(width, height, *chunks, depth=8, colour=2):
    """A PNG of a header and the given chunks (type, data)."""
    parts = [(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)), *chunks, (b"IEND", b"")]
    return with_checksums(
        b"\x89PNG\r\n\x1a\n" + b"".join(struct.pack(">I", len(d)) + t + d + bytes(4) for t, d in parts)
    )


def tiff(width, height, tags=()):
    """A little-endian TIFF of 8-bit grey with one strip of four bytes; `tags` (number, type, count, value) on top."""
    entries = {256: (4, 1, width), 257: (4, 1, height), 258: (3, 1, 8), 259: (3, 1, 1), 262: (3, 1, 1)}
    entries |= {273: (4, 1, 8), 277: (3, 1, 1), 278: (4, 1, height), 279: (4, 1, 4)}
    entries |= {number: rest for number, *rest in tags}
    fields = b"".join(struct.pack("<HHII", number, *rest) for number, rest in sorted(entries.items()))
    return b"II*\0" + struct.pack("<I", 12) + b"\1\2\3\4" + struct.pack("<H", len(entries)) + fields + bytes(4)


def bmp(width, height, compression=0, data=b""):
    """A BMP of 8 bits a pixel with one colour."""
    header = struct.pack("<IiiHHIIiiII", 40, width, height, 1, 8, compression, 0, 0, 0, 1, 0)
    return b"BM" + struct.pack("<IHHI", 58 + len(data), 0, 0, 58) + header + b"\1\2\3\0" + data


def webp(width, height):
    """An animated WebP whose canvas is `width` x `height`, with one small frame."""
    sides = b"".join(struct.pack("<I", side)[:3] for side in (width - 1, height - 1))
    frame = bytes(6) + b"".join(struct.pack("<I", n)[:3] for n in (23, 15, 100)) + b"\0"
    frame += encoded(RGB, "WEBP", lossless=True)[12:]
    parts = [(b"VP8X", b"\2\0\0\0" + sides), (b"ANIM", bytes(6)), (b"ANMF", frame)]
    body = b"WEBP" + b"".join(kind + struct.pack("<I", len(data)) + data for kind, data in parts)
    return b"RIFF" + struct.pack("<I", len(body)) + body


def jpeg(width, height):
    """The JPEG above with another size in its header."""
    start = JPEG.index(b"\xff\xc0") + 5
    return JPEG[:start] + struct.pack(">HH", height, width) + JPEG[start + 4 :]


def scans(count):
    """A progressive JPEG whose last scan is repeated: each goes over 4 megapixels again, in a hundred bytes."""
    good = encoded(Image.new("L", (2000, 2000), 77), "JPEG", progressive=True)
    return good[:-2] + good[good.rindex(b"\xff\xda") : -2] * count + good[-2:]


def turned(orientation):
    """The picture with a rotation noted in EXIF."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    return encoded(RGB, "JPEG", exif=exif)


def deep(values):
    return encoded(Image.fromarray(np.array(values, np.float32)), "TIFF")


def premultiplied():
    """A TIFF of 1x1, RGBA, the colours multiplied by the transparency (ExtraSamples 1): 50 % of (200, 100, 0)."""
    tags = [(258, 3, 1, 8), (262, 3, 1, 2), (277, 3, 1, 4), (338, 3, 1, 1), (279, 4, 1, 4)]
    return tiff(1, 1, tags).replace(b"\1\2\3\4", bytes([100, 50, 0, 128]), 1)


def rgb16():
    """A PNG with 16 bits of each colour."""
    return png(1, 1, (b"IDAT", zlib.compress(b"\0" + struct.pack(">HHH", 65535, 32768, 256))), depth=16)


def idat(size):
    return (b"IDAT", zlib.compress(bytes(size), 9))


HEIC = b"\0\0\0\x18ftypheic\0\0\0\0mif1heic"
ALPHA = RGB.convert("RGBA")
ALPHA.putalpha(Image.linear_gradient("L").resize(RGB.size))
FRAMES = {"save_all": True, "append_images": [Image.new("RGB", RGB.size, "blue")]}
STILL = Image.new("RGB", RGB.size, "red")
THROUGHOUT = "RGB 24x16"
RED = r"RGB 24x16 \((25[2-5]), [0-3], [0-3]\)"

# name: (bytes or a function that makes the file; the image as text, or words of the error).
FILES: dict[str, tuple[object, str]] = {}
for suffix, good in GOOD.items():
    FILES |= {
        f"good.{suffix}": (good, THROUGHOUT),
        f"empty.{suffix}": (b"", "it is empty"),
        f"a_half.{suffix}": (good[: len(good) // 2], CUT),
        f"first_byte_flipped.{suffix}": (bytes([good[0] ^ 0xFF]) + good[1:], DAMAGED),
        f"bytes_behind.{suffix}": (good + b"bytes behind" * 99, THROUGHOUT),
    }
for suffix in ("png", "jpg", "bmp", "tif", "ppm"):  # GIF and WebP mark their end, and need no byte behind it
    FILES[f"all_but_the_end.{suffix}"] = (GOOD[suffix][:-50], CUT)
for suffix, other in {"jpg": "png", "png": "jpg", "bmp": "tif", "tif": "gif", "webp": "bmp", "ppm": "webp"}.items():
    FILES[f"in_truth_{other}.{suffix}"] = (GOOD[other], THROUGHOUT)
for orientation in range(1, 9):
    FILES[f"turned_{orientation}.jpg"] = (turned(orientation), "RGB 24x16" if orientation < 5 else "RGB 16x24")
FILES |= {
    # What says that it is huge.
    "bomb_30000.png": (png(30000, 30000, idat(99)), LARGE),
    "bomb.jpg": (jpeg(65500, 65500), LARGE),
    "bomb_progressive.jpg": (
        encoded(RGB, "JPEG", progressive=True).replace(struct.pack(">HH", 16, 24), struct.pack(">HH", 9500, 9500)),
        "it has 90 megapixels, and at most 89 of progressive JPEG, RGB are read",
    ),
    "bomb_scans.jpg": (scans(1_000), r"it is a JPEG of 10\d\d scans, and at most 100 are read"),
    "bomb.bmp": (bmp(30000, 30000), LARGE),
    "bomb_within_the_limit.bmp": (bmp(12000, 12000), "its header says 12000x12000 pixels, but its data end before"),
    "bomb.tif": (tiff(30000, 30000), LARGE),
    "bomb_tags.tif": (tiff(4, 1, [(270, 2, 2**31 - 1, 8)]), r"RGB 4x1 \(1, 1, 1\)"),
    "bomb.ppm": (b"P6 99999 99999 255\n\1\2\3", LARGE),
    "bomb.webp": (webp(16383, 16383), LARGE),
    "bomb_within_pillows_limit.webp": (webp(12000, 12000), "it has 144 megapixels, and at most 63 of WEBP, RGB"),
    "bomb.ico": (b"\0\0\1\0\1\0\0\0\0\0\1\0\x20\0\xff\xff\xff\x7f\x16\0\0\0" + png(30000, 30000), "of a rare format"),
    # What is small, and swells.
    "swelling_text.png": (
        png(1, 1, (b"zTXt", b"k\0\0" + zlib.compress(bytes(2 * 10**7))), idat(4)),
        "unpacks to more than a megabyte",
    ),
    "large_but_legal.png": (png(8000, 5000, idat(1001 * 5000), depth=1, colour=0), r"RGB 8000x5000 \(0, 0, 0\)"),
    "chunk_of_4_gb.png": (png(1, 1)[:33] + b"\xff\xff\xff\xffIDAT123", CUT),
    # Animations: the first frame.
    "animated.gif": (encoded(STILL, "GIF", **FRAMES), RED),
    "animated.webp": (encoded(STILL, "WEBP", **FRAMES), RED),
    "two_views.jpg": (encoded(STILL, "MPO", **FRAMES), RED),
    # Colours and depths.
    "palette_transparent.png": (encoded(STILL.convert("P"), "PNG", transparency=bytes(range(256))), RED),
    "alpha.png": (encoded(ALPHA, "PNG"), r"RGB 24x16 \({}, {}, {}\)".format(*ALPHA.getpixel((0, 0)))),
    "alpha_multiplied.tif": (premultiplied(), r"RGB 1x1 \((199|200), (99|100), 0\)"),
    "cmyk.jpg": (encoded(STILL.convert("CMYK"), "JPEG"), RED),
    "16_bit.png": (encoded(Image.fromarray(np.full((2, 3), 32896, np.uint16)), "PNG"), r"RGB 3x2 \(128, 128, 128\)"),
    "16_bit_colour.png": (rgb16(), r"RGB 1x1 \(255, 128, 1\)"),
    "not_a_number.tif": (deep([[0.5, np.nan]]), "it holds floats from nan to nan"),
    # Odd shapes.
    "one_pixel.png": (encoded(RGB.crop((0, 0, 1, 1)), "PNG"), "RGB 1x1"),
    # Broken notes beside sound pixels.
    "broken_exif.jpg": (turned(6).replace(b"Exif\0\0MM\0*", b"Exif\0\0ZZZZ"), THROUGHOUT),
    # What is no image, but has the name of one.
    "text.png": (b"just a text\n" * 9, DAMAGED),
    "page.jpg": (b"\n<!DOCTYPE html><html><body>404 not found</body></html>", "it is a web page, not an image"),
    "drawing.png": (b'<?xml version="1.0"?>\n<svg xmlns="http://www.w3.org/2000/svg"/>', "it is an SVG drawing"),
    "pointer.png": (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "type git lfs pull"),
    "photo.jpg": (HEIC, "a HEIC image needs the package pillow-heif|it is a HEIC image, which can't be read"),
    "archive.png": (b"PK\3\4", "it is a zip archive, not an image: unpack it"),
    "program.jpg": (encoded(RGB, "EPS"), "it is a PostScript file"),
    # What is no file.
    "missing.png": (lambda path: None, "No such file or directory"),
    "folder.png": (Path.mkdir, "it is not a file"),
    "pipe.png": (os.mkfifo, "it is not a file"),
    "linked.png": (lambda path: path.symlink_to("good.png"), THROUGHOUT),
    "n" * 251 + ".png": (PNG, THROUGHOUT),
    "n" * 252 + ".png": (lambda path: None, "File name too long"),
}
if features.check("avif"):
    FILES |= {
        "good.avif": (encoded(RGB, "AVIF"), THROUGHOUT),
        "in_truth_avif.jpg": (encoded(RGB, "AVIF"), THROUGHOUT),
        "a_half.avif": (encoded(RGB, "AVIF")[:200], ".+"),
    }


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory) -> dict[str, tuple[Path, Outcome]]:
    """All files above, read one after the other in one process."""
    folder, paths = tmp_path_factory.mktemp("images"), {}
    for name, (content, _) in FILES.items():
        paths[name] = folder / name
        if isinstance(content, bytes):
            paths[name].write_bytes(content)
        else:
            content(paths[name])
    return {name: (paths[name], outcome) for name, outcome in zip(paths, read_all(list(paths.values())), strict=True)}


@pytest.mark.parametrize("name", FILES, ids=lambda name: name[:40])
def test_an_image_is_read_or_refused_with_its_name_and_the_reason(outcomes, name):
    path, outcome = outcomes[name]
    expected = FILES[name][1]
    if expected.startswith("RGB"):
        assert re.match(rf"{expected}", outcome.text), outcome
    else:
        assert re.match(rf"cannot read {re.escape(str(path))}: .*({expected})", outcome.text), outcome
    assert not outcome.violates(path), outcome


def test_a_notice_comes_once(outcomes):
    noise = "".join(outcome.noise for _, outcome in outcomes.values()).splitlines()
    expected = (
        "animated.gif has further frames",
        "palette_transparent.png has transparency",
        "16_bit.png has more than",
    )
    assert [text for text, line in zip(expected, noise, strict=True) if text not in line] == []


def test_a_plug_in_can_add_a_format(tmp_path, monkeypatch):
    (tmp_path / "a.tga").write_bytes(encoded(RGB, "TGA"))
    monkeypatch.setattr(pillow, "FORMATS", [*pillow.FORMATS, "TGA"])
    assert pillow.load(tmp_path / "a.tga").size == (24, 16)


# ---- in the middle of a run ----


def test_a_bad_image_ends_testing_and_the_page_holds_those_before_it(tmp_path):
    tree = copy_tree(tmp_path)
    trained_copy("pix2pix", tree / "trained")
    for i in range(4):
        make_image(tree / f"photos/{i}.png", 32, 32)
    (tree / "photos/2.png").write_bytes(png(30000, 30000))
    place = "--name toy --checkpoints_dir trained/checkpoints"
    done = type_fast(f"test.py --dataroot photos {place} --model test --gpu_ids -1", tree)
    assert done.returncode == 1
    assert done.stderr == (
        "error: cannot read photos/2.png: it has 900 megapixels, and at most 179 are read. "
        "Make it smaller, or cut it into tiles.\n"
    )
    page = tree / "results/toy/test_latest"
    assert names(page / "images") == {"0_fake.png", "0_real.png", "1_fake.png", "1_real.png"}
    assert [name for name, _ in shown_rows(page)] == ["0.png", "1.png"]


def test_narrow_images_are_refused_before_they_fill_the_memory(tmp_path):
    for width, name in ((1, "train/a.png"), (4, "test/a.png")):
        (tmp_path / name).parent.mkdir()
        Image.new("L", (width, 60_000)).save(tmp_path / name)
    with pytest.raises(UserError, match=r"a.png is 1x60000: too narrow for two images side by side"):
        next(iter(data.create_dataset(data_options(tmp_path))))
    options = data_options(tmp_path / "test", "single", preprocess="scale_width", load_size=256)
    with pytest.raises(UserError, match=r"a.png: the image is 4x60000, a narrow strip: .* 3,840,000 high"):
        next(iter(data.create_dataset(options)))
