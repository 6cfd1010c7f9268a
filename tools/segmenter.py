"""Train the network that tells garments from grounds in photos, `inference/shipped/segmenter.onnx`.

    pip install opencv-python-headless
    python tools/segmenter.py --photos DIR --out runs/segmenter

DIR has a folder a kind with photos of garments, as the Clothing Dataset (small). Nobody has drawn
masks for them: GrabCut (Rother, Kolmogorov & Blake 2004) finds one for each, and those that cannot
be right (at the border, nearly nothing, nearly all) are left out. Composites are made of what is
left and of Fashion-MNIST's training images: garments, scaled and turned, on other photos' borders
or drawn grounds, alone, in pairs, too large for the frame, worn, on a hanger, with shadows; and
grounds alone. A small U-Net (Ronneberger, Fischer & Brox 2015) learns their opacity.
"""

import argparse
import functools
import json
import multiprocessing
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

import fmnist

SIDE = 64  # pixels of what the network sees
WORK = 128  # pixels of a photo's longest side, for GrabCut
FINE = 3  # garments are laid out this much finer, then averaged
CHANNELS = (8, 16, 32, 40)
BOTTOM = 48
BATCH = 64
HELD = 1000  # composites to score on
AT_ONCE = 5000  # composites of one seed
SUFFIXES = (".jpg", ".jpeg", ".png")


