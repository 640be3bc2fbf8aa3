"""Images of any kind through train.py and test.py: results have the data's type, unit and geometry."""

from __future__ import annotations

import json

import numpy as np
import pytest
from PIL import Image

from data import create_dataset, formats
from data.formats.info import Info
from data.outputs import Outputs
from data.sides import describe
from options.test_options import TestOptions
from options.train_options import TrainOptions
from test import translate
from train import train
from util.errors import UserError
from util.runtime.run_facts import run_facts

TINY = "--netG unet_32 --ngf 4 --ndf 4 --load_size 36 --crop_size 32 --num_threads 0 --n_epochs 1 --n_epochs_decay 0"


def smooth(seed, shape):
    """A smooth random array in [0, 1]."""
    rng = np.random.default_rng(seed)
    grids = np.meshgrid(*map(np.arange, shape), indexing="ij")
    waves = sum(np.sin(sum(grid * rng.normal() for grid in grids) / 5) for _ in range(3))
    return (waves - waves.min()) / np.ptp(waves)


def write(path, values, **facts):
    """Write values (D, H, W, C) as the kind of file that the suffix names."""
    path.parent.mkdir(parents=True, exist_ok=True)
    formats.write(path, values, Info(str(path), "", *values.shape, values.dtype, **facts))
    return path


def run(root, options, test_options=""):
    """Train and translate; return the folder of the results."""
    shared = f"--dataroot {root} --name any --checkpoints_dir {root}/checkpoints"
    train(TrainOptions(f"{shared} --model pix2pix {TINY} {options}").parse())
    translate(TestOptions(f"{shared} --results_dir {root}/results --num_test inf {test_options}").parse())
    return root / "results/any/test_latest"


def values_of(path):
    info = describe(str(path))
    return info, formats.read(info)


@pytest.mark.parametrize("suffix", [".tif", ".png", ".npy"])
def test_sixteen_bits_and_floats_come_out_as_they_are_and_targets_in_their_unit(tmp_path, suffix):
    kelvin = {".tif": np.float32, ".png": np.uint16, ".npy": np.float32}[suffix]
    for split, count in {"train": 3, "test": 2}.items():
        for i in range(count):
            A = (smooth(i, (32, 40)) * 4095).astype(np.uint16)
            B = (smooth(i, (32, 40)) * 50 + 270).astype(kelvin)
            write(tmp_path / f"{split}A/{i}{suffix}", A[None, ..., None])
            write(tmp_path / f"{split}B/{i}{suffix}", B[None, ..., None])
    results = run(tmp_path, "--value_range A=0,4095 B=270,320", "--preprocess none")
    facts = json.loads((tmp_path / "checkpoints/any/train_opt.json").read_text())
    assert (facts["input_nc"], facts["output_nc"]) == (1, 1)
    for i in range(2):
        for label, side in (("real_A", "A"), ("real_B", "B")):
            info, values = values_of(results / f"values/{i}_{label}{suffix}")
            original = values_of(tmp_path / f"test{side}/{i}{suffix}")[1]
            assert info.dtype == original.dtype
            np.testing.assert_allclose(values, original, atol=1e-4 if original.dtype.kind == "f" else 0)
        info, fake = values_of(results / f"values/{i}_fake_B{suffix}")
        assert (info.dtype, fake.shape) == (kelvin, (32, 40, 1))
        assert 270 <= fake.min() < fake.max() <= 320
        with Image.open(results / f"images/{i}_fake_B.png") as picture:
            assert picture.size == (40, 32)


