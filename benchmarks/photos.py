"""How many photos of garments the model in the box answers rightly, by kind.

    python benchmarks/photos.py --photos DIR [--model MODEL]
    python benchmarks/photos.py [--images 200] [--sheet FILE.png]

With `--photos` it answers for real photos, in a folder a kind as for `fmnist train --photos`,
such as the Clothing Dataset (small) by Alexey Grigorev and others (CC0). Several of the classes may
be right for a folder; for hats, shorts and skirts none is.

Without it, validation images (never test) are turned back into photos: inverted, enlarged, tinted,
and laid on a ground, also turned, in pairs, cut off by the frame or without a margin. Real photos
have folds, hands and hangers that these have not, and better pixels: the table says which kinds
`predict` bears, not how well the model does on photos.

"right" counts the likeliest class, whatever is said of it. "no class" counts answers of nothing
found and of what looks like none of the classes, "not sure" those below the model's doubt, "wrong"
what is neither and not right.
"""

import argparse
from pathlib import Path

import numpy as np
from PIL import Image

import fmnist
from fmnist.data import photo_folders
from fmnist.inference.classifier import Classifier
from fmnist.inference.photos import prepare, read_photo

WIDTH, HEIGHT = 300, 400


def layers_of(image, side, colour):
    """A garment (28, 28) in the data set's form as RGB and opacity, floats, `side` pixels long.

    What is 0 in the image is ground. `colour`: a tint, RGB around 1.
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
    return np.dstack([np.clip(garment[:, :, np.newaxis] * colour, 0, 255), 255 * alpha])


def lay(ground, layers, x=WIDTH / 2, y=HEIGHT / 2, turn=0):
    """Lay a garment on a ground, its middle at (x, y); what lies outside is cut off."""
    picture = Image.fromarray(np.round(layers).astype(np.uint8))
    picture = picture.rotate(turn, Image.Resampling.BILINEAR, expand=True)
    base = Image.fromarray(np.clip(ground, 0, 255).astype(np.uint8))
    base.paste(picture, (int(x - picture.width / 2), int(y - picture.height / 2)), picture)
    return np.asarray(base)


def grounds(random):
    """Name -> RGB (HEIGHT, WIDTH, 3) in floats."""
    y, x = np.mgrid[0:HEIGHT, 0:WIDTH]
    plain = np.ones((HEIGHT, WIDTH, 1))
    noise = random.normal(0, 1, (HEIGHT, WIDTH, 3))
    knots = random.normal(0, 1, (HEIGHT // 12, WIDTH // 12)).astype(np.float32)
    rough = np.asarray(Image.fromarray(knots).resize((WIDTH, HEIGHT), Image.Resampling.BICUBIC))
    away = (x / WIDTH - 0.5) ** 2 + (y / HEIGHT - 0.5) ** 2
    planks = 190 + 20 * np.sin(7 * (x // 50)) - 60 * (x % 50 < 3) + 6 * np.sin(y / 9 + x // 50)
    tiles = 205 - 70 * ((x % 75 < 3) | (y % 75 < 3))
    return {
        "white": plain * [255, 255, 255],
        "light grey": plain * [225, 226, 228],
        "black": plain * [12, 12, 14],
        "red": plain * [190, 60, 50],
        "gradient": (150 + 80 * x / WIDTH)[:, :, np.newaxis] * [1, 0.98, 0.95],
        "vignette": (235 - 117 * away)[:, :, np.newaxis] * [1, 0.98, 0.96],
        "noise": plain * [220, 220, 222] + 10 * noise,
        "carpet": plain * [140, 120, 110] + 25 * rough[:, :, np.newaxis] + 6 * noise,
        "planks": planks[:, :, np.newaxis] * [1, 0.85, 0.65] + 4 * noise,
        "tiles": tiles[:, :, np.newaxis] * [1, 1, 0.98] + 3 * noise,
        "cloth": (120 + 40 * np.sign(np.sin(x / 6)))[:, :, np.newaxis] * [0.9, 0.8, 1.1],
        "wall and floor": np.where(y[:, :, np.newaxis] < 0.6 * HEIGHT, [230, 228, 224], [150] * 3),
    }


KINDS = (
    *("turned", "sideways", "on its head", "small", "pair", "filling the frame"),
    *("tight on white", "transparent"),
)


def photo(image, kind, random):
    """A photo, uint8 (height, width, 3 or 4), of a garment (28, 28): a ground's name, or a kind."""
    colour, all_grounds = random.uniform(0.6, 1, 3), grounds(random)
    plain = all_grounds["light grey"]
    any_ground = all_grounds[str(random.choice(["gradient", "planks", "tiles", "carpet"]))]
    side = int(random.integers(170, 280))
    layers = layers_of(image, side, colour)
    match kind:
        case "turned":
            return lay(plain, layers, turn=random.uniform(-35, 35))
        case "sideways":
            return lay(any_ground, layers, turn=random.choice([90, 270]))
        case "on its head":
            return lay(any_ground, layers, turn=180)
        case "small":
            small = layers_of(image, int(random.integers(80, 120)), colour)
            return lay(any_ground, small, random.uniform(80, 220), random.uniform(80, 320))
        case "pair":
            one = layers_of(image, int(random.integers(110, 140)), colour)
            left = lay(any_ground, one, x=80)
            return lay(left.astype(float), one[:, :: random.choice([1, -1])], x=220)
        case "filling the frame":
            return lay(any_ground, layers_of(image, int(random.uniform(330, 420)), colour))
        case "tight on white":
            opaque = layers[:, :, 3] > 127
            rows, columns = np.flatnonzero(opaque.any(axis=1)), np.flatnonzero(opaque.any(axis=0))
            alone = lay(np.full((*layers.shape[:2], 3), 255.0), layers, *_middle(layers))
            return alone[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
        case "transparent":
            clear = np.zeros((HEIGHT, WIDTH, 4), np.uint8)
            top, left = (HEIGHT - layers.shape[0]) // 2, (WIDTH - layers.shape[1]) // 2
            clear[top : top + layers.shape[0], left : left + layers.shape[1]] = np.round(layers)
            return clear
        case name:
            x, y = WIDTH / 2 + random.normal(0, 10), HEIGHT / 2 + random.normal(0, 20)
            return lay(all_grounds[name], layers, x, y)


def _middle(layers):
    return layers.shape[1] / 2, layers.shape[0] / 2


def answers(classifier, images, allowed):
    """Rows (n, 4): right; no class; not sure; wrong and neither. `allowed` (n, classes): right."""
    logits, chance = classifier.run(images)
    best = chance.argmax(axis=1)
    right = allowed[np.arange(len(best)), best]
    none = classifier.is_unlike(logits) | ~images.any(axis=(1, 2))
    unsure = ~none & (chance.max(axis=1) < classifier.doubt)
    return np.stack([right, none, unsure, ~(right | none | unsure)], axis=1)


def print_row(name, found):
    shares = "".join(f"{share:>10.1%}" for share in found.mean(axis=0))
    print(f"{name:<20}{len(found):>6}{shares}", flush=True)


def print_head():
    print(f"{'':<20}{'n':>6}{'right':>10}{'no class':>10}{'not sure':>10}{'wrong':>10}")


def answer_real(classifier, folder):
    """Print a line for each kind of the photos in `folder`, and one for those that have a class."""
    print_head()
    found, known = photo_folders.read(folder, classifier.classes), []
    for kind in sorted({path.parent.name for path, _ in found}):
        some = [each for each in found if each[0].parent.name == kind]
        allowed = np.zeros((len(some), len(classifier.classes)), bool)
        for row, (_, right) in zip(allowed, some, strict=True):
            row[list(right)] = True
        shape, whole = classifier.shape, classifier.whole_photos
        seen = np.stack([prepare(read_photo(path), shape, whole=whole) for path, _ in some])
        rows = answers(classifier, seen, allowed)
        print_row(kind, rows)
        if some[0][1]:
            known.append(rows)
    if known:
        print_row("all with a class", np.concatenate(known))


def answer_drawn(classifier, count, sheet):
    print_head()
    data = fmnist.load_data()
    each = count // len(data.classes)
    chosen = [np.flatnonzero(data.val.labels == i)[:each] for i in range(len(data.classes))]
    images = data.val.images[np.concatenate(chosen), :, :, 0]
    allowed = np.eye(len(data.classes), dtype=bool)[data.val.labels[np.concatenate(chosen)]]
    print_row("28 × 28, as it is", answers(classifier, images, allowed))
    rows, tiles = [], []
    for kind in (*grounds(np.random.default_rng(0)), *KINDS):
        random = np.random.default_rng(7)
        photos = [Image.fromarray(photo(image, kind, random)) for image in images]
        seen = np.stack([prepare(each) for each in photos])
        rows.append(answers(classifier, seen, allowed))
        print_row(kind, rows[-1])
        tiles.append([*zip(photos, seen, images, strict=True)][:: max(1, count // 10)])
    print_row("all of these", np.concatenate(rows))
    if sheet:
        draw(tiles).save(sheet)


def draw(tiles):
    """A row a kind of (photo, what the model sees, the image), each 84 pixels wide."""
    sheet = Image.new("L", (max(map(len, tiles)) * 256, len(tiles) * 112), 90)
    for row, line in enumerate(tiles):
        for column, (whole, seen, image) in enumerate(line):
            whole.thumbnail((84, 112))
            sheet.paste(whole.convert("L"), (column * 256, row * 112))
            for place, pixels in ((84, seen), (168, image)):
                small = Image.fromarray(pixels).resize((84, 84), 0)
                sheet.paste(small, (column * 256 + place, row * 112 + 14))
    return sheet


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default=None)
    parser.add_argument("--images", type=int, default=200)
    parser.add_argument("--sheet", type=Path, default=None)
    parser.add_argument("--photos", type=Path, default=None)
    asked = parser.parse_args()
    classifier = Classifier.load(asked.model)
    if asked.photos:
        answer_real(classifier, asked.photos)
    else:
        answer_drawn(classifier, asked.images, asked.sheet)


if __name__ == "__main__":
    main()