def garment_of(path):
    """A photo, RGB uint8 (h, w, 3) of at most WORK pixels, and GrabCut's mask, uint8 (h, w)."""
    image = Image.open(path).convert("RGB")
    image.thumbnail((WORK, WORK), Image.Resampling.BOX)
    pixels = np.asarray(image)
    height, width = pixels.shape[:2]
    y, x = np.mgrid[0:height, 0:width]
    off = np.maximum(abs(2 * y - height + 1) / height, abs(2 * x - width + 1) / width)
    mask = np.where(off > 0.8, cv2.GC_PR_BGD, cv2.GC_PR_FGD).astype(np.uint8)
    band = max(2, min(height, width) // 24)
    mask[:band] = mask[-band:] = mask[:, :band] = mask[:, -band:] = cv2.GC_BGD
    lab = cv2.cvtColor(pixels, cv2.COLOR_RGB2LAB)
    try:
        cv2.grabCut(lab, mask, None, np.zeros((1, 65)), np.zeros((1, 65)), 6, cv2.GC_INIT_WITH_MASK)
    except cv2.error:  # one of the two has no pixels left
        return pixels, np.zeros((height, width), np.uint8)
    found = np.isin(mask, (cv2.GC_FGD, cv2.GC_PR_FGD)).astype(np.uint8)
    found = cv2.morphologyEx(found, cv2.MORPH_OPEN, np.ones((3, 3), np.uint8))
    _, labels, about, _ = cv2.connectedComponentsWithStats(found)
    sizes = about[:, cv2.CC_STAT_AREA] * (np.arange(len(about)) > 0)
    found = (5 * sizes >= max(1, sizes.max()))[labels].astype(np.uint8)
    return pixels, _filled(found, 0.015 * found.sum())


def _filled(mask, largest):
    """A mask with its holes of less than `largest` pixels filled."""
    _, labels, about, _ = cv2.connectedComponentsWithStats(1 - mask, connectivity=4)
    holes = about[:, cv2.CC_STAT_AREA] < largest
    holes[0] = False
    for edge in (labels[0], labels[-1], labels[:, 0], labels[:, -1]):
        holes[edge] = False
    return mask | holes[labels].astype(np.uint8)


def is_likely(mask):
    """Whether a mask may be a garment's: neither nearly nothing nor all, off the border, whole."""
    border = np.concatenate([mask[0], mask[-1], mask[:, 0], mask[:, -1]])
    pieces = cv2.connectedComponents(mask)[0] - 1
    return 0.06 < mask.mean() < 0.8 and border.mean() < 0.12 and 1 <= pieces <= 2


def from_fashion_mnist(images, rng):
    """Garments of the data set, (28, 28) uint8 each, as coloured ones of 84×84 and their masks."""
    found = []
    for image in images:
        opaque = cv2.resize((image > 6).astype(np.float32), (84, 84), interpolation=cv2.INTER_CUBIC)
        grey = 255.0 - cv2.resize(image, (84, 84), interpolation=cv2.INTER_CUBIC)
        colour = rng.uniform(0.35, 1, 3) if rng.random() < 0.7 else np.full(3, rng.uniform(0.4, 1))
        garment = grey[:, :, None] * colour + rng.uniform(-20, 30)
        if rng.random() < 0.4:
            garment += stripes(84, rng, 0.15, 1.2)[:, :, None] * rng.uniform(-120, 120, 3)
        mask = _filled((opaque > 0.5).astype(np.uint8), 40)
        found.append((np.clip(garment, 0, 255).astype(np.uint8), mask))
    return found


def stripes(side, rng, slowest, fastest):
    """Zeros and ones in stripes of any direction, (side, side)."""
    y, x = np.mgrid[0:side, 0:side]
    turn = rng.uniform(0, np.pi)
    phase = (y * np.cos(turn) + x * np.sin(turn)) * rng.uniform(slowest, fastest)
    return (np.sin(phase + rng.uniform(0, 6)) > rng.uniform(-0.5, 0.5)).astype(float)


def strips(photos):
    """What lies beside the garments, RGB of at least 96×96: a border's strip, mirrored."""
    found = []
    for pixels, mask in photos:
        rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
        if not len(rows):
            continue
        beside = (
            pixels[: max(0, rows[0] - 3)],
            pixels[rows[-1] + 4 :],
            pixels[:, : max(0, columns[0] - 3)],
            pixels[:, columns[-1] + 4 :],
        )
        for strip in beside:
            if min(strip.shape[:2]) < 14:
                continue
            while strip.shape[0] < 96:
                strip = np.concatenate([strip, strip[::-1]])
            while strip.shape[1] < 96:
                strip = np.concatenate([strip, strip[:, ::-1]], 1)
            found.append(strip[:128, :128])
    return found


def drawn_ground(rng):
    """A ground in floats (SIDE, SIDE, 3): plain, shaded, of planks, tiles, stripes, checks, …"""
    y, x = np.mgrid[0:SIDE, 0:SIDE] / SIDE
    grey = rng.choice([255, 252, 245, 230, 200, 120, 30, 10])
    ground = np.ones((SIDE, SIDE, 3)) * (rng.uniform(0, 255, 3) if rng.random() < 0.6 else grey)
    turn = rng.uniform(0, np.pi)
    u, v = x * np.cos(turn) + y * np.sin(turn), y * np.cos(turn) - x * np.sin(turn)
    kind = rng.choice(
        ["plain", "slope", "planks", "tiles", "stripes", "checks", "carpet", "corner"]
    )
    if kind == "slope":
        ground += ((u - 0.5) * rng.uniform(-120, 120))[:, :, None]
    elif kind == "planks":
        count = rng.integers(3, 10)
        plank = np.floor(u * count + rng.random()).astype(int) % 40
        tones = rng.uniform(-30, 30, 40)
        grain = np.sin(v * rng.uniform(20, 60) + tones[plank]) * rng.uniform(0, 15)
        joint = ((u * count) % 1 < 0.08) * rng.uniform(20, 90)
        ground += (tones[plank] + grain - joint)[:, :, None]
    elif kind == "tiles":
        count = rng.integers(2, 7)
        joint = ((u * count) % 1 < 0.06) | ((v * count) % 1 < 0.06)
        ground += joint[:, :, None] * rng.uniform(-90, 90)
    elif kind == "stripes":
        ground += stripes(SIDE, rng, 0.15, 2.3)[:, :, None] * rng.uniform(-130, 130, 3)
    elif kind == "checks":
        checks = np.abs(stripes(SIDE, rng, 0.2, 1.1) - stripes(SIDE, rng, 0.2, 1.1))
        ground += checks[:, :, None] * rng.uniform(-120, 120, 3)
    elif kind == "carpet":
        coarse = rng.normal(0, 1, (rng.integers(4, 24), rng.integers(4, 24))).astype(np.float32)
        pile = cv2.resize(coarse, (SIDE, SIDE), interpolation=cv2.INTER_CUBIC)
        ground += pile[:, :, None] * rng.uniform(-60, 60, 3)
    elif kind == "corner":
        floor = v > rng.uniform(0.1, 0.6)
        ground = np.where(floor[:, :, None], ground, rng.uniform(0, 255, 3))
    if rng.random() < 0.5:
        ground += rng.normal(0, rng.uniform(0, 18), (SIDE, SIDE, 3 if rng.random() < 0.3 else 1))
    if rng.random() < 0.4:
        away = (x - rng.random()) ** 2 + (y - rng.random()) ** 2
        ground += (away * rng.uniform(-80, 80))[:, :, None]
    return np.clip(ground, 0, 255)


def ground_for(grounds, rng):
    """A ground in floats (SIDE, SIDE, 3): part of a photo's strip, a drawn one, or a shop's."""
    kind = rng.random()
    if kind < 0.15:
        return np.full((SIDE, SIDE, 3), rng.uniform(238, 255))
    if kind < 0.5:
        return drawn_ground(rng)
    strip = grounds[rng.integers(len(grounds))]
    strip = strip[:: rng.choice([1, -1]), :: rng.choice([1, -1])]
    if rng.random() < 0.5:
        strip = strip.transpose(1, 0, 2)
    part = min(rng.integers(40, 96), *strip.shape[:2])
    top, left = (rng.integers(size - part + 1) for size in strip.shape[:2])
    part = np.ascontiguousarray(strip[top : top + part, left : left + part])
    return cv2.resize(part, (SIDE, SIDE), interpolation=cv2.INTER_AREA).astype(float)


class Scene:
    """A picture in the making: RGB in floats (SIDE, SIDE, 3), and the garments' opacity."""

    def __init__(self, ground):
        self.pixels, self.opacity = ground.copy(), np.zeros((SIDE, SIDE))

    def lay(self, garment, rng, *, size, turn, at, shadow):
        """Lay (RGB, mask) down: `size` of SIDE long, turned by degrees, its middle at (x, y)."""
        pixels, mask = garment
        if rng.random() < 0.5:
            pixels, mask = pixels[:, ::-1], mask[:, ::-1]
        rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
        middle = (columns[0] + columns[-1]) / 2, (rows[0] + rows[-1]) / 2
        scale = size * SIDE * FINE / (max(np.ptp(rows), np.ptp(columns)) + 1)
        move = cv2.getRotationMatrix2D(middle, turn, scale)
        move[0, :2] *= rng.uniform(0.9, 1.1)
        move[:, 2] = np.array(at) * SIDE * FINE - move[:, :2] @ middle
        self._blend(*(self._moved(each, move) for each in (pixels, mask * 255)), rng, shadow)

    @staticmethod
    def _moved(image, move, border=cv2.BORDER_CONSTANT):
        large = cv2.warpAffine(
            np.ascontiguousarray(image), move, (SIDE * FINE, SIDE * FINE), borderMode=border
        )
        return cv2.resize(large, (SIDE, SIDE), interpolation=cv2.INTER_AREA).astype(float)

    def _blend(self, garment, mask, rng, shadow):
        opacity = mask / 255
        if shadow:
            off = np.float32([[1, 0, rng.uniform(-5, 5)], [0, 1, rng.uniform(-5, 5)]])
            cast = cv2.warpAffine(opacity, off, (SIDE, SIDE))
            cast = cv2.GaussianBlur(cast, (0, 0), rng.uniform(0.8, 4))
            self.pixels *= 1 - (cast * rng.uniform(0.1, 0.6))[:, :, None]
        # At its rim a garment is mixed with what was behind it: there its own colour is unknown.
        self.pixels += opacity[:, :, None] * (garment - self.pixels)
        self.opacity = np.maximum(self.opacity, opacity)

    def wear(self, rng):
        """Somebody: head, arms and legs in one skin, where a garment is laid over them."""
        skin = np.array([225, 180, 150]) * rng.uniform(0.35, 1.1)
        body = np.zeros((SIDE, SIDE), np.uint8)
        x, y = rng.normal(32, 2), rng.normal(10, 3)
        cv2.ellipse(
            body, (int(x), int(y)), (rng.integers(5, 9), rng.integers(7, 11)), 0, 0, 360, 255, -1
        )
        for side in (-1, 1):
            hand = (int(x + side * rng.uniform(8, 28)), int(rng.uniform(36, 60)))
            cv2.line(body, (int(x + side * 9), int(y + 14)), hand, 255, int(rng.integers(4, 8)))
            foot = (int(x + side * rng.uniform(3, 10)), 70)
            cv2.line(body, (int(x + side * 4), 40), foot, 255, int(rng.integers(6, 11)))
        weight = cv2.GaussianBlur(body, (0, 0), 0.6)[:, :, None] / 255
        self.pixels += weight * (np.clip(skin, 0, 255) - self.pixels)

    def hang(self, rng):
        """A hanger's hook and shoulders, before a garment is laid over them."""
        line = np.zeros((SIDE, SIDE), np.uint8)
        x, y = int(rng.normal(32, 2)), int(rng.integers(6, 14))
        cv2.line(line, (x, 0), (x, y), 255, 1)
        for side in (-1, 1):
            cv2.line(
                line,
                (x, y),
                (x + side * int(rng.integers(10, 20)), y + 7),
                255,
                int(rng.integers(1, 3)),
            )
        self.pixels += line[:, :, None] / 255 * (rng.uniform(0, 220) - self.pixels)


def composite(garments, others, grounds, rng):
    """A picture, RGB uint8 (SIDE, SIDE, 3), and the opacity of garments in it, uint8."""
    if rng.random() < 0.3:
        scene = as_taken(garments[rng.integers(len(garments))], rng)
    else:
        scene = Scene(ground_for(grounds, rng))
        laid_out(scene, garments if rng.random() < 0.6 else others, rng)
    if rng.random() < 0.6:
        frame(scene, rng)
    pixels = scene.pixels * rng.uniform(0.6, 1.25) * rng.uniform(0.88, 1.12, 3)
    pixels += rng.uniform(-20, 20)
    if rng.random() < 0.15:
        pixels = np.repeat(pixels.mean(2, keepdims=True), 3, 2)
    pixels = 255 * np.clip(pixels / 255, 0, 1) ** rng.uniform(0.75, 1.35)
    pixels += rng.normal(0, rng.uniform(0, 5), (SIDE, SIDE, 3))
    return np.clip(pixels, 0, 255).astype(np.uint8), np.clip(scene.opacity * 255, 0, 255).astype(
        np.uint8
    )


def as_taken(garment, rng):
    """A photo with its own ground, cut and turned a little."""
    pixels, mask = garment
    height, width = mask.shape
    size = rng.uniform(0.85, 1.6 if rng.random() < 0.4 else 1.1)
    turn = rng.normal(0, 8) if rng.random() < 0.8 else rng.choice([90, 180, 270])
    move = cv2.getRotationMatrix2D(
        (width / 2, height / 2), turn, size * SIDE * FINE / max(height, width)
    )
    move[:, 2] += SIDE * FINE / 2 - np.array([width, height]) / 2 + rng.normal(0, 3 * FINE, 2)
    scene = Scene(Scene._moved(pixels, move, cv2.BORDER_REPLICATE))
    scene.opacity = Scene._moved(mask * 255, move) / 255
    if rng.random() < 0.5:
        scene.pixels, scene.opacity = scene.pixels[:, ::-1], scene.opacity[:, ::-1]
    return scene


def frame(scene, rng):
    """Keep a part as high or wide as the picture; beyond it the edge is repeated, as of a photo."""
    first = int(rng.integers(0, 15))
    last = SIDE - 1 - (first if rng.random() < 0.7 else int(rng.integers(0, 15)))
    places, outside = np.clip(np.arange(SIDE), first, last), np.ones(SIDE, bool)
    outside[first : last + 1] = False
    if rng.random() < 0.7:
        scene.pixels, scene.opacity = scene.pixels[:, places], scene.opacity * ~outside
    else:
        scene.pixels, scene.opacity = scene.pixels[places], scene.opacity * ~outside[:, None]


def laid_out(scene, garments, rng):
    """Lay one garment, or several, or none, on a scene's ground."""
    garment, shadow = garments[rng.integers(len(garments))], rng.random() < 0.4
    turn = rng.normal(0, 12) if rng.random() < 0.75 else rng.uniform(0, 360)
    middle = 0.5 + rng.normal(0, 0.08, 2)
    kind = rng.random()
    if kind < 0.04:  # nothing
        return
    if kind < 0.16:  # a pair
        size, turn = rng.uniform(0.3, 0.5), rng.normal(0, 15) if rng.random() < 0.6 else 90
        for side in (-1, 1):
            at = 0.5 + side * rng.uniform(0.16, 0.26), 0.5 + rng.normal(0, 0.05)
            scene.lay(garment, rng, size=size, turn=turn, at=at, shadow=shadow)
    elif kind < 0.2:  # two garments
        other = garments[rng.integers(len(garments))]
        for each, side in ((garment, -1), (other, 1)):
            at = 0.5 + side * rng.uniform(0.2, 0.26), 0.5 + rng.normal(0, 0.08)
            scene.lay(each, rng, size=rng.uniform(0.35, 0.5), turn=turn, at=at, shadow=shadow)
    elif kind < 0.36:  # tight, or larger than the frame
        size, middle = rng.uniform(0.95, 1.6), 0.5 + rng.normal(0, 0.05, 2)
        scene.lay(garment, rng, size=size, turn=rng.normal(0, 8), at=middle, shadow=shadow)
    else:
        if kind < 0.42:
            scene.wear(rng)
            middle, turn = (0.5, rng.uniform(0.4, 0.6)), rng.normal(0, 4)
        elif kind < 0.5:
            scene.hang(rng)
            middle, turn = (0.5, rng.uniform(0.5, 0.6)), rng.normal(0, 4)
        size = rng.uniform(0.3, 1.0)
        scene.lay(garment, rng, size=size, turn=turn, at=middle, shadow=shadow)


def composites(seed, photos, images):
    rng = np.random.default_rng(seed)
    cv2.setNumThreads(1)
    garments = [each for each in photos if is_likely(each[1])]
    others, grounds = from_fashion_mnist(images, rng), strips(photos)
    made = [composite(garments, others, grounds, rng) for _ in range(AT_ONCE)]
    return [np.stack(each) for each in zip(*made, strict=True)]


def network():
    """uint8-like floats (n, 64, 64, 3) to the opacity's logits (n, 64, 64, 1)."""
    from keras import Input, Model, layers

    def block(x, channels):
        x = layers.Conv2D(channels, 3, padding="same", use_bias=False)(x)
        return layers.ReLU()(layers.BatchNormalization(momentum=0.95)(x))

    images = Input((SIDE, SIDE, 3))
    x, left = layers.Rescaling(1 / 127.5, -1)(images), []
    for level, channels in enumerate(CHANNELS):
        x = block(x, channels)
        if level:
            x = block(x, channels)
        left.append(x)
        x = layers.MaxPooling2D()(x)
    x = block(block(x, BOTTOM), BOTTOM)
    for channels, beside in zip(CHANNELS[::-1], left[::-1], strict=True):
        x = layers.UpSampling2D()(layers.Conv2D(channels, 1, use_bias=False)(x))
        x = block(layers.Add()([x, beside]), channels)
    return Model(images, layers.Conv2D(1, 1)(x))


def as_onnx(model):
    """The network as ONNX: `pixels` uint8 (n, 64, 64, 3) to `opacity` float32 (n, 64, 64), 0 to 1.

    Batch normalisation goes into the kernels, and those into 8 bits, with a scale for each channel.
    It computes in float32: onnxruntime turns the kernels back once, when it loads them.
    """
    from onnx import TensorProto, checker, helper, numpy_helper

    nodes, weights = [], []

    def node(kind, *inputs, **options):
        name = f"{kind}_{len(nodes)}"
        nodes.append(helper.make_node(kind, [*inputs], [name], name, **options))
        return name

    def constant(value, dtype=np.float32):
        name = f"weight_{len(weights)}"
        weights.append(numpy_helper.from_array(np.asarray(value, dtype, order="C"), name))
        return name

    def convolution(x, kernel, bias):
        kernel = kernel.transpose(3, 2, 0, 1)
        scale = np.maximum(np.abs(kernel).max((1, 2, 3), keepdims=True), 1e-12) / 127
        whole = constant(np.round(kernel / scale), np.int8)
        made = node("Mul", node("Cast", whole, to=TensorProto.FLOAT), constant(scale))
        return node("Conv", x, made, constant(bias), pads=[kernel.shape[2] // 2] * 4)

    names = {}
    for layer in model.layers:
        inputs = [names[each.name] for each in _inputs(layer)]
        match type(layer).__name__:
            case "InputLayer":
                made = node("Cast", "pixels", to=TensorProto.FLOAT)
                made = node("Transpose", made, perm=[0, 3, 1, 2])
            case "Rescaling":
                made = node("Mul", *inputs, constant(layer.scale))
                made = node("Add", made, constant(layer.offset))
            case "Conv2D":
                norm = _norm_after(layer)
                kernel, *bias = layer.get_weights()
                bias = bias[0] if bias else np.zeros(kernel.shape[-1])
                if norm:
                    gamma, beta, mean, variance = norm.get_weights()
                    scale = gamma / np.sqrt(variance + norm.epsilon)
                    kernel, bias = kernel * scale, beta + (bias - mean) * scale
                made = convolution(*inputs, kernel, bias)
            case "BatchNormalization":
                (made,) = inputs
            case "ReLU":
                made = node("Relu", *inputs)
            case "MaxPooling2D":
                made = node("MaxPool", *inputs, kernel_shape=[2, 2], strides=[2, 2])
            case "UpSampling2D":
                scales = constant([1, 1, 2, 2])
                how = {"mode": "nearest", "coordinate_transformation_mode": "asymmetric"}
                made = node("Resize", *inputs, "", scales, nearest_mode="floor", **how)
            case "Add":
                made = node("Add", *inputs)
        names[layer.output.name] = made
    shape = constant([-1, SIDE, SIDE], np.int64)
    flat = node("Reshape", node("Sigmoid", made), shape)
    nodes.append(helper.make_node("Identity", [flat], ["opacity"]))
    takes = helper.make_tensor_value_info("pixels", TensorProto.UINT8, ["n", SIDE, SIDE, 3])
    gives = helper.make_tensor_value_info("opacity", TensorProto.FLOAT, ["n", SIDE, SIDE])
    made = helper.make_model(
        helper.make_graph(nodes, "segmenter", [takes], [gives], weights),
        opset_imports=[helper.make_opsetid("", 17)],
        ir_version=8,
        producer_name="fmnist",
    )
    checker.check_model(made, full_check=True)
    return made


def _inputs(layer):
    if type(layer).__name__ == "InputLayer":
        return []
    return layer.input if isinstance(layer.input, list) else [layer.input]


def _norm_after(layer):
    after = [each.operation for each in layer._outbound_nodes]
    return next((each for each in after if type(each).__name__ == "BatchNormalization"), None)


def fitted(pictures, opacities, epochs):
    import keras

    keras.utils.set_random_seed(0)
    model, n = network(), len(pictures) - HELD
    steps = n // BATCH
    rate = keras.optimizers.schedules.CosineDecay(3e-3, epochs * steps)
    model.compile(
        keras.optimizers.AdamW(rate, weight_decay=1e-3),
        keras.losses.BinaryCrossentropy(from_logits=True),
    )

    def batches():
        rng = np.random.default_rng(0)
        while True:
            for some in np.array_split(rng.permutation(n), steps):
                yield (
                    pictures[some].astype(np.float32),
                    opacities[some][..., None] / np.float32(255),
                )

    held = pictures[n:].astype(np.float32), opacities[n:][..., None] / np.float32(255)
    model.fit(batches(), steps_per_epoch=steps, epochs=epochs, validation_data=held, verbose=2)
    found, true = model.predict(held[0], verbose=0)[..., 0] > 0, opacities[n:] > 127
    either = (found | true).sum((1, 2))
    both = (found & true).sum((1, 2))[either > 0] / either[either > 0]
    return model, {"composites": n, "held": HELD, "intersection_over_union": float(both.mean())}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--photos", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--composites", type=int, default=60_000)
    parser.add_argument("--epochs", type=int, default=6)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--sheet", action="store_true")
    asked = parser.parse_args()
    asked.out.mkdir(parents=True, exist_ok=True)
    start = time.monotonic()
    paths = sorted(each for each in asked.photos.glob("*/*") if each.suffix in SUFFIXES)
    if not paths:
        raise SystemExit(f"{asked.photos}: expected photos in a folder a kind, found none")
    # OpenCV's threads do not survive a fork.
    with ProcessPoolExecutor(asked.processes, multiprocessing.get_context("spawn")) as pool:
        photos = list(pool.map(garment_of, paths, chunksize=16))
        good = sum(is_likely(mask) for _, mask in photos)
        print(
            f"{good} of {len(photos)} masks are likely, {time.monotonic() - start:.0f} s",
            flush=True,
        )
        images = fmnist.load_data().train.images[:2500, :, :, 0]
        seeds = range(-(-(asked.composites + HELD) // AT_ONCE))
        make = functools.partial(composites, photos=photos, images=images)
        made = [*pool.map(make, seeds)]
    pictures, opacities = (
        np.concatenate(each)[: asked.composites + HELD] for each in zip(*made, strict=True)
    )
    print(f"composites made, {time.monotonic() - start:.0f} s", flush=True)
    if asked.sheet:
        sheet(pictures, opacities).save(asked.out / "composites.png")
    model, figures = fitted(pictures, opacities, asked.epochs)
    figures |= {
        "photos": len(photos),
        "masks": int(good),
        "seconds": round(time.monotonic() - start),
    }
    model.save(asked.out / "segmenter.keras")
    made = as_onnx(model)
    figures["bytes"] = len(made.SerializeToString())
    (asked.out / "segmenter.onnx").write_bytes(made.SerializeToString())
    (asked.out / "segmenter.json").write_text(json.dumps(figures, indent=1) + "\n")
    print(json.dumps(figures))


def sheet(pictures, opacities):
    rows = [
        np.concatenate([*picture, *np.repeat(opacity[..., None], 3, -1)], 1)
        for picture, opacity in zip(
            pictures[:140].reshape(-1, 10, SIDE, SIDE, 3),
            opacities[:140].reshape(-1, 10, SIDE, SIDE),
            strict=True,
        )
    ]
    return Image.fromarray(np.concatenate(rows))


if __name__ == "__main__":
    main()
