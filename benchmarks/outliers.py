"""Which score tells garments from other pictures best, and how often it cries wolf.

    python benchmarks/outliers.py [--model MODEL] [--images 300]

Higher scores mean more like a garment. Each score's threshold is its 1 % quantile on the validation
images. The table gives, against the 10,000 test images, the area under the ROC curve, and the share
of the other pictures that fall below the threshold; its first row is the share of test images that
do, the false alarms. The pictures are made here, so that nothing is fetched: 28×28 in the data
set's form, or photos that go through `prepare`.
"""

import argparse
import string

import numpy as np
from PIL import Image, ImageDraw, ImageFont
from sklearn.datasets import load_digits, load_sample_images
from sklearn.metrics import roc_auc_score

import fmnist
from fmnist.inference.classifier import Classifier, energy
from fmnist.inference.garments import cut_out


def scores_of(classifier, images):
    """Name -> (n,) for images uint8 (n, 28, 28)."""
    logits = classifier.logits(images).astype(np.float64)
    ordered = np.sort(logits, axis=1)
    entropy = {}
    for temperature in (1, 2):
        odds = logits / temperature - (ordered[:, -1:] / temperature)
        odds -= np.log(np.exp(odds).sum(axis=1, keepdims=True))
        entropy[f"- entropy, T={temperature}"] = (np.exp(odds) * odds).sum(axis=1)
    return {
        "centred energy": energy(logits),
        "energy": energy(logits) + logits.mean(axis=1),
        "max logit": ordered[:, -1],
        "max probability": -np.log(np.exp(ordered - ordered[:, -1:]).sum(axis=1)),
        "margin": ordered[:, -1] - ordered[:, -2],
        **entropy,
    }


def drawn(paint, random, size=(300, 400)):
    """A photo, white, with what `paint(draw, random)` puts on it."""
    picture = Image.new("RGB", size, "white")
    paint(ImageDraw.Draw(picture), random)
    return np.asarray(picture)


def letter(draw, random):
    font = ImageFont.load_default(size=int(random.integers(120, 260)))
    draw.text((60, 40), str(random.choice([*string.ascii_letters])), (20, 20, 20), font)


def text(draw, random):
    font = ImageFont.load_default(size=24)
    for line in range(14):
        words = ("".join(random.choice([*string.ascii_lowercase], 6)) for _ in range(3))
        draw.text((15, 15 + 27 * line), " ".join(words), (30, 30, 30), font)


def lines(draw, random):
    for _ in range(int(random.integers(3, 9))):
        points = [tuple(point) for point in random.integers(20, 280, (4, 2)).tolist()]
        draw.line(points, (40, 40, 40), int(random.integers(3, 9)), "curve")


def shapes(draw, random):
    for _ in range(int(random.integers(1, 4))):
        x, y = random.integers(20, 150, 2)
        box = (int(x), int(y), int(x + random.integers(30, 130)), int(y + random.integers(30, 200)))
        colour = tuple(random.integers(0, 200, 3).tolist())
        (draw.ellipse if random.random() < 0.5 else draw.rectangle)(box, colour)


def others(count, random, garments):
    """Name -> uint8 (count, 28, 28) of pictures that are no garments."""
    digits = load_digits().images[:count] * (255 / 16)
    y, x = np.mgrid[0:28, 0:28] / 27
    angles = random.uniform(0, 2 * np.pi, (count, 1, 1))
    slopes = 127.5 + 127.5 * (np.cos(angles) * (x - 0.5) + np.sin(angles) * (y - 0.5)) * 2**0.5
    coarse = random.uniform(0, 255, (count, 7, 7)).astype(np.float32)
    scenes = load_sample_images().images

    def crop():
        scene = scenes[random.integers(len(scenes))]
        side = int(random.integers(60, 400))
        top, left = (int(random.integers(0, n - side)) for n in scene.shape[:2])
        return scene[top : top + side, left : left + side]

    def enlarged(values):
        picture = Image.fromarray(values.astype(np.float32))
        return np.asarray(picture.resize((28, 28), Image.Resampling.BICUBIC))

    crops = [crop() for _ in range(count)]
    grey = [Image.fromarray(each).convert("L").resize((28, 28)) for each in crops]
    made = {
        "digits": [enlarged(each) for each in digits],
        "noise": random.uniform(0, 255, (count, 28, 28)),
        "coarse noise": [enlarged(each) for each in coarse],
        "gradients": slopes,
        "scenes, raw": [np.asarray(each) for each in grey],
        "scenes, photos": [cut_out(each) for each in crops],
        "letters": [cut_out(drawn(letter, random)) for _ in range(count)],
        "text": [cut_out(drawn(text, random)) for _ in range(count)],
        "line drawings": [cut_out(drawn(lines, random)) for _ in range(count)],
        "shapes": [cut_out(drawn(shapes, random)) for _ in range(count)],
        "garments, negative": 255 - garments[:count].astype(float),
    }
    return {name: np.clip(np.round(each), 0, 255).astype(np.uint8) for name, each in made.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default=None)
    parser.add_argument("--images", type=int, default=300)
    asked = parser.parse_args()
    classifier, data = Classifier.load(asked.model), fmnist.load_data()
    val = scores_of(classifier, data.val.images)
    test = scores_of(classifier, data.test.open().images)
    thresholds = {name: np.quantile(values, 0.01) for name, values in val.items()}
    if classifier.threshold is not None:
        print(
            f"the file's own threshold, {classifier.threshold:.3f}: "
            f"{classifier.is_unlike(classifier.logits(data.test.open().images)).mean():.2%} "
            "false alarms on test"
        )
    print(f"{'AUROC, share below':<20}" + "".join(f"{name:>18}" for name in val))
    shares = {name: (test[name] < thresholds[name]).mean() for name in val}
    print(f"{'test':<20}" + "".join(f"{'':>9}{share:>9.2%}" for share in shares.values()))
    rows = []
    random = np.random.default_rng(0)
    for kind, images in others(asked.images, random, data.val.images[:, :, :, 0]).items():
        found = scores_of(classifier, images)
        rows.append([])
        for name, values in found.items():
            truth = np.r_[np.ones(len(test[name])), np.zeros(len(values))]
            area = roc_auc_score(truth, np.r_[test[name], values])
            rows[-1].append((area, (values < thresholds[name]).mean()))
        print(f"{kind:<20}" + "".join(f"{a:>9.3f}{s:>9.1%}" for a, s in rows[-1]))
    means = np.mean(rows, axis=0)
    print(f"{'mean':<20}" + "".join(f"{a:>9.3f}{s:>9.1%}" for a, s in means))


if __name__ == "__main__":
    main()
