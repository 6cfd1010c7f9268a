"""Data sets: loading, refusing, splitting, describing."""

import gzip
import hashlib
import json
import os
import struct
import subprocess
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest
from disk import files_limited_to
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from idx import make_images, write_idx, write_idx_set
from PIL import Image

from fmnist.data import idx
from fmnist.data.assemble import val_indices
from fmnist.data.describe import describe, draw_samples
from fmnist.data.fashion_mnist import FASHION_MNIST_VAL_INDEX_HASH, PINS, find_idx
from fmnist.data.load import load_data
from fmnist.data.splits import Data, SealedSplit, Split, mean_and_deviation
from fmnist.errors import DataError, RunError, UsageError

MNIST_TRAIN_COUNTS = (5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949)
MNIST_TEST_COUNTS = (980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009)


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Data:
    return load_data(write_idx_set(tmp_path_factory.mktemp("sets") / "small"))


# --- IDX sets ------------------------------------------------------------------------------------


def test_an_idx_set_loads(small: Data) -> None:
    assert small.name == "small"
    assert small.classes == tuple("0123456789")
    assert small.shape == (28, 28, 1)
    assert (len(small.train), len(small.val), len(small.test)) == (220, 20, 60)
    assert small.train.images.dtype == np.uint8
    assert small.train.labels.dtype == np.int32
    for split in (small.train, small.val, small.test.open(), small.fitting("all")):
        assert split.images.shape == (len(split), 28, 28, 1)
        assert not split.images.flags.writeable
        assert not split.labels.flags.writeable
    assert set(small.hashes) == set(PINS)


@pytest.mark.parametrize("compress", [True, False])
def test_gzip_changes_neither_data_nor_hashes(tmp_path: Path, small: Data, compress: bool) -> None:
    again = load_data(write_idx_set(tmp_path / "small", compress=compress))
    np.testing.assert_array_equal(again.train.images, small.train.images)
    assert (again.hashes, again.hash) == (small.hashes, small.hash)
    other = load_data(write_idx_set(tmp_path / "other", compress=compress, seed=1))
    assert other.hash != small.hash


def test_other_sizes_and_class_counts(tmp_path: Path) -> None:
    folder = write_idx_set(tmp_path / "letters", train=260, test=52, height=9, width=7, classes=26)
    data = load_data(str(folder))
    assert (data.shape, len(data.classes)) == ((9, 7, 1), 26)


def test_the_environment_names_the_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one, other = (write_idx_set(tmp_path / name) for name in ("one", "other"))
    monkeypatch.setenv("FMNIST_DATA", str(one))
    assert load_data().folder == one
    assert load_data(other).folder == other


def test_class_names_come_from_a_file(tmp_path: Path) -> None:
    folder = write_idx_set(tmp_path / "set", classes=3)
    names = folder / "classes.txt"
    names.write_text("œuf\nlait\n  pain \n\n", encoding="utf-8")
    assert load_data(folder).classes == ("œuf", "lait", "pain")
    names.write_text("one\ntwo\nthree\nfour\n")  # a class of which there are no images yet
    assert len(load_data(folder).classes) == 4
    names.write_text("one\ntwo\n")
    with pytest.raises(DataError, match=r"expected labels 0 to 1, received 2 in train"):
        load_data(folder)
    for content in (b"", b"one\n", b"one\none\nthree\n", b"one\n\nthree\n", b"\xff\xfe\n\x80\n"):
        names.write_bytes(content)
        with pytest.raises(DataError, match="class name"):
            load_data(folder)


def test_test_labels_are_within_those_of_train(tmp_path: Path) -> None:
    folder = write_idx_set(tmp_path / "set", classes=3)
    labels = np.arange(60, dtype=np.uint8) % 4
    write_idx(folder / "t10k-labels-idx1-ubyte.gz", labels)
    with pytest.raises(DataError, match=r"some in test but none in train of: 3 \(15\); add"):
        load_data(folder)
    write_idx(folder / "t10k-labels-idx1-ubyte.gz", labels % 2)
    with pytest.raises(DataError, match=r"some in train but none in test of: 2 \(80\); add"):
        load_data(folder)


