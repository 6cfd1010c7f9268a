"""Photos of garments, drawn, and a data set of images on black, as Fashion-MNIST's are."""

import numpy as np
from idx import make_images
from PIL import Image, ImageDraw

from fmnist.data.fashion_mnist import FASHION_MNIST_CLASSES as CLASSES
from fmnist.data.splits import Data

SHAPES = {
    "pants": [(40, 20, 58, 140), (62, 20, 80, 140), (40, 20, 80, 40)],
    "shoes": [(20, 90, 100, 115), (70, 60, 100, 95)],
    "outwear": [(30, 30, 90, 140), (10, 35, 40, 130), (80, 35, 110, 130)],
    "hat": [(50, 20, 70, 140), (10, 70, 110, 90)],
}
SOURCE = "Drawn by a test, CC0"


def draw(path, kind, number):
    """A JPEG of a garment of a kind on a light ground, a little larger with each number."""
    picture = Image.new("RGB", (120, 160), (228, 226, 221))
    for left, top, right, bottom in SHAPES[kind]:
        box = (left - number, top, right + number, bottom + number)
        ImageDraw.Draw(picture).rectangle(box, fill=(60, 20 + 30 * (number % 4), 90))
    path.parent.mkdir(parents=True, exist_ok=True)
    picture.save(path, "JPEG")


def draw_photos(folder, count=8):
    """A folder of `count` photos of each kind, and whose they are."""
    for kind in SHAPES:
        for number in range(count):
            draw(folder / kind / f"{number}.jpg", kind, number)
    (folder / "source.txt").write_text(f"{SOURCE}\n", encoding="utf-8")
    return folder


def on_black():
    """240 training images of 28×28 by Fashion-MNIST's classes, black at their edges."""
    parts = []
    for count, seed in ((240, 1), (40, 2), (40, 3)):
        images, labels = make_images(count, 20, 20, len(CLASSES), seed)
        parts += [np.pad(images, ((0, 0), (4, 4), (4, 4))), labels]
    return Data.from_arrays(*parts, classes=CLASSES, name="blocks", report=lambda _: None)
