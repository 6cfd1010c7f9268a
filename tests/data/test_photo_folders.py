"""Which classes are right for a folder of photos, and what is refused."""

import pytest

from fmnist.data import photo_folders
from fmnist.data.fashion_mnist import FASHION_MNIST_CLASSES as CLASSES
from fmnist.errors import DataError


def fill(folder, *names):
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"any")
    return folder


def test_a_folders_name_says_which_classes_are_right(tmp_path):
    names = ("shoes/2.jpg", "shoes/1.PNG", "none/a.jpg", "Bag/b.webp", "hat/c", "outwear/d.jpg")
    fill(tmp_path, *names, "Bag/.hidden", ".hidden/e.jpg", "README.md", "source.txt")
    found = {
        str(path.relative_to(tmp_path)): [CLASSES[each] for each in right]
        for path, right in photo_folders.read(tmp_path, CLASSES)
    }
    assert found == {
        "Bag/b.webp": ["Bag"],
        "hat/c": [],
        "none/a.jpg": [],
        "outwear/d.jpg": ["Pullover", "Coat"],
        "shoes/1.PNG": ["Sandal", "Sneaker", "Ankle boot"],
        "shoes/2.jpg": ["Sandal", "Sneaker", "Ankle boot"],
    }
    assert list(found) == sorted(found)
    # A class of the data's own goes before a kind.
    assert {right for _, right in photo_folders.read(fill(tmp_path / "own", "hat/a"), ["hat"])} == {
        (0,)
    }


@pytest.mark.parametrize(
    ("names", "classes", "message"),
    [
        (("sock/a.jpg",), CLASSES, r"sock: expected .* one of none, .*, Ankle boot; received sock"),
        (("dress/a.jpg",), ("0", "1"), "expected data with the class Dress, received data of 0, 1"),
        (("a.jpg", "hat/b.jpg"), CLASSES, r"a\.jpg: expected photos in a folder a kind"),
        (("hat/.hidden",), CLASSES, "hat: expected photos, found none"),
        (("hat/more/a.jpg",), CLASSES, "more: expected a photo, found a folder"),
        (("hat/a.jpg", "hat/labels.csv"), CLASSES, r"labels\.csv: expected photos alone"),
        (("source.txt",), CLASSES, "found no folder in it"),
    ],
)
def test_what_is_no_folder_of_photos_is_refused(tmp_path, names, classes, message):
    with pytest.raises(DataError, match=message):
        photo_folders.read(fill(tmp_path, *names), classes)
    with pytest.raises(DataError, match="found none"):
        photo_folders.read(tmp_path / "missing", classes)


def test_the_source_is_kept_as_one_line_and_has_a_most(tmp_path):
    assert photo_folders.source(tmp_path) == ""
    path = tmp_path / "source.txt"
    path.write_text("By  A and B\nCC0\n", encoding="utf-8")
    assert photo_folders.source(tmp_path) == "By A and B CC0"
    for content, message in ((b"x" * 1001, "at most 1,000 characters"), (b"\xff", "UTF-8")):
        path.write_bytes(content)
        with pytest.raises(DataError, match=message):
            photo_folders.source(tmp_path)