def test_bands_are_channels_and_other_files_of_their_name_are_stacked(tmp_path):
    for split in ("train", "test"):
        for i in range(2):
            bands = smooth(i, (32, 32, 5)) * 65535
            write(tmp_path / f"{split}A/{i}.tif", bands.astype(np.uint16)[None])
            write(tmp_path / f"depth/{split}/{i}.npy", smooth(i + 9, (32, 32))[None, ..., None].astype(np.float32))
            Image.fromarray((smooth(i, (32, 32, 3)) * 255).astype(np.uint8)).save(
                write(tmp_path / f"{split}B/{i}.tif", bands[None, ..., :1].astype(np.uint8))
            )
    opt = TrainOptions(f"--dataroot {tmp_path} --model pix2pix {TINY} --preprocess none --no_flip").parse(begin=False)
    item = create_dataset(opt).dataset[0]
    assert (opt.input_nc, opt.output_nc) == (5, 3)
    expected = smooth(0, (32, 32, 5)) * 2 - 1
    np.testing.assert_allclose(item["A"].numpy().transpose(1, 2, 0), expected, atol=1e-4)
    words = f"--dataroot {tmp_path} --model pix2pix {TINY} --stack_A {tmp_path}/depth --value_range A=0,65535"
    opt = TrainOptions(words).parse(begin=False)
    item = create_dataset(opt).dataset[1]
    assert (opt.input_nc, tuple(item["A"].shape)) == (6, (6, 32, 32))
    (tmp_path / "depth/train/1.npy").unlink()
    with pytest.raises(UserError, match=r"--stack_A: .* has 0 files of the name of .*1\.tif"):
        create_dataset(opt).dataset[1]


def test_transparency_is_drawn_where_four_channels_are_asked_for(tmp_path):
    for split, count in {"train": 2, "test": 1}.items():
        for i in range(count):
            pixels = (smooth(i, (32, 32, 4)) * 255).astype(np.uint8)
            for side, channels in (("A", 3), ("B", 4)):
                (tmp_path / f"{split}{side}").mkdir(exist_ok=True)
                Image.fromarray(pixels[..., :channels]).save(tmp_path / f"{split}{side}/{i}.png")
    results = run(tmp_path, "--output_nc 4", "--preprocess none")
    with Image.open(results / "values/0_fake_B.png") as fake, Image.open(results / "values/0_real_B.png") as real:
        assert (fake.mode, real.mode) == ("RGBA", "RGBA")
        np.testing.assert_array_equal(np.asarray(real), np.asarray(Image.open(tmp_path / "testB/0.png")))


def test_another_number_of_channels_names_file_found_and_expected(tmp_path):
    for i, count in enumerate((5, 4)):
        write(tmp_path / f"{i}.npy", (smooth(i, (1, 32, 32, count)) * 65535).astype(np.uint16))
    opt = TestOptions(f"--dataroot {tmp_path} --name any --input_nc 3").parse(begin=False)
    with pytest.raises(UserError, match=r"0\.npy has 5 channels, and --input_nc 3 is expected"):
        create_dataset(opt)
    opt.input_nc = 5
    dataset = create_dataset(opt).dataset
    with pytest.raises(UserError, match=r"1\.npy has 4 channels, and the first image of side A has 5"):
        dataset[1]


def test_label_maps_are_channels_resized_without_new_classes_and_drawn_as_classes(tmp_path):
    colors = {"sky": [70, 130, 180], "road": [128, 64, 128], "car": [0, 0, 142]}
    (tmp_path / "colors.json").write_text(json.dumps(colors))
    table = np.array(list(colors.values()), np.uint8)
    for split in ("train", "test"):
        for i in range(2):
            classes = (smooth(i, (48, 48)) * 2.99).astype(np.uint8)
            for side, image in (("A", table[classes]), ("B", classes)):
                (tmp_path / f"{split}{side}").mkdir(exist_ok=True)
                Image.fromarray(image).save(tmp_path / f"{split}{side}/{i}.png")
    results = run(tmp_path, f"--labels A={tmp_path / 'colors.json'} B=3")
    drawn = np.asarray(Image.open(results / "values/0_real_A.png"))
    assert {tuple(color) for color in drawn.reshape(-1, 3).tolist()} <= {*map(tuple, colors.values())}
    fake = np.asarray(Image.open(results / "values/0_fake_B.png"))
    assert (fake.dtype, fake.shape) == (np.uint8, (32, 32))
    assert fake.max() <= 2
    shown = np.asarray(Image.open(results / "images/0_real_A.png"))
    np.testing.assert_array_equal(shown, drawn)
    shown = np.asarray(Image.open(results / "images/0_fake_B.png"))
    assert len({tuple(color) for color in shown.reshape(-1, 3).tolist()}) == len({*fake.ravel().tolist()})


