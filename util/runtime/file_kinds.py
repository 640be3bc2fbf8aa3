"""The kind of a file, from its first bytes. Needs Python's standard library alone."""

from __future__ import annotations

import re

HEAD = 512  # bytes that the patterns look at
# The first pattern that matches names the kind.
KINDS = {
    "a web page": rb"\s*(<!--.*?-->\s*)?<(!doctype html|html|head|body)",
    "an SVG drawing": rb"\s*(<\?xml.*)?<svg",
    "an XML file": rb"\s*<",
    "a Git LFS pointer": rb"version https://git-lfs",
    "a zip archive": rb"PK\x03\x04|PK\x05\x06",
    "a gzip archive": rb"\x1f\x8b",
    "a bzip2, xz, 7z, rar or zstd archive": rb"BZh|\xfd7zXZ|7z\xbc\xaf|Rar!|\x28\xb5\x2f\xfd",
    "a tar archive": rb".{257}ustar",
    "a safetensors file": rb".{6}\0\0\s*\{",
    "an HDF5 file": rb"\x89HDF",
    "a NumPy array": rb"\x93NUMPY",
    "a GGUF file": rb"GGUF",
    "an ONNX file": rb"\x08[\0-\x20]\x12.(pytorch|onnx)|.{,60}onnx",
    "a HEIC image": rb"....ftyp(hei|hev|mif1|msf1)",
    "an AVIF image": rb"....ftypavi",
    "a video": rb"....ftyp",
    "an image": rb"\x89PNG|\xff\xd8\xff|GIF8|RIFF|BM.{4}\0\0\0\0|II\*\0|MM\0\*",
    "an image of a rare format": rb"8BPS|\0\0\0\x0cjP  |\xff\x4f\xff\x51|\0\0[\1\2]\0|DDS |qoif",
    "a PostScript file": rb"%!PS|\xc5\xd0\xd3\xc6",
    "a PDF document": rb"%PDF",
    "text": rb"[\t\n\r -~]{16}",
}


def kind_of(head: bytes) -> str:
    """Return the kind of a file that begins with `head`, with its article: a key of KINDS, or "" if none matches."""
    flags = re.IGNORECASE | re.DOTALL
    return next((kind for kind, pattern in KINDS.items() if re.match(pattern, head[:HEAD], flags)), "")
