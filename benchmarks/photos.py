"""How many garments are still told right when they come as photos, by background.

    python benchmarks/photos.py [--model MODEL] [--images 300] [--sheet FILE.png] [--photos DIR]

With `--photos` it answers for real photos instead, in the folders of the Clothing Dataset (small)
by Alexey Grigorev and others (CC0): how many are right, flagged, and wrong without a flag. Several
of the classes may be right for a folder; for hats, shorts and skirts none is.

Without it, validation images (never test) are turned back into product photos: inverted, enlarged
to a part of 600 × 800, tinted, and laid on a background off its centre. `prepare` makes 28×28 of
them again, and the model answers for both. Real photos have folds, hands and hangers that these
have not: the table says what `prepare` spoils, not how well the model does on photos.
"""

import argparse
import io
from pathlib import Path

import numpy as np
from PIL import Image

import fmnist
from fmnist.data.image_file import decode
from fmnist.data.photo_folders import KINDS
from fmnist.inference.classifier import Classifier
from fmnist.inference.photos import prepare

WIDTH, HEIGHT = 600, 800
ORIENTATION = 0x0112


def cut_out(image, side, colour):
    """A garment's RGB and its opacity, (height, width, 3) and (height, width) floats, enlarged.

    `image` (28, 28) is in the data set's form; what is 0 there is background. `colour`: a tint,
    RGB around 1.
    """
    opaque = (image > 6).astype(np.float32)
    rows, columns = (np.flatnonzero(opaque.any(axis=axis)) for axis in (1, 0))
    cut = np.s_[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    opaque, grey = opaque[cut], 255.0 - image[cut]
    scale = side / max(opaque.shape)
    size = (round(opaque.shape[1] * scale), round(opaque.shape[0] * scale))

    def enlarged(values):
        return np.asarray(Image.fromarray(values).resize(size, Image.Resampling.BICUBIC))

    weight = np.clip(enlarged(opaque), 0, 1)
    garment = enlarged((grey * opaque).astype(np.float32)) / np.maximum(weight, 0.05)
    alpha = np.clip((weight - 0.5) * scale / 4 + 0.5, 0, 1)
    return np.clip(garment[:, :, np.newaxis] * colour, 0, 255), alpha


def backgrounds(random):
    """Name -> RGB (height, width, 3) in floats."""
    y, x = np.mgrid[0:HEIGHT, 0:WIDTH] / [[[HEIGHT]], [[WIDTH]]]
    plain = np.ones((HEIGHT, WIDTH, 1))
    noise = random.normal(0, 1, (HEIGHT, WIDTH, 3))
    coarse = random.normal(0, 1, (HEIGHT // 20, WIDTH // 20)).astype(np.float32)
    texture = np.asarray(Image.fromarray(coarse).resize((WIDTH, HEIGHT), Image.Resampling.BICUBIC))
    vignette = 1 - 0.5 * ((x - 0.5) ** 2 + (y - 0.5) ** 2)
    wood = np.sin(60 * x + 3 * np.sin(4 * y)) * 8
    return {
        "white": plain * [255, 255, 255],
        "light grey": plain * [225, 226, 228],
        "black": plain * [12, 12, 14],
        "dark blue": plain * [25, 32, 60],
        "red": plain * [190, 60, 50],
        "mid grey": plain * [128, 128, 128],
        "gradient": (180 + 70 * (0.6 * x + 0.4 * y))[:, :, np.newaxis] * [1, 0.98, 0.95],
        "vignette": vignette[:, :, np.newaxis] * [235, 232, 228],
        "noise": plain * [220, 220, 222] + 10 * noise,
        "texture": plain * [215, 210, 205] + 5 * texture[:, :, np.newaxis] + 3 * noise,
        "wood": plain * [205, 170, 130] + wood[:, :, np.newaxis],
        "two walls": np.where(y[:, :, np.newaxis] < 0.6, [230, 228, 224], [196, 190, 184]),
        "shadow": plain * [240, 240, 240],
    }


def photo(image, background, random, *, side, coloured=True, shadow=False):
    """RGB uint8 (HEIGHT, WIDTH, 3) of a garment on a background, and its opacity."""
    colour = random.uniform(0.75, 1.0, 3) if coloured else np.ones(3)
    garment, alpha = cut_out(image, side, colour)
    height, width = alpha.shape
    top = int(random.integers(20, HEIGHT - height - 19))
    left = int(random.integers(20, WIDTH - width - 19))
    opacity = np.zeros((HEIGHT, WIDTH))
    opacity[top : top + height, left : left + width] = alpha
    layer = np.zeros((HEIGHT, WIDTH, 3))
    layer[top : top + height, left : left + width] = garment
    if shadow:
        shade = Image.fromarray((255 * np.roll(opacity, (18, 12), (0, 1))).astype(np.uint8))
        from PIL import ImageFilter

        dark = np.asarray(shade.filter(ImageFilter.GaussianBlur(14))) / 255
        background = background * (1 - 0.18 * dark[:, :, np.newaxis])
    mixed = opacity[:, :, np.newaxis] * layer + (1 - opacity[:, :, np.newaxis]) * background
    return np.clip(np.round(mixed), 0, 255).astype(np.uint8), opacity


def packed(pixels, opacity, name, number):
    """The photo as a file's bytes, in turn as JPEG, PNG, WebP, turned by EXIF, CMYK or palette."""
    picture, file = Image.fromarray(pixels), io.BytesIO()
    if name == "transparent":
        picture.putalpha(Image.fromarray((255 * opacity).astype(np.uint8)))
        picture.save(file, ("PNG", "WEBP")[number % 2])
        return file.getvalue()
    match number % 6:
        case 0:
            picture.save(file, "JPEG", quality=85)
        case 1:
            picture.save(file, "PNG")
        case 2:
            picture.save(file, "WEBP", quality=80)
        case 3:
            exif = Image.Exif()
            exif[ORIENTATION] = 6  # to be turned clockwise
            turned = picture.transpose(Image.Transpose.ROTATE_90)
            turned.save(file, "JPEG", quality=85, exif=exif)
        case 4:
            picture.convert("CMYK").save(file, "JPEG", quality=90)
        case 5:
            picture.quantize(128).save(file, "PNG")
    return file.getvalue()


def answer_real(classifier, folder):
    """Print a line for each kind of the photos in `folder`, and one for those that have a class."""
    print(f"{'photos':<14}{'n':>6}{'right':>8}{'unlike':>8}{'wrong, not said':>17}")
    known = []
    for kind, classes in KINDS.items():
        paths = sorted((folder / kind).iterdir())
        seen = np.stack([prepare(decode(path.read_bytes())) for path in paths])
        logits = classifier.logits(seen)
        answers = [classifier.classes[best] for best in logits.argmax(axis=1)]
        right = np.array([answer in classes for answer in answers])
        unlike = classifier.is_unlike(logits)
        print_real(kind, right, unlike)
        known += list(zip(right, unlike, strict=True)) if classes else []
    print_real("with a class", *np.array(known).T)


def print_real(name, right, unlike):
    print(
        f"{name:<14}{len(right):>6}{right.mean():>8.1%}{unlike.mean():>8.1%}"
        f"{(~right & ~unlike).mean():>17.1%}",
        flush=True,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default=None)
    parser.add_argument("--images", type=int, default=300)
    parser.add_argument("--sheet", type=Path, default=None)
    parser.add_argument("--photos", type=Path, default=None)
    asked = parser.parse_args()
    if asked.photos:
        answer_real(Classifier.load(asked.model), asked.photos)
        return
    classifier, data = Classifier.load(asked.model), fmnist.load_data()
    images = data.val.images[: asked.images, :, :, 0]
    labels = data.val.labels[: asked.images]
    before = classifier.logits(images)
    right = before.argmax(axis=1) == labels
    print(
        f"{'background':<14}{'right':>8}{'as raw':>8}{'unlike':>8}{'pixels':>8}   n={len(images)}"
    )
    unlike = classifier.is_unlike(before).mean()
    print(f"{'raw 28×28':<14}{right.mean():>8.1%}{1:>8.1%}{unlike:>8.1%}{0:>8.1f}")
    rows = []
    for name in (*backgrounds(np.random.default_rng(0)), "transparent"):
        random = np.random.default_rng(7)
        grounds = backgrounds(random)
        ground = grounds.get(name, grounds["white"])
        seen = np.empty_like(images)
        tiles = []
        for number, image in enumerate(images):
            pixels, opacity = photo(
                image, ground, random, side=int(random.integers(200, 540)), shadow=name == "shadow"
            )
            seen[number] = prepare(decode(packed(pixels, opacity, name, number)))
            if number < 8:
                small = Image.fromarray(pixels).resize((84, 112))
                tiles.append((small, Image.fromarray(seen[number]), Image.fromarray(image)))
        rows.append(tiles)
        logits = classifier.logits(seen)
        answers = logits.argmax(axis=1)
        print(
            f"{name:<14}{(answers == labels).mean():>8.1%}"
            f"{(answers == before.argmax(axis=1)).mean():>8.1%}"
            f"{classifier.is_unlike(logits).mean():>8.1%}"
            f"{np.abs(seen.astype(float) - images).mean():>8.1f}",
            flush=True,
        )
    if asked.sheet:
        sheet = Image.new("L", (8 * 256, len(rows) * 112), 90)
        for row, tiles in enumerate(rows):
            for column, (small, made, image) in enumerate(tiles):
                sheet.paste(small.convert("L"), (column * 256, row * 112))
                for place, each in ((84, made), (168, image)):
                    sheet.paste(each.resize((84, 84), 0), (column * 256 + place, row * 112 + 14))
        sheet.save(asked.sheet)


if __name__ == "__main__":
    main()