def test_a_set_of_one_class_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="at least two classes"):
        load_data(write_idx_set(tmp_path / "set", classes=1))


@pytest.mark.parametrize("value", [0, 1, 255])
def test_images_of_one_value_are_refused(tmp_path: Path, value: int) -> None:
    """As floats of 0 to 1 cast to bytes are, and drawings in the alpha channel."""
    folder = write_idx_set(tmp_path / "set", train=300, test=60)
    for path in folder.glob("train-images*"):
        path.unlink()
    images = np.full((300, 28, 28), value, np.uint8)
    write_idx(folder / "train-images-idx3-ubyte", images)
    with pytest.raises(DataError, match=f"received {value} in every pixel; .* save grey values"):
        load_data(folder)
    drawing = Image.new("RGBA", (28, 28))
    drawing.putalpha(Image.linear_gradient("L").resize((28, 28)))
    for name in ("train/a", "train/b", "test/a", "test/b"):
        (tmp_path / "drawn" / name).mkdir(parents=True)
        for number in range(3):
            drawing.save(tmp_path / "drawn" / name / f"{number}.png")
    with pytest.raises(DataError, match="alpha channel"):
        load_data(tmp_path / "drawn")


def test_a_folder_that_holds_nothing_says_what_is_expected(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"expected a data set, found none; see docs/data.md"):
        load_data(tmp_path)
    with pytest.raises(DataError, match="found no file and no folder; check --data"):
        load_data(tmp_path / "absent")


# --- what a set is -------------------------------------------------------------------------------


def write_digits(folder: Path) -> Path:
    """A set with plain MNIST's label counts; its images are small and nearly blank."""
    folder.mkdir()
    for name, counts in (("train", MNIST_TRAIN_COUNTS), ("t10k", MNIST_TEST_COUNTS)):
        labels = np.repeat(np.arange(10, dtype=np.uint8), counts)
        write_idx(folder / f"{name}-labels-idx1-ubyte", labels)
        images = np.zeros((len(labels), 2, 2), np.uint8)
        images[:, 0, 0] = 255
        write_idx(folder / f"{name}-images-idx3-ubyte", images)
    return folder


@pytest.mark.parametrize("name", ["fashion-mnist", "Fashion_MNIST", "fmnist", "FashionMNIST"])
def test_mnist_is_refused_under_another_name(tmp_path: Path, name: str) -> None:
    with pytest.raises(DataError, match=r"this is plain MNIST .*; rename it"):
        load_data(write_digits(tmp_path / name))


def test_mnist_is_welcome_as_itself(tmp_path: Path) -> None:
    assert load_data(write_digits(tmp_path / "MNIST")).name == "MNIST"


def test_an_unknown_set_may_not_claim_to_be_fashion_mnist(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"unknown content: .* sha256 .*; rename it"):
        load_data(write_idx_set(tmp_path / "fashion-mnist"))
    write_images(tmp_path / "fmnist")
    with pytest.raises(DataError, match="its images are others; rename it"):
        load_data(tmp_path / "fmnist")


@pytest.mark.data
def test_fashion_mnist_is_itself_in_any_folder(real: Data, tmp_path: Path) -> None:
    folder = tmp_path / "anything"
    folder.mkdir()
    for name, path in find_idx(real.folder).items():
        (folder / name).write_bytes(gzip.decompress(path.read_bytes()))
    again = load_data(folder)
    assert again.name == "fashion-mnist"
    assert again.classes == real.classes
    assert again.hashes == real.hashes == {name: p.sha256 for name, p in PINS.items()}


