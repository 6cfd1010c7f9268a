"""Garments of photos, and of a data set's images, as other photos might show them.

Photos are turned, darker or lighter, cut off at the frame, and of pairs; a data set's images seldom
are. Forms that no garment has, in a photo's colours, are examples of no class.
"""

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from fmnist.inference.garments import LOOK, Look

Layers = NDArray[np.uint8]  # red, green, blue and opacity, (height, width, 4)
ASKEW = 12.0  # degrees, the standard deviation of most copies' turns
SLIGHTLY = 8.0  # degrees, that beside quarter turns
SIDEWAYS = 0.25  # share of the copies that lie on a side, or on their head
PAIRS, CUT = 0.15, 0.2  # shares of pairs, and of what the frame cuts off
DARK = 6  # of 255: what is no lighter in an image is its ground


def varied(seen: Look, random: np.random.Generator) -> Look:
    """A copy of a look, turned, mirrored, wider or narrower, in other light, cut off, or twice."""
    light = np.clip(seen.pixels * random.uniform(0.75, 1.2) + random.uniform(-20, 20), 0, 255)
    light = 255 * (light / 255) ** random.uniform(0.75, 1.3)
    opacity = 255 * seen.opacity.astype(np.float64) ** random.uniform(0.6, 1.7)
    picture = Image.fromarray(np.dstack([light, opacity]).astype(np.uint8))
    if random.random() < 0.5:
        picture = picture.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    width = round(picture.width * random.uniform(0.85, 1.18))
    picture = picture.resize((width, picture.height), Image.Resampling.BILINEAR)
    turn = random.normal(0, ASKEW)
    if random.random() < SIDEWAYS:
        turn = 90 * random.integers(1, 4) + random.normal(0, SLIGHTLY)
    picture = picture.rotate(turn, Image.Resampling.BILINEAR, expand=True)
    layers, kind = np.asarray(picture), random.random()
    if kind < PAIRS:
        layers = _paired(layers, random)
    elif kind < PAIRS + CUT:
        layers = _cut_off(layers, random)
    return _look(layers)


def of_image(image: NDArray[np.uint8]) -> Look:
    """An image of the data set, uint8 (28, 28), light on black, as a look."""
    size = (LOOK, LOOK)
    opaque = Image.fromarray(np.where(image > DARK, np.uint8(255), np.uint8(0)))
    dark, opacity = (
        np.asarray(each.resize(size, Image.Resampling.BILINEAR))
        for each in (Image.fromarray(image), opaque)
    )
    return _look(np.dstack([255 - dark] * 3 + [opacity]))


def no_garment(seen: Look, random: np.random.Generator) -> Look:
    """Something else of a look's colours: a blot of its ground, a many-pointed form, or a ring."""
    kind = random.random()
    if kind < 0.5:
        opacity = (seen.opacity < 0.2) * _blot(random)
    else:
        opacity = _outline(random, hole=kind > 0.8)
    return Look(seen.pixels, opacity.astype(np.float32))


def _blot(random: np.random.Generator) -> NDArray[np.float64]:
    """The opacity of a blot, or some, of any form in the middle: (LOOK, LOOK)."""
    knots = random.normal(0, 1, (int(random.integers(3, 8)),) * 2).astype(np.float32)
    rough = Image.fromarray(knots).resize((LOOK, LOOK), Image.Resampling.BICUBIC)
    y, x = np.mgrid[0:LOOK, 0:LOOK] / LOOK - 0.5
    height: NDArray[np.float64] = np.asarray(rough) - 8 * (x * x + y * y) + random.uniform(0, 0.8)
    return 1 / (1 + np.exp(-6 * height))


def _outline(random: np.random.Generator, *, hole: bool) -> NDArray[np.float64]:
    """The opacity of a form with 3 to 12 corners, or of many, which are round: (LOOK, LOOK)."""
    corners = int(random.choice([*range(3, 13), 60]))
    around = 2 * np.pi * (np.arange(corners) + random.uniform(-0.3, 0.3, corners)) / corners
    spread = random.uniform(0, 0.6)
    away = 2 * LOOK * (1 - spread * random.random(corners)) * random.uniform(0.6, 1)
    flat = random.uniform(0.3, 1)
    x, y = away * np.cos(around), flat * away * np.sin(around)
    canvas, middle = Image.new("L", (4 * LOOK, 4 * LOOK)), 2 * LOOK
    draw = ImageDraw.Draw(canvas)
    for part, fill in ((1.0, 255), (random.uniform(0.3, 0.8), 0))[: 1 + hole]:
        draw.polygon([*zip(middle + part * x, middle + part * y, strict=True)], fill=fill)
    turned = canvas.rotate(random.uniform(0, 360), Image.Resampling.BILINEAR)
    return np.asarray(turned.resize((LOOK, LOOK), Image.Resampling.BOX)) / 255


def _look(layers: Layers) -> Look:
    opacity = (layers[:, :, 3] / 255).astype(np.float32)
    return Look(np.ascontiguousarray(layers[:, :, :3]), opacity)


def _paired(layers: Layers, random: np.random.Generator) -> Layers:
    """Beside one like it, or its mirror image; now and then below it."""
    other = layers if random.random() < 0.5 else layers[:, ::-1]
    return np.concatenate([layers, other], axis=0 if random.random() < 0.15 else 1)


def _cut_off(layers: Layers, random: np.random.Generator) -> Layers:
    """Without up to a fifth of the garment at some of the four sides, as by the photo's frame."""
    sides = random.uniform(0, 0.2, 4) * (random.random(4) < 0.6)
    for axis, (before, after) in enumerate(sides.reshape(2, 2)):
        places = np.flatnonzero((layers[:, :, 3] > 127).any(axis=1 - axis))
        if len(places):
            first, last = places[0], places[-1]
            long = last + 1 - first
            kept = slice(first + round(long * before), last + 1 - round(long * after))
            layers = layers[kept] if axis == 0 else layers[:, kept]
    return layers
