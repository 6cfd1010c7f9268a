"""The page's examples: test images drawn at random, as one picture and their labels.

Four of each class and their order are drawn by a fixed seed; no answer of any model has a say.
Writes gallery.png and gallery.json into src/fmnist/serving/web/.
"""

import json
from pathlib import Path

import numpy as np
from PIL import Image

import fmnist

PER_CLASS, ACROSS, SEED = 4, 8, 20170831
WEB = Path(__file__).parents[1] / "src" / "fmnist" / "serving" / "web"


def main() -> None:
    """Draw, and write both files."""
    data = fmnist.load_data()
    test = data.test.open()
    generator = np.random.default_rng(SEED)
    drawn = np.concatenate(
        [
            generator.choice(np.flatnonzero(test.labels == label), PER_CLASS, replace=False)
            for label in range(len(data.classes))
        ]
    )
    generator.shuffle(drawn)
    rows = test.images[drawn, :, :, 0].reshape(-1, ACROSS, 28, 28)
    sprite = rows.swapaxes(1, 2).reshape(len(rows) * 28, ACROSS * 28)
    Image.fromarray(sprite).save(WEB / "gallery.png", optimize=True)
    images = [{"index": int(i), "label": int(test.labels[i])} for i in drawn]
    text = json.dumps({"classes": data.classes, "images": images}, indent=1)
    (WEB / "gallery.json").write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
