"""Deep images are read with one scale for all, or refused with the range found; losses are printed once."""

from __future__ import annotations

import struct
import zlib

import numpy as np
import pytest
from conftest import make_image
from data_options import data_options, epochs
from PIL import Image
from test_bad_images import png, tiff

from data import create_dataset
from data.formats import pillow
from data.formats.values import RangeError
from util.errors import UserError
from util.runtime.run_facts import RunFacts

RAMP = np.tile(np.arange(64) / 63, (64, 1))


def save(path, values, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(values).save(path, **options)
    return path


def grey(path):
    """The grey levels of a file as they are read."""
    found = np.asarray(pillow.load(path))
    assert np.ptp(found, axis=2).max() == 0
    return found[..., 0]


def uint16(values):
    return np.round(values * 65535).astype(np.uint16)


def colour16(values):
    """A PNG with 16 bits of each colour."""
    rows = b"".join(b"\0" + struct.pack(f">{3 * len(row)}H", *np.repeat(row, 3)) for row in values.tolist())
    return png(values.shape[1], values.shape[0], (b"IDAT", zlib.compress(rows)), depth=16)


# ---- refused ----


@pytest.mark.parametrize(
    ("name", "values", "found", "type_this"),
    [
        ("a.tif", (RAMP * 0.999).astype(np.float32), "float32 from 0 to 0.999", "0,0.999"),
        ("a.tif", (RAMP * 1.004).astype(np.float32), "float32 from 0 to 1.004", "0,1.004"),
        ("a.tif", (RAMP * 2000 - 1000).astype(np.int32), "int32 from -1000 to 1000", "-1000,1000"),
    ],
)
@pytest.mark.parametrize("mode", ["single", "unaligned", "aligned"])
def test_floats_and_signed_values_end_a_run_before_it_begins_with_their_range(
    tmp_path, name, values, found, type_this, mode
):
    folder = {"single": "", "unaligned": "trainB", "aligned": "train"}[mode]
    path = save(tmp_path / folder / name, values)
    if mode == "unaligned":
        make_image(tmp_path / "trainA/1.png")
    with pytest.raises(UserError) as error:
        create_dataset(data_options(tmp_path, mode))
    assert str(error.value).startswith(f"{path}: it holds {found}, ")
    side = "B" if mode == "unaligned" else "A"
    assert str(error.value).endswith(f"black and white: --value_range {side}={type_this}")
    create_dataset(data_options(tmp_path, mode, value_range=[type_this]))
    with pytest.raises(UserError, match=f"cannot read {path}: it holds"):
        pillow.load(path)


def test_signed_numbers_of_8_bits_are_refused(tmp_path):
    (tmp_path / "a.tif").write_bytes(tiff(2, 2, [(339, 3, 1, 2)]).replace(b"\1\2\3\4", b"\xff\0\1\x7f", 1))
    with pytest.raises(RangeError, match="it holds signed numbers from -1 to 127"):
        pillow.load(tmp_path / "a.tif")


@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_twelve_bits_in_sixteen_are_refused_by_the_first_files_together(tmp_path, suffix):
    for i in range(20):
        save(tmp_path / f"{i:02}.{suffix}", (RAMP * 4095).astype(np.uint16))
    with pytest.raises(UserError) as error:
        create_dataset(data_options(tmp_path, "single"))
    assert str(error.value) == (
        f"{tmp_path}/00.{suffix}: the first 16 files hold uint16 from 0 to 4095, less than 1/8 of the range from 0 to "
        "65535.\nType the values that become black and white: --value_range A=0,4095"
    )
    save(tmp_path / f"03.{suffix}", uint16(RAMP))  # one that uses the range shows that the others are dark scenes
    create_dataset(data_options(tmp_path, "single"))
    assert grey(tmp_path / f"00.{suffix}").max() == 16


def test_a_narrow_band_of_values_and_colours_of_sixteen_bits_are_refused_too(tmp_path):
    path = save(tmp_path / "a.png", (RAMP * 4000 + 30000).astype(np.uint16))
    with pytest.raises(
        RangeError,
        match=r"30000 to 34000 in 16 bits \(0 to 65535\), a narrow band: .*\n.* here \(value - 30000\) \* 16, or",
    ) as error:
        pillow.check_first([str(path)])
    assert error.value.paths == [str(path)]
    path.write_bytes(colour16((RAMP * 4095).astype(np.uint16)))
    with pytest.raises(RangeError, match=r"0 to 4095 in 16 bits"):
        pillow.check_first([str(path)])
    path.write_bytes(colour16((RAMP * 8192).astype(np.uint16)))  # 1/8
    pillow.check_first([str(path)])


def test_images_of_8_bits_are_never_refused_and_broken_ones_are_left_to_the_reader(tmp_path):
    paths = [str(save(tmp_path / f"{value}.png", np.full((8, 8), value, np.uint8))) for value in (0, 1, 2)]
    (tmp_path / "broken.png").write_bytes(b"no")
    pillow.check_first([*paths, str(tmp_path / "broken.png"), str(tmp_path / "missing.png")])
    assert [grey(path).max() for path in paths] == [0, 1, 2]


# ---- scaled ----


@pytest.mark.parametrize("compression", ["raw", "tiff_lzw"])
def test_white_is_zero_arrives_with_white_as_white(tmp_path, compression):
    path = save(tmp_path / "a.tif", 65535 - uint16(RAMP), tiffinfo={262: 0}, compression=compression)
    assert np.array_equal(grey(path), np.round(RAMP * 255))


def test_twelve_bits_that_the_header_names_are_scaled_by_it(tmp_path):
    tags = [(258, 3, 1, 12), (279, 4, 1, 3)]
    (tmp_path / "a.tif").write_bytes(tiff(2, 1, tags).replace(b"\1\2\3\4", b"\xff\xf8\x00\0", 1))  # 4095, 2048
    assert grey(tmp_path / "a.tif").tolist() == [[255, 128]]


def test_32_bits_are_unsigned_if_the_header_says_so(tmp_path):
    (tmp_path / "a.tif").write_bytes(tiff(1, 1, [(258, 3, 1, 32)]).replace(b"\1\2\3\4", b"\0\0\0\x80", 1))
    assert grey(tmp_path / "a.tif").tolist() == [[128]]


def test_a_run_of_an_earlier_version_scales_floats_as_when_it_was_trained(tmp_path, capsys):
    for name, values in (("a", RAMP * 0.999), ("b", RAMP * 200)):
        save(tmp_path / f"{name}.tif", values.astype(np.float32))
    opt = data_options(tmp_path, "single", preprocess="none", no_flip=True, serial_batches=True)
    opt._facts = RunFacts(saved={"exif_orientation": False})
    a, b = [batch["A"] for batch in epochs(opt, 1)]
    assert a.max() == pytest.approx(1)
    assert b.max() == pytest.approx(200 / 127.5 - 1)
    assert (
        "a.tif has more than 8 bits (values 0 to 0.999): 0..1 becomes 0..255, as when this run was trained;"
        in capsys.readouterr().out
    )


# ---- what is left out ----


LEFT_OUT = {
    "alpha.png": (lambda path: make_image(path, mode="RGBA"), "has transparency (alpha), which is dropped"),
    "grey_alpha.png": (lambda path: make_image(path, mode="LA"), "has transparency (alpha), which is dropped"),
    "pages.tif": (
        lambda path: Image.new("RGB", (9, 9)).save(path, save_all=True, append_images=[Image.new("RGB", (9, 9))]),
        "has further pages, and the first one is read",
    ),
    "frames.webp": (
        lambda path: Image.new("RGB", (9, 9)).save(path, save_all=True, append_images=[Image.new("RGB", (9, 9), 7)]),
        "has further frames, and the first one is read",
    ),
}


@pytest.mark.parametrize("name", LEFT_OUT)
def test_whatever_is_left_out_is_said_once_also_by_worker_processes(tmp_path, capsys, name):
    make, text = LEFT_OUT[name]
    for i in range(3):
        make(tmp_path / f"{i}_{name}")
    for workers in (2, 0):
        epochs(data_options(tmp_path, "single", num_threads=workers, serial_batches=True))
    lines = capsys.readouterr().out.splitlines()
    said = [line for line in lines if "said once" in line]
    assert len(said) == 1
    assert f"_{name} {text}" in said[0]


def test_phone_photos_of_several_pictures_are_one_photo(tmp_path, capsys):
    photo, preview = Image.new("RGB", (40, 30), "red"), Image.new("RGB", (20, 15), "red")
    photo.save(tmp_path / "a.jpg", "MPO", save_all=True, append_images=[preview])
    assert pillow.read_header(tmp_path / "a.jpg").format == "MPO"
    assert pillow.load(tmp_path / "a.jpg").size == (40, 30)
    assert capsys.readouterr().out == ""