@pytest.mark.data
def test_the_release_before_31_august_2017_is_refused_by_name(real: Data, tmp_path: Path) -> None:
    everything, test = real.fitting("all"), real.test.open()
    images = test.images.copy()
    shared = np.flatnonzero(test.labels == 3)[:10]
    images[shared] = everything.images[everything.labels == 3][:10]
    for name in ("fashion-mnist", "old-release"):
        folder = tmp_path / name
        folder.mkdir()
        for split, pixels, labels in (
            ("train", everything.images, everything.labels),
            ("t10k", images, test.labels),
        ):
            write_idx(folder / f"{split}-images-idx3-ubyte", pixels[..., 0])
            write_idx(folder / f"{split}-labels-idx1-ubyte", labels.astype(np.uint8))
    with pytest.raises(DataError, match="release of before 31 August 2017"):
        load_data(tmp_path / "fashion-mnist")
    named = load_data(tmp_path / "old-release")
    assert named.name == "old-release"
    duplicates = describe(named)["duplicates"]
    assert duplicates["train-test"] + duplicates["val-test"] == 10
    # Without those images it is merely unknown.
    images[shared, 0, 0] = 255
    write_idx(tmp_path / "fashion-mnist" / "t10k-images-idx3-ubyte", images[..., 0])
    with pytest.raises(DataError, match="unknown content"):
        load_data(tmp_path / "fashion-mnist")


@pytest.mark.data
def test_fashion_mnist_is_split_as_ever(real: Data) -> None:
    assert real.val_index_hash == FASHION_MNIST_VAL_INDEX_HASH
    assert (len(real.train), len(real.val), len(real.test)) == (55_000, 5_000, 10_000)
    for split, count in ((real.train, 5500), (real.val, 500), (real.test.open(), 1000)):
        assert np.bincount(split.labels).tolist() == [count] * 10
    assert real.classes[9] == "Ankle boot"


@pytest.mark.data
def test_fashion_mnist_is_clean_and_as_bright_as_published(real: Data) -> None:
    said = describe(real)
    assert set(said["duplicates"].values()) == {0}
    mean, deviation = mean_and_deviation(real.fitting("all").images)
    assert (round(mean, 4), round(deviation, 4)) == (0.2860, 0.3530)


def test_the_pinned_sizes_follow_from_the_format() -> None:
    # An IDX file's size follows from its header: 16 or 8 bytes and a byte a value.
    sizes = {name: pin.size for name, pin in PINS.items()}
    assert sizes == {
        "train-images-idx3-ubyte": 16 + 60_000 * 784,
        "train-labels-idx1-ubyte": 8 + 60_000,
        "t10k-images-idx3-ubyte": 16 + 10_000 * 784,
        "t10k-labels-idx1-ubyte": 8 + 10_000,
    }


@pytest.mark.data
def test_the_pinned_contents_are_the_makers_own(real: Data) -> None:
    """With the header that the makers' gzip wrote, the files have the MD5 sums of their README."""
    for name, written, md5 in (
        ("t10k-labels-idx1-ubyte", 1504176627, "bb300cfdad3c16e7a12a480ee83cd310"),
        ("train-labels-idx1-ubyte", 1504176606, "25c81989df183df01b3e8a0aad5dffbe"),
        ("t10k-images-idx3-ubyte", 1504176627, "bef4ecab320f06d8554ea6380940ec79"),
        ("train-images-idx3-ubyte", 1504176606, "8d4fb7e6c68d591d4c3dfef9ec88bf0d"),
    ):
        packed = (real.folder / f"{name}.gz").read_bytes()
        if packed[3] == 0:  # without a name, as Debian compresses: the rest is the same
            header = b"\x1f\x8b\x08\x08" + struct.pack("<I", written) + b"\x00\x03"
            packed = header + name.encode() + b"\0" + packed[10:]
        assert len(packed) == PINS[name].packed_size
        assert hashlib.md5(packed, usedforsecurity=False).hexdigest() == md5


# --- splits --------------------------------------------------------------------------------------


VAL_OF_240 = "87c98aac78e377cac9dd90db530c2efd915a652ae452e20bea5302cb1132920f"


def test_the_validation_split_never_changes() -> None:
    labels = np.arange(240, dtype=np.int32) % 10
    assert hashlib.sha256(val_indices(labels).astype("<i8").tobytes()).hexdigest() == VAL_OF_240
    everything = np.repeat(np.arange(3, dtype=np.int32), (24, 5, 1))
    counts = np.bincount(everything[val_indices(everything)], minlength=3)
    assert counts.tolist() == [2, 1, 0]  # a twelfth, at least one, and none of a single image