def test_volumes_are_translated_slice_by_slice_and_written_whole(tmp_path):
    nibabel = pytest.importorskip("nibabel")
    affine = np.diag([1.5, 1.5, 3, 1])
    for split, count in {"train": 2, "test": 2}.items():
        for i in range(count):
            for side, (low, high) in {"A": (0, 1000), "B": (-1000, 1000)}.items():
                values = (smooth(i, (32, 40, 5)) * (high - low) + low).astype(np.int16)
                (tmp_path / f"{split}{side}").mkdir(exist_ok=True)
                nibabel.save(nibabel.Nifti1Image(values, affine), tmp_path / f"{split}{side}/p{i}.nii.gz")
    with pytest.raises(UserError, match=r"p0\.nii\.gz is a volume of 5 slices: type --slices 1"):
        run(tmp_path, "--value_range A=0,1000 B=-1000,1000")
    results = run(tmp_path, "--slices 3 --value_range A=0,1000 B=-1000,1000", "--preprocess none")
    assert json.loads((tmp_path / "checkpoints/any/train_opt.json").read_text())["input_nc"] == 3
    for i in range(2):
        for label, side in (("real_A", "A"), ("real_B", "B"), ("fake_B", "B")):
            volume = nibabel.load(results / f"values/p{i}_{label}.nii.gz")
            original = nibabel.load(tmp_path / f"test{side}/p{i}.nii.gz")
            assert (volume.shape, volume.get_data_dtype()) == ((32, 40, 5), np.int16)
            np.testing.assert_array_equal(volume.affine, affine)
            if label != "fake_B":
                np.testing.assert_array_equal(volume.get_fdata(), original.get_fdata())
    assert len(list((results / "images").glob("p1_z00?_fake_B.png"))) == 5
    nibabel.save(nibabel.Nifti1Image(np.zeros((32, 40, 4), np.int16), affine), tmp_path / "trainB/p1.nii.gz")
    with pytest.raises(
        UserError, match=r"trainA/p1\.nii\.gz and .*trainB/p1\.nii\.gz are not on one grid \(5 and 4 sl"
    ):
        run(tmp_path, "--slices 1 --value_range A=0,1000 B=-1000,1000")


def test_a_dicom_series_is_written_as_a_folder_beside_the_pictures(tmp_path, monkeypatch):
    pydicom = pytest.importorskip("pydicom")
    header = pydicom.dcmread(pydicom.data.get_testdata_file("CT_small.dcm"))
    for side in ("trainA", "trainB", "testA", "testB"):
        for index in range(2):
            header.SOPInstanceUID = header.file_meta.MediaStorageSOPInstanceUID = pydicom.uid.generate_uid()
            header.ImagePositionPatient = [0, 0, 2 * index]
            (tmp_path / side / "1.2.840").mkdir(parents=True, exist_ok=True)
            header.save_as(tmp_path / side / f"1.2.840/{index}.dcm")
    monkeypatch.chdir(tmp_path)  # a relative path
    values = run(tmp_path.relative_to(tmp_path), "--slices 1 --value_range=-1024,3071", "--preprocess none") / "values"
    assert sorted(path.name for path in values.iterdir()) == [f"1.2.840_{x}" for x in ("fake_B", "real_A", "real_B")]
    fake = values_of(values / "1.2.840_fake_B")[0]
    assert (fake.slices, fake.unit, fake.spacing[0]) == (2, "HU", 2)
    _, real = values_of(values / "1.2.840_real_B")
    np.testing.assert_array_equal(real, values_of(tmp_path / "testB/1.2.840")[1])


@pytest.mark.parametrize(
    ("value", "dtype", "words", "found"),
    [
        (5, np.float32, "", "A=5,6"),
        (0, np.uint16, "", "A=0,1"),
        (9, np.uint16, "--value_range A=0,9", "A=0,9 B=0,15"),
    ],
)
def test_a_suggested_range_works_as_printed_for_equal_values_and_a_second_side(tmp_path, value, dtype, words, found):
    for side in "AB":
        write(tmp_path / f"train{side}/0.npy", np.full((1, 32, 32, 1), value, dtype))
    words = f"--dataroot {tmp_path} --model pix2pix {TINY} {words}"
    with pytest.raises(UserError, match=f"--value_range {found}$"):
        create_dataset(TrainOptions(words).parse(begin=False))


