"""The forms that data comes in, each made small from Fashion-MNIST's own images."""

import gzip
import io
import json
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pytest
from idx import idx_bytes, write_idx
from PIL import Image

from fmnist.data.fashion_mnist import FASHION_MNIST_CLASSES
from fmnist.data.load import load_data
from fmnist.data.save import save_idx
from fmnist.data.splits import Data
from fmnist.errors import DataError, UsageError
from fmnist.inference.photos import prepare_photo

pytestmark = pytest.mark.data
SPLITS = (("train", 240), ("test", 60))


@pytest.fixture(scope="module")
def arrays(real: Data) -> dict[str, np.ndarray]:
    """Some of Fashion-MNIST, as many of each class, by the names that Keras has for them."""
    found = {}
    for split, count in SPLITS:
        part = real.train if split == "train" else real.test.open()
        rows = np.concatenate([np.flatnonzero(part.labels == c)[: count // 10] for c in range(10)])
        rows = np.sort(rows)
        found[f"x_{split}"], found[f"y_{split}"] = part.images[rows, ..., 0], part.labels[rows]
    return found


@pytest.fixture(scope="module")
def as_idx(arrays: dict[str, np.ndarray], tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_files(tmp_path_factory.mktemp("forms") / "some", arrays)


@pytest.fixture(scope="module")
def expected(as_idx: Path) -> Data:
    return load_data(as_idx)


def write_files(
    folder: Path, arrays: dict[str, np.ndarray], pattern: str = "{}-{}-idx{}-ubyte.gz"
) -> Path:
    folder.mkdir(parents=True)
    for split, stem in (("train", "train"), ("test", "t10k")):
        write_idx(folder / pattern.format(stem, "images", 3), arrays[f"x_{split}"])
        write_idx(folder / pattern.format(stem, "labels", 1), arrays[f"y_{split}"].astype(np.uint8))
    return folder


def same(one: Data, other: Data) -> None:
    """The same images and labels in the same splits, and so the same hashes."""
    for ours, theirs in ((one.train, other.train), (one.val, other.val)):
        np.testing.assert_array_equal(ours.images, theirs.images)
        np.testing.assert_array_equal(ours.labels, theirs.labels)
    np.testing.assert_array_equal(one.test.open().images, other.test.open().images)
    assert (one.hash, one.val_index_hash) == (other.hash, other.val_index_hash)


# --- CSV -----------------------------------------------------------------------------------------


def csv_text(images: np.ndarray, labels: np.ndarray, *, header: bool = True) -> str:
    flat = images.reshape(len(images), -1)
    lines = (
        [",".join(["label", *(f"pixel{i + 1}" for i in range(flat.shape[1]))])] if header else []
    )
    lines += [
        ",".join(map(str, [label, *row])) for label, row in zip(labels, flat.tolist(), strict=True)
    ]
    return "\n".join(lines) + "\n"


@pytest.mark.parametrize(
    ("names", "header"),
    [
        (("clothes_train.csv", "clothes_test.csv"), True),
        (("mnist_train.csv.gz", "mnist_test.csv.gz"), False),
        (("train.csv", "test.csv"), True),
    ],
)
@pytest.mark.parametrize("by", ["folder", "file"])
def test_csv(tmp_path: Path, arrays, expected, names, header: bool, by: str) -> None:
    folder = tmp_path / "archive"
    folder.mkdir()
    for (split, _), name in zip(SPLITS, names, strict=True):
        text = csv_text(arrays[f"x_{split}"], arrays[f"y_{split}"], header=header).encode()
        (folder / name).write_bytes(gzip.compress(text) if name.endswith(".gz") else text)
    same(load_data(folder if by == "folder" else folder / names[0]), expected)


def test_csv_without_test_labels_gets_a_test_split_drawn(tmp_path: Path, arrays, capsys) -> None:
    """Kaggle's digit recogniser: test.csv has no labels."""
    (tmp_path / "train.csv").write_text(csv_text(arrays["x_train"], arrays["y_train"]))
    flat = arrays["x_test"].reshape(60, -1).tolist()
    head = ",".join(f"pixel{i}" for i in range(784))
    (tmp_path / "test.csv").write_text(head + "\n" + "\n".join(",".join(map(str, r)) for r in flat))
    (tmp_path / "sample_submission.csv").write_text("ImageId,Label\n1,0\n")
    data = load_data(tmp_path)
    said = capsys.readouterr().err
    assert "test.csv: has no column of labels, so it is left out" in said
    assert "no test split: 30 images, one of 7 of each class, are drawn for it" in said
    assert (len(data.train), len(data.val), len(data.test)) == (200, 10, 30)
    assert np.bincount(data.test.open().labels).tolist() == [3] * 10
    again = load_data(tmp_path / "train.csv", report=lambda _: None)
    same(again, data)
    everything = {
        image.tobytes()
        for part in (data.train, data.val, data.test.open())
        for image in part.images
    }
    assert everything == {image.tobytes() for image in arrays["x_train"]}


def test_csv_with_class_names(tmp_path: Path, arrays) -> None:
    for split, _ in SPLITS:
        names = [FASHION_MNIST_CLASSES[label] for label in arrays[f"y_{split}"]]
        (tmp_path / f"{split}.csv").write_text(csv_text(arrays[f"x_{split}"], names))
    data = load_data(tmp_path)
    assert data.classes == tuple(sorted(FASHION_MNIST_CLASSES))
    assert (
        data.classes[data.train.labels[0]]
        == FASHION_MNIST_CLASSES[arrays["y_train"][1 if 0 in data.val_indices else 0]]
    )


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda text: text.replace(",0,", ",256,", 1), r"whole numbers of 0 to 255 .* '256'"),
        (lambda text: text.replace(",0,", ",0.5,", 1), r"whole numbers of 0 to 255 .* '0.5'"),
        (lambda text: text[:-9], "columns"),
        (lambda text: text.splitlines()[0], "a line for each image, received none"),
        (lambda _: "label,a,b\n1,2,3\n", "785 columns of 28 × 28, received 3"),
        (lambda text: text.replace(",", ";"), "received 1 columns; .* separated by commas"),
        (lambda text: "".join(f"0,{x}\n" for x in text.splitlines()), "index=False"),
        (lambda _: "", "an empty file"),
        (lambda _: "<!DOCTYPE html><html>", "a web page"),
        (lambda _: "version https://git-lfs.github.com/spec/v1\n", "git lfs pull"),
        (lambda text: text + "9" * (9 << 20), "lines of at most"),
    ],
)
def test_bad_csv_is_refused_in_a_line(tmp_path: Path, arrays, spoil, message: str) -> None:
    text = csv_text(arrays["x_train"][:20], arrays["y_train"][:20])
    (tmp_path / "train.csv").write_text(spoil(text))
    with pytest.raises(DataError, match=message) as caught:
        load_data(tmp_path / "train.csv")
    assert "\n" not in str(caught.value)


# --- arrays --------------------------------------------------------------------------------------


def test_npz_of_keras(tmp_path: Path, arrays, expected) -> None:
    np.savez(tmp_path / "mnist.npz", **arrays)
    same(load_data(tmp_path / "mnist.npz"), expected)
    np.savez_compressed(tmp_path / "mnist.npz", **arrays)
    data = load_data(tmp_path)
    same(data, expected)
    assert data.name == "mnist"


@pytest.mark.parametrize("rgb", [False, True])
def test_npz_of_medmnist(tmp_path: Path, arrays, expected, rgb: bool, capsys) -> None:
    """Its labels are (n, 1), its val is its own, and some of its sets have colours."""
    x, y = arrays["x_train"], arrays["y_train"]
    parts = {
        "train": (x[:200], y[:200]),
        "val": (x[200:], y[200:]),
        "test": (arrays["x_test"], arrays["y_test"]),
    }
    named = {}
    for split, (images, labels) in parts.items():
        named[f"{split}_images"] = np.stack([images, images // 2, images], -1) if rgb else images
        named[f"{split}_labels"] = labels[:, None].astype(np.uint8)
    np.savez(tmp_path / "pathmnist.npz", **named)
    data = load_data(tmp_path / "pathmnist.npz")
    assert (len(data.train), len(data.val), len(data.test)) == (200, 40, 60)
    np.testing.assert_array_equal(data.val.labels, y[200:])
    np.testing.assert_array_equal(data.fitting("all").labels, y)
    if rgb:
        assert "300 images in colour are read as grey" in capsys.readouterr().err
        coloured = Image.fromarray(named["train_images"][7]).convert("L")
        np.testing.assert_array_equal(data.train.images[7, ..., 0], np.asarray(coloured))
    else:
        np.testing.assert_array_equal(data.train.images[..., 0], x[:200])
        saved = load_data(save_idx(data, tmp_path / "saved"))
        same(saved, data)


@pytest.mark.parametrize("suffix", [".npz", ".npy"])
def test_four_files_of_kmnist(tmp_path: Path, arrays, expected, suffix: str) -> None:
    for split, _ in SPLITS:
        for kind, key in (("imgs", "x"), ("labels", "y")):
            path = tmp_path / f"kmnist-{split}-{kind}{suffix}"
            (np.savez if suffix == ".npz" else np.save)(path, arrays[f"{key}_{split}"])
    data = load_data(tmp_path)
    same(data, expected)
    assert data.name == "kmnist"
    same(load_data(tmp_path / f"kmnist-train-imgs{suffix}"), expected)


def test_npz_is_never_unpickled_nor_believed(tmp_path: Path, arrays) -> None:
    path = tmp_path / "some.npz"
    np.savez(path, **(arrays | {"y_test": np.array([print] * 60, object)}))
    with pytest.raises(DataError, match=r"y_test: .* pickled Python objects, which are never read"):
        load_data(path)
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(
        header, {"shape": (2**31, 1024, 1024), "fortran_order": False, "descr": "|u1"}
    )
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("x_train.npy", header.getvalue() + bytes(99))
    with pytest.raises(DataError, match="received a header for"):
        load_data(path)
    path.write_bytes(b"PK\x03\x04 nonsense")
    with pytest.raises(DataError, match="damaged"):
        load_data(path)
    np.savez(path, weights=np.zeros(3))
    with pytest.raises(DataError, match="arrays such as x_train"):
        load_data(path)


def test_arrays_in_hand(arrays, expected) -> None:
    data = Data.from_arrays(**arrays)
    same(data, expected)
    assert (data.name, data.folder) == ("arrays", None)
    with_channel = {k: v[..., None] if k[0] == "x" else v for k, v in arrays.items()}
    same(Data.from_arrays(**with_channel, classes=FASHION_MNIST_CLASSES), expected)
    drawn = Data.from_arrays(arrays["x_train"], arrays["y_train"], report=lambda _: None)
    assert len(drawn.test) == 30
    assert (
        str(data) == "Data('arrays': 10 classes, 28 × 28 pixels, 220 train, 20 val, 60 test images)"
    )


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("x_train", lambda x: x.astype(np.float32) / 255),
        ("x_train", lambda x: x.astype(np.float64)),
        ("x_test", lambda x: x.reshape(len(x), -1)),
        ("y_train", lambda y: np.eye(10)[y]),
        ("y_test", lambda y: y.astype(np.float32)),
    ],
)
def test_what_keras_users_have_in_hand_gets_the_line_that_converts_it(
    arrays, expected, name, change
) -> None:
    given = arrays | {name: change(arrays[name])}
    with pytest.raises(DataError, match=f"{name}: expected .*; convert: {name} = ") as caught:
        Data.from_arrays(**given)
    line = str(caught.value).split("convert: ")[1]
    exec(line, {"np": np}, given)
    same(Data.from_arrays(**given), expected)


def test_arrays_that_make_no_set(arrays) -> None:
    x, y = arrays["x_train"], arrays["y_train"]
    with pytest.raises(DataError, match=r"y_train: expected one label an image, of shape \(240,\)"):
        Data.from_arrays(x, y[:9])
    with pytest.raises(DataError, match=r"standardised, or convert"):
        Data.from_arrays((x - x.mean()) / x.std(), y)
    with pytest.raises(DataError, match="received NaN"):
        Data.from_arrays(np.where(x == 0, np.nan, x), y)
    with pytest.raises(DataError, match="found no labels"):
        Data.from_arrays(x, y, x)
    with pytest.raises(DataError, match=r"images of shape \(n, height, width\)"):
        Data.from_arrays(np.zeros((4, 5, 5, 2), np.uint8), np.arange(4))
    with pytest.raises(DataError, match=r"at least three images of a class.* received fewer of: 1"):
        Data.from_arrays(x[:6], np.array([0, 0, 0, 0, 1, 1]))


def test_fashion_mnist_is_itself_in_every_form(real: Data, tmp_path: Path) -> None:
    """Kaggle's CSV has its images in another order: its classes are known, and its val is new."""
    known, test = real.fitting("all"), real.test.open()
    given = (known.images, known.labels, test.images, test.labels)
    same(data := Data.from_arrays(*given), real)
    assert (data.name, data.classes) == ("fashion-mnist", FASHION_MNIST_CLASSES)
    order = np.random.RandomState(0).permutation(len(known))
    said: list[str] = []
    mixed = (known.images[order], known.labels[order], test.images, test.labels)
    shuffled = Data.from_arrays(*mixed, name="fashion-mnist", report=said.append)
    assert (shuffled.name, shuffled.classes) == ("fashion-mnist, reordered", FASHION_MNIST_CLASSES)
    assert "in another order" in said[0]
    with pytest.raises(DataError, match="its images are others; rename it"):
        Data.from_arrays(known.images[1:], known.labels[1:], *given[2:], name="fashion-mnist")


# --- IDX -----------------------------------------------------------------------------------------


def test_idx_with_a_dot(tmp_path: Path, arrays, expected) -> None:
    same(load_data(write_files(tmp_path / "dots", arrays, "{}-{}.idx{}-ubyte")), expected)


def test_emnist(tmp_path: Path, arrays, expected, capsys) -> None:
    """Its images lie transposed, its letters begin at 1, and its folder has six sets."""
    transposed = {k: v.swapaxes(1, 2) if k[0] == "x" else v + 1 for k, v in arrays.items()}
    folder = tmp_path / "gzip"
    folder.mkdir()
    for split, _ in SPLITS:
        write_idx(folder / f"emnist-letters-{split}-images-idx3-ubyte.gz", transposed[f"x_{split}"])
        labels = transposed[f"y_{split}"].astype(np.uint8)
        write_idx(folder / f"emnist-letters-{split}-labels-idx1-ubyte.gz", labels)
    mapping = folder / "emnist-letters-mapping.txt"
    mapping.write_text("".join(f"{i} {64 + i} {96 + i}\n" for i in range(1, 11)))
    data = load_data(folder)
    same(data, expected)
    assert (data.name, data.classes) == ("emnist-letters", tuple("ABCDEFGHIJ"))
    assert "turned upright" in capsys.readouterr().err
    mapping.unlink()
    assert load_data(folder).classes == tuple(map(str, range(1, 11)))
    write_files(tmp_path / "other", arrays)
    for path in (tmp_path / "other").iterdir():
        path.rename(folder / f"emnist-digits-{path.name.replace('t10k', 'test')}")
    with pytest.raises(DataError, match=r"several; name one: .*emnist-digits, .*emnist-letters"):
        load_data(folder)
    same(load_data(folder / "emnist-letters"), expected)


def test_the_one_set_below_is_found_and_several_are_listed(
    tmp_path: Path, arrays, expected
) -> None:
    """torchvision's root keeps them in NAME/raw, packed and unpacked; Keras' in datasets/NAME."""
    raw = write_files(tmp_path / "root" / "KMNIST" / "raw", arrays)
    for path in list(raw.iterdir()):
        (raw / path.stem).write_bytes(gzip.decompress(path.read_bytes()))
    for place in ("root", "root/KMNIST"):
        data = load_data(tmp_path / place)
        same(data, expected)
        assert (data.name, data.folder) == ("KMNIST", raw)
    np.savez(tmp_path / "root" / "mnist.npz", **arrays)
    with pytest.raises(DataError, match=r"several; name one: .*mnist.npz, .*KMNIST/raw"):
        load_data(tmp_path / "root")


# --- archives ------------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", [".zip", ".tar", ".tar.gz", ".tgz"])
def test_archives(tmp_path: Path, as_idx: Path, expected, suffix: str) -> None:
    path = tmp_path / f"some{suffix}"
    if suffix == ".zip":
        with zipfile.ZipFile(path, "w") as archive:
            for file in as_idx.iterdir():
                archive.write(file, f"inner/{file.name}")
                archive.writestr(f"__MACOSX/inner/._{file.name}", b"macOS's")
    else:
        with tarfile.open(path, "w:gz" if "gz" in suffix else "w") as archive:
            archive.add(as_idx, "inner")
    data = load_data(path)
    same(data, expected)
    assert data.folder == path
    inside = load_data(path / "inner")  # as the message for several sets names them
    same(inside, expected)
    same(load_data(tmp_path), expected)


def test_hostile_archives(tmp_path: Path, as_idx: Path, monkeypatch) -> None:
    for name in ("../out", "/tmp/out", "a/../../out", "..\\out", "C:\\out"):
        path = tmp_path / "hostile.zip"
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr(name, b"out")
        with pytest.raises(DataError, match="expected names inside the archive"):
            load_data(path)
    link = tmp_path / "link.tar"
    with tarfile.open(link, "w") as archive:
        entry = tarfile.TarInfo("train-images-idx3-ubyte")
        entry.type, entry.linkname = tarfile.SYMTYPE, "/etc/passwd"
        archive.addfile(entry)
    with pytest.raises(DataError, match=r"link.tar: expected a data set, found none"):
        load_data(link)
    monkeypatch.setattr("fmnist.data.forms.archive.SIZE_LIMIT", 10_000)
    bomb = tmp_path / "bomb.zip"
    with zipfile.ZipFile(bomb, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("train-images-idx3-ubyte", bytes(1 << 24))
    with pytest.raises(DataError, match="unpacks to less"):
        load_data(bomb)
    bomb.write_bytes(b"version https://git-lfs.github.com/spec/v1\n")
    with pytest.raises(DataError, match="git lfs pull"):
        load_data(bomb)
    bomb.write_bytes(b"PK nothing")
    with pytest.raises(DataError, match="expected a zip or tar archive"):
        load_data(bomb)


# --- Parquet -------------------------------------------------------------------------------------


def png_bytes(image: np.ndarray) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(image).save(stream, "PNG")
    return stream.getvalue()


def test_parquet_of_hugging_face(tmp_path: Path, arrays, expected) -> None:
    pyarrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    features = {
        "image": {"_type": "Image"},
        "label": {"names": list(FASHION_MNIST_CLASSES), "_type": "ClassLabel"},
    }
    (tmp_path / "data").mkdir()
    for split, _ in SPLITS:
        images = [{"bytes": png_bytes(i), "path": None} for i in arrays[f"x_{split}"]]
        table = pyarrow.table({"image": images, "label": arrays[f"y_{split}"].astype(np.int64)})
        table = table.replace_schema_metadata(
            {"huggingface": json.dumps({"info": {"features": features}})}
        )
        halves = 2 if split == "train" else 1
        for i in range(halves):
            part = table.slice(i * len(table) // halves, len(table) // halves)
            parquet.write_table(part, tmp_path / "data" / f"{split}-{i:05}-of-{halves:05}.parquet")
    data = load_data(tmp_path)
    same(data, expected)
    assert data.classes == FASHION_MNIST_CLASSES
    hub = tmp_path / "hub" / "default"  # as the Hub converts them
    for path in (tmp_path / "data").iterdir():
        place = hub / path.name.split("-")[0] / f"{path.name.split('-')[1]}.parquet"
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(path.read_bytes())
    same(load_data(tmp_path / "hub"), expected)
    (tmp_path / "data" / "train-00000-of-00002.parquet").write_bytes(b"PAR1 nonsense PAR1")
    with pytest.raises(DataError, match="damaged Parquet") as caught:
        load_data(tmp_path / "data")
    assert "\n" not in str(caught.value)


# --- folders of images ---------------------------------------------------------------------------


def write_pictures(
    folder: Path, images: np.ndarray, labels: np.ndarray, suffix: str = "png", **how
) -> None:
    for number, (image, label) in enumerate(zip(images, labels, strict=True)):
        path = folder / f"class {label}" / f"{number:04}.{suffix}"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(path, **how)


def test_classes_alone(tmp_path: Path, arrays, capsys) -> None:
    write_pictures(tmp_path / "set" / "wardrobe", arrays["x_train"], arrays["y_train"])
    data = load_data(tmp_path / "set")
    assert "no test split: 30 images, one of 7" in capsys.readouterr().err
    assert (len(data.train), len(data.val), len(data.test)) == (200, 10, 30)
    assert (data.name, data.classes) == ("wardrobe", tuple(f"class {i}" for i in range(10)))
    saved = load_data(save_idx(data, tmp_path / "saved"))
    assert saved.classes == data.classes
    same(saved, data)


@pytest.mark.parametrize(
    ("names", "sizes"),
    [
        (("train", "val", "test"), (200, 40, 60)),
        (("Train", "Validation", "TEST"), (200, 40, 60)),
        (("training", "valid", "testing"), (200, 40, 60)),
        (("train", "val", None), (180, 40, 20)),
        (("training", None, "testing"), (190, 10, 60)),
    ],
)
def test_splits_of_their_own_are_used(tmp_path: Path, arrays, names, sizes) -> None:
    x, y = arrays["x_train"], arrays["y_train"]
    ranks = np.argsort(np.argsort(y, kind="stable"))
    rows = np.argsort(ranks % 24 >= 20, kind="stable")
    first, rest = np.sort(rows[:200]), np.sort(rows[200:])
    parts = ((x[first], y[first]), (x[rest], y[rest]), (arrays["x_test"], arrays["y_test"]))
    for name, part in zip(names, parts, strict=True):
        if name:
            write_pictures(tmp_path / "set" / name, *part)
    data = load_data(tmp_path / "set", report=lambda _: None)
    assert (len(data.train), len(data.val), len(data.test)) == sizes
    if names[1]:
        assert {i.tobytes() for i in data.val.images} == {i.tobytes() for i in x[rest]}


@pytest.mark.parametrize("suffix", ["jpe", "jfif", "gif", "tif", "tiff", "ppm", "pgm"])
def test_every_format_that_predict_reads(tmp_path: Path, arrays, suffix: str) -> None:
    how = {"format": "JPEG"} if suffix in ("jpe", "jfif") else {}
    for split, _ in SPLITS:
        write_pictures(tmp_path / split, arrays[f"x_{split}"], arrays[f"y_{split}"], suffix, **how)
    data = load_data(tmp_path)
    assert (len(data.train), len(data.val), len(data.test)) == (220, 20, 60)


def test_subfolders_count_and_other_files_are_counted(tmp_path: Path, arrays, capsys) -> None:
    for split, _ in SPLITS:
        write_pictures(tmp_path / split, arrays[f"x_{split}"], arrays[f"y_{split}"])
    inner = tmp_path / "train" / "class 3" / "more" / "deeper"
    inner.mkdir(parents=True)
    for number in range(5):
        Image.fromarray(arrays["x_test"][number]).convert("RGB").save(inner / f"{number}.tiff")
    Image.new("RGB", (28, 28), (200, 10, 10)).save(inner / "red.webp", lossless=True)
    (inner / "photo.psd").write_bytes(b"something")
    (inner / "notes.txt").write_text("something")
    (tmp_path / "train" / "loose.png").write_bytes(b"something")
    data = load_data(tmp_path)
    said = capsys.readouterr().err
    assert len(data.train) + len(data.val) == 246
    assert "1 images in colour are read as grey" in said
    assert (
        "3 files are no images by class: passed over: .psd (1), .txt (1), in no class's folder (1)"
        in said
    )


def test_sizes(tmp_path: Path, arrays) -> None:
    for split, _ in SPLITS:
        write_pictures(tmp_path / split, arrays[f"x_{split}"], arrays[f"y_{split}"])
    wide = np.full((600, 1500), 255, np.uint8)
    wide[200:400, 500:1000] = 0
    Image.fromarray(wide).save(tmp_path / "train" / "class 0" / "wide.png")
    with pytest.raises(DataError, match=r"wide.png: .*at most 1024 × 1024.*; --size 28"):
        load_data(tmp_path)
    Image.fromarray(wide[:, :900]).save(tmp_path / "train" / "class 0" / "wide.png")
    with pytest.raises(DataError, match=r"received 28 × 28 \(300.*900 × 600 \(1, .*; --size 28"):
        load_data(tmp_path)
    Image.fromarray(wide).save(tmp_path / "train" / "class 0" / "wide.png")
    data = load_data(tmp_path, size=28)
    assert data.shape == (28, 28, 1)
    assert data.reading == {"size": 28}
    both = np.concatenate([data.train.images, data.val.images])[..., 0]
    (ours,) = [image for image in both if (image[:5] == 255).all() and (image[-5:] == 255).all()]
    wide = tmp_path / "train" / "class 0" / "wide.png"
    np.testing.assert_array_equal(prepare_photo(wide, whole=True), ours)  # as predict reads it
    dark = np.argwhere(ours < 128)
    # 28 / 1500 of 200 × 500, in its own proportions
    assert np.ptp(dark, axis=0) + 1 == pytest.approx([200 * 28 / 1500, 500 * 28 / 1500], abs=1)
    assert (255 - ours).sum() / 255 == pytest.approx(200 * 500 * (28 / 1500) ** 2, rel=0.02)
    with pytest.raises(UsageError, match="1 to 1024"):
        load_data(tmp_path, size=0)


def test_unreadable_images_are_listed_at_once(tmp_path: Path, arrays) -> None:
    for split, _ in SPLITS:
        write_pictures(tmp_path / split, arrays[f"x_{split}"], arrays[f"y_{split}"])
    spoilt = sorted((tmp_path / "train" / "class 4").iterdir())[:3]
    spoilt[0].write_bytes(b"version https://git-lfs.github.com/spec/v1\noid sha256:00\n")
    spoilt[1].write_bytes(b"<html>not found</html>")
    spoilt[2].write_bytes(spoilt[2].read_bytes()[:60])
    said: list[str] = []
    with pytest.raises(DataError, match=r"3 of 300 images cannot be read, .* --skip-unreadable"):
        load_data(tmp_path, report=said.append)
    assert [line.split(": ")[0] for line in said] == [str(path) for path in spoilt]
    assert "git lfs pull" in said[0]
    assert "web page" in said[1]
    data = load_data(tmp_path, skip_unreadable=True, report=said.append)
    assert len(data.train) + len(data.val) == 237
    assert data.reading == {"skip_unreadable": True}
    assert "3 of 300 images cannot be read: left out" in said[-1]


@pytest.mark.parametrize(
    "names", [("training_set", "test_set"), ("seg_train/seg_train", "seg_test/seg_test")]
)
def test_split_folders_of_other_names(tmp_path: Path, arrays, names, capsys) -> None:
    """As Kaggle has them, also one within another of its name."""
    for (split, _), name in zip(SPLITS, names, strict=True):
        write_pictures(tmp_path / "set" / name, arrays[f"x_{split}"], arrays[f"y_{split}"])
    write_pictures(tmp_path / "set" / "extra", arrays["x_test"], arrays["y_test"])
    data = load_data(tmp_path / "set")
    assert (len(data.train), len(data.val), len(data.test)) == (220, 20, 60)
    assert data.classes == tuple(f"class {i}" for i in range(10))
    assert "folders beside train are passed over: extra" in capsys.readouterr().err


def test_a_test_folder_without_labels_is_left_out(tmp_path: Path, arrays, capsys) -> None:
    write_pictures(tmp_path / "train", arrays["x_train"], arrays["y_train"])
    (tmp_path / "test").mkdir()
    for number in range(5):
        Image.fromarray(arrays["x_test"][number]).save(tmp_path / "test" / f"{number}.png")
    data = load_data(tmp_path)
    said = capsys.readouterr().err
    assert "test has no folders by class, so no labels: it is left out" in said
    assert "no test split: 30 images" in said
    assert len(data.test) == 30


# --- what is wrong with the images ---------------------------------------------------------------


def test_faults_of_the_images_are_said(arrays) -> None:
    said: list[str] = []
    bits = {k: v // 128 if k[0] == "x" else v for k, v in arrays.items()}
    Data.from_arrays(**bits, report=said.append)
    assert any("every pixel is 0 or 1" in line for line in said)
    said.clear()
    shared = arrays["x_test"].copy()
    shared[:7] = arrays["x_train"][:7]
    Data.from_arrays(**(arrays | {"x_test": shared}), report=said.append)
    assert any("7 images are in test and in train or val too" in line for line in said)
    with pytest.raises(DataError, match="received 9 in every pixel"):
        Data.from_arrays(**(arrays | {"x_train": np.full_like(arrays["x_train"], 9)}))
    gap = {k: np.where(v == 3, 11, v) if k[0] == "y" else v for k, v in arrays.items()}
    said.clear()
    data = Data.from_arrays(**gap, report=said.append)
    assert data.classes == ("0", "1", "2", "4", "5", "6", "7", "8", "9", "11")
    assert "0 to 11 with 10 classes among them" in said[0]


def test_labels_of_minus_one_are_none(arrays) -> None:
    said: list[str] = []
    hidden = arrays | {"y_test": np.full(60, -1)}
    data = Data.from_arrays(**hidden, classes=FASHION_MNIST_CLASSES, report=said.append)
    assert "test's labels are all -1" in said[0]
    assert len(data.test) == 30
    with pytest.raises(DataError, match="expected labels 0 to 9, received -1 in train"):
        Data.from_arrays(arrays["x_train"], arrays["y_train"] - 1, classes=FASHION_MNIST_CLASSES)
    with pytest.raises(DataError, match="different names"):
        Data.from_arrays(**arrays, classes=["a"] * 10)


def test_what_is_no_data_says_so(tmp_path: Path) -> None:
    (tmp_path / "__MACOSX").mkdir()
    with pytest.raises(DataError, match="what macOS adds to an archive"):
        load_data(tmp_path)
    for name, content, message in (
        ("train-images-idx3-ubyte", b"version https://git-lfs.github.com/spec/v1", "git lfs pull"),
        ("notes.txt", b"hello", "expected a data set; see docs/data.md"),
        ("page.pt", b"<html><body>404</body></html>", "a web page"),
    ):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(DataError, match=message):
            load_data(tmp_path / name)
    assert idx_bytes(np.zeros(1, np.uint8))[:4] == b"\0\0\x08\x01"