@settings(deadline=None)
@given(labels=arrays.arrays(np.int32, st.integers(0, 200), elements=st.integers(0, 6)))
def test_the_validation_split_is_stratified(labels: np.ndarray) -> None:
    indices = val_indices(labels)
    assert indices.dtype == np.int64
    assert (np.diff(indices) > 0).all()
    for label in range(7):
        count = int((labels == label).sum())
        drawn = int((labels[indices] == label).sum())
        assert drawn == (max(1, count // 12) if count > 1 else 0)


def test_train_and_val_make_up_the_file(tmp_path: Path, small: Data) -> None:
    images = idx.read_idx(small.folder / "train-images-idx3-ubyte.gz")
    labels = idx.read_idx(small.folder / "train-labels-idx1-ubyte.gz")
    everything = small.fitting("all")
    np.testing.assert_array_equal(everything.images[..., 0], images)
    np.testing.assert_array_equal(everything.labels, labels)
    np.testing.assert_array_equal(small.val.images[..., 0], images[small.val_indices])
    assert small.fitting("train") is small.train
    with pytest.raises(UsageError, match="expected 'train' or 'all', received 'test'"):
        small.fitting("test")


def test_a_split_is_checked_and_leaves_the_callers_array_alone() -> None:
    images, labels = np.zeros((2, 3, 3, 1), np.uint8), np.zeros(2, np.int32)
    split = Split(images, labels)
    assert len(split) == 2
    images[0] = 1
    with pytest.raises(ValueError, match="read-only"):
        split.images[0] = 1
    for wrong in (images[..., 0], images.astype(np.float32), images[:, :, :, [0, 0]]):
        with pytest.raises(DataError, match="images: expected uint8"):
            Split(wrong, labels)  # type: ignore[arg-type]
    for odd in (labels[:1], labels.astype(np.int64)):
        with pytest.raises(DataError, match="labels: expected int32"):
            Split(images, odd)  # type: ignore[arg-type]


def test_a_sealed_split_is_not_opened_by_looking_at_it() -> None:
    def opener() -> Split:
        raise AssertionError("opened")

    sealed = SealedSplit(opener, 10_000)
    assert len(sealed) == 10_000
    assert repr(sealed) == "SealedSplit(10,000 images)"
    assert not hasattr(sealed, "images")
    with pytest.raises(AssertionError, match="opened"):
        sealed.open()


# --- folders of images ---------------------------------------------------------------------------


def write_images(
    folder: Path, suffix: str = "png", classes: tuple[str, ...] = ("hat", "bag")
) -> Path:
    for split, count in (("train", 24), ("test", 4)):
        images, labels = make_images(count, 8, 6, len(classes), seed=len(split))
        for number, (image, label) in enumerate(zip(images, labels, strict=True)):
            path = folder / split / classes[label] / f"{number:03}.{suffix}"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(image).save(path)
    return folder


@pytest.mark.parametrize("suffix", ["png", "PNG", "bmp", "webp", "jpg", "jpeg"])
def test_a_folder_of_images_loads(tmp_path: Path, suffix: str) -> None:
    folder = write_images(tmp_path / "wardrobe", suffix)
    (folder / "train" / "bag" / ".hidden.png").write_bytes(b"no image")
    (folder / "train" / "bag" / "notes.txt").write_bytes(b"no image")
    (folder / "train" / ".cache").mkdir()
    data = load_data(folder)
    assert (data.name, data.classes, data.shape) == ("wardrobe", ("bag", "hat"), (8, 6, 1))
    assert (len(data.train), len(data.val), len(data.test)) == (22, 2, 4)
    assert set(data.hashes) == set(PINS)
    if suffix in {"png", "bmp"}:
        images, labels = make_images(24, 8, 6, 2, seed=5)
        np.testing.assert_array_equal(
            data.fitting("all").images[..., 0], images[np.argsort(labels == 0, kind="stable")]
        )
    (folder / "classes.txt").write_text("hat\nbag\n")
    assert load_data(folder).classes == ("hat", "bag")
    before = data.hash
    first = folder / "train" / "hat" / f"zzz.{suffix}"
    Image.new("L", (6, 8)).save(first)
    assert load_data(folder).hash != before


def test_colours_become_grey_and_16_bits_8(tmp_path: Path) -> None:
    folder = write_images(tmp_path / "set")
    names = iter(sorted((folder / "test").glob("*/*.png")))
    Image.new("RGB", (6, 8), (255, 0, 0)).save(next(names))
    Image.new("RGBA", (6, 8), (0, 255, 0, 0)).save(next(names))
    Image.new("1", (6, 8), 1).save(next(names))
    Image.fromarray(np.full((8, 6), 0x8001, np.uint16)).save(next(names))
    test = load_data(folder).test.open()
    assert [int(image.max()) for image in test.images] == [76, 150, 255, 128]
    assert all(image.min() == image.max() for image in test.images)


def test_images_of_another_size_are_named(tmp_path: Path) -> None:
    folder = write_images(tmp_path / "set")
    odd = folder / "test" / "hat" / "odd.png"
    Image.new("L", (7, 8)).save(odd)
    with pytest.raises(DataError, match=r"6 × 8 \(28, .*7 × 8 \(1, as .*odd.png\); --size 28"):
        load_data(folder)


def test_classes_must_agree(tmp_path: Path) -> None:
    folder = write_images(tmp_path / "set")
    (folder / "test" / "shoe").mkdir()
    with pytest.raises(DataError, match=r"one folder per class, as in train; .*: shoe"):
        load_data(folder)
    (folder / "test" / "shoe").rmdir()
    (folder / "classes.txt").write_text("hat\ncoat\n")
    with pytest.raises(DataError, match=r"as in classes.txt; .*: bag, coat"):
        load_data(folder)
    (folder / "classes.txt").unlink()
    for path in (folder / "train" / "hat").iterdir():
        path.unlink()
    with pytest.raises(DataError, match="hat: expected images, received none"):
        load_data(folder)
    for path in (folder / "test").glob("*/*"):
        path.unlink()
    for path in (folder / "test").iterdir():
        path.rmdir()


def png(width: int, height: int, rows: bytes) -> bytes:
    """A grey 8-bit PNG that claims to be of that size, whatever `rows` holds."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        check = zlib.crc32(kind + content)
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", check)

    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    parts = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + parts


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "expected data, received an empty file"),
        (b"GIF89a nonsense", "expected an image .*, received none"),
        (png(6, 8, bytes(56))[:-30], "expected an image .*, received none"),  # cut short
        (png(30_000, 30_000, bytes(99)), "expected at most .* received .*; "),
        (png(2_000, 2_000, bytes(99)), "expected at most 1024 × 1024 pixels, received 2000 × 2000"),
    ],
)
def test_a_broken_image_is_named(tmp_path: Path, content: bytes, message: str) -> None:
    folder = write_images(tmp_path / "set")
    (folder / "train" / "bag" / "000.png").write_bytes(content)
    with pytest.raises(DataError, match=rf"000\.png: {message}") as caught:
        load_data(folder)
    assert "\n" not in str(caught.value)


def test_what_is_no_file_or_too_large_is_not_opened(tmp_path: Path) -> None:
    folder = write_images(tmp_path / "set")
    path = folder / "train" / "bag" / "000.png"
    path.touch()
    os.truncate(path, 10**10)
    with pytest.raises(DataError, match=r"000\.png: expected an image file of at most"):
        load_data(folder)
    path.unlink()
    os.mkfifo(path)
    with pytest.raises(DataError, match=r"000\.png: expected an image file of at most"):
        load_data(folder)
    (folder / "classes.txt").write_text("bag\n")
    os.truncate(folder / "classes.txt", 10**10)
    with pytest.raises(DataError, match=r"classes\.txt: expected at most"):
        load_data(folder)


# --- descriptions --------------------------------------------------------------------------------


@settings(deadline=None)
@given(images=arrays.arrays(np.uint8, arrays.array_shapes(max_dims=4, max_side=9)))
def test_mean_and_deviation_are_those_of_numpy(images: np.ndarray) -> None:
    mean, deviation = mean_and_deviation(images)
    assert mean == pytest.approx((images / 255).mean(), abs=1e-12)
    assert deviation == pytest.approx((images / 255).std(), abs=1e-12)


def test_mean_and_deviation_are_exact() -> None:
    images = np.zeros((3_000_000,), np.uint8)  # more than one piece
    images[:1_500_000] = 255
    assert mean_and_deviation(images) == (0.5, 0.5)
    for wrong in (np.zeros((0, 28, 28), np.uint8), np.zeros(3)):
        with pytest.raises(UsageError, match="expected uint8 pixels"):
            mean_and_deviation(wrong)


def test_a_description_counts_what_is_there(tmp_path: Path, small: Data) -> None:
    said = describe(small)
    assert json.loads(json.dumps(said)) == said
    assert said["splits"]["test"] == {"images": 60, "per_class": dict.fromkeys("0123456789", 6)}
    assert set(said["duplicates"].values()) == {0}
    assert said["shape"] == [28, 28, 1]

    images = np.array(idx.read_idx(small.folder / "train-images-idx3-ubyte.gz"))
    test = np.array(idx.read_idx(small.folder / "t10k-images-idx3-ubyte.gz"))
    in_train = np.setdiff1d(np.arange(240), small.val_indices)
    images[in_train[:3]] = images[in_train[3]]  # four alike in train
    images[small.val_indices[0]] = images[in_train[3]]
    test[:2] = images[in_train[10]]
    folder = write_idx_set(tmp_path / "set")
    write_idx(folder / "train-images-idx3-ubyte.gz", images)
    write_idx(folder / "t10k-images-idx3-ubyte.gz", test)
    assert describe(load_data(folder))["duplicates"] == {
        "train": 3,
        "val": 0,
        "test": 1,
        "train-val": 1,
        "train-test": 1,
        "val-test": 0,
    }


@pytest.mark.parametrize("size", [(28, 28), (16, 40)])
def test_samples_are_drawn(tmp_path: Path, size: tuple[int, int]) -> None:
    folder = write_idx_set(tmp_path / "set", height=size[0], width=size[1])
    data = load_data(folder)
    path = tmp_path / "samples.png"
    draw_samples(data, path, per_class=4)
    with Image.open(path) as picture:
        assert picture.size > (200, 200)
        assert len(picture.convert("L").getcolors() or []) > 20
    with pytest.raises(UsageError, match="expected a name in"):
        draw_samples(data, tmp_path / "samples.xyz")
    with pytest.raises(UsageError, match="at least 1"):
        draw_samples(data, path, per_class=0)


@pytest.mark.parametrize("suffix", [".png", ".svg", ".pdf", ".jpg"])
def test_samples_replace_only_samples_and_leave_nothing_on_a_full_disk(
    tmp_path: Path, suffix: str
) -> None:
    data, path = load_data(write_idx_set(tmp_path / "set", classes=2)), tmp_path / f"a{suffix}"
    with files_limited_to(200), pytest.raises(RunError, match="could not be written"):
        draw_samples(data, path, per_class=1)
    assert [p.name for p in tmp_path.iterdir()] == ["set"]
    for _ in range(2):
        draw_samples(data, path, per_class=1)
    path.write_bytes(path.read_bytes().replace(b"made by fmnist", b"made by myself"))
    with pytest.raises(UsageError, match=f"{path}: expected a new name"):
        draw_samples(data, path, per_class=1)


def test_importing_needs_numpy_alone() -> None:
    heavy = "{'PIL', 'matplotlib', 'pooch', 'requests', 'platformdirs', 'rich'}"
    program = f"import sys, fmnist.data.load; print({heavy} & set(sys.modules))"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(
        [sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "set()"