def test_class_numbers_of_16_bits_are_pointed_to_labels(tmp_path):
    for side in "AB":
        write(tmp_path / f"train{side}/0.npy", (smooth(0, (1, 32, 32, 1)) * 12).astype(np.uint16))
    words = f"--dataroot {tmp_path} --model pix2pix {TINY}"
    with pytest.raises(UserError, match=r"class numbers, type: --labels A=13$"):
        create_dataset(TrainOptions(words).parse(begin=False))
    dataset = create_dataset(TrainOptions(f"{words} --labels A=13 B=13").parse(begin=False)).dataset
    assert dataset[0]["A"].shape == (13, 32, 32)


def test_values_of_another_type_than_the_first_files_are_reported(tmp_path, capsys):
    for i, dtype in enumerate((np.uint16, np.uint8)):
        for side in "AB":
            write(tmp_path / f"train{side}/{i}.npy", (smooth(i, (1, 32, 32, 1)) * 255).astype(dtype))
    words = f"--dataroot {tmp_path} --model pix2pix {TINY} --value_range 0,4095"
    dataset = create_dataset(TrainOptions(words).parse(begin=False)).dataset
    dataset[0], dataset[1]
    assert "A/1.npy holds uint8, and side A uint16: 0 is black and 4095 white for all" in capsys.readouterr().out


def test_ranges_and_types_of_a_run_come_from_its_training_split(tmp_path):
    for split, low in (("train", 1000), ("val", 100), ("test", 9)):  # the last would be refused in training
        for side in "AB":
            write(tmp_path / f"{split}{side}/0.npy", (smooth(0, (1, 32, 32, 1)) * low + low).astype(np.uint16))
    results = run(tmp_path, "--value_range p0,100 --val_freq 1", f"--model test --dataroot {tmp_path}/testA")
    words = f"--dataroot {tmp_path} --name any --checkpoints_dir {tmp_path}/checkpoints"
    for typed, found in (("", (1000, 2000)), ("--value_range 0,4095", (0, 4095))):
        opt = TrainOptions(f"{words} --continue_train --n_epochs 2 --phase val {typed}").parse(begin=False)
        dataset = create_dataset(opt).dataset
        assert [(side.range.low, side.range.high) for side in dataset.sides.values()] == [found] * 2
        assert [run_facts(opt).saved["sides"][side]["low"] for side in "AB"] == [found[0]] * 2
    info, fake = values_of(results / "values/0_fake.npy")
    assert info.dtype == np.uint16
    assert 1000 <= fake.min() < fake.max() <= 2000
    train(
        TrainOptions(
            f"{words} --model pix2pix {TINY}".replace("any", "dtype") + " --dataroot " + str(wide(tmp_path))
        ).parse()
    )
    words = words.replace("any", "dtype").replace(str(tmp_path), f"{tmp_path}/testA", 1)
    dataset = create_dataset(TestOptions(f"{words} --model test").parse(begin=False)).dataset
    assert dataset[0]["A"].max() < -0.99


def wide(root):
    """Write a pair that uses all 16 bits."""
    for side in "AB":
        write(root / f"wide/train{side}/0.npy", (smooth(0, (1, 32, 32, 1)) * 65535).astype(np.uint16))
    return root / "wide"


def test_a_visual_belongs_to_the_datasets_side(tmp_path):
    opt = TestOptions(f"--dataroot {tmp_path} --name x").parse(begin=False)
    outputs = Outputs(tmp_path, opt, None)
    letters = [outputs.letters(label) for label in ("real_A", "fake_B", "rec_A", "idt_B", "real", "fake")]
    assert letters == [("A", "A"), ("B", "A"), ("A", "A"), ("B", "B"), ("A", "A"), ("B", "A")]
    outputs.direction = "BtoA"
    assert [outputs.letters(label) for label in ("real_A", "fake_B", "real", "fake")] == [
        ("B", "B"), ("A", "B"), ("B", "B"), ("A", "B"),
    ]  # fmt: skip
