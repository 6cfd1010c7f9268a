"""A run as the Hugging Face Hub has models: README.md, config.json, safetensors, the ONNX file."""

import html
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fmnist import files
from fmnist.data.fashion_mnist import FASHION_MNIST
from fmnist.exports.weight_parts import store
from fmnist.recipes.text import VIEWS
from fmnist.runs.run import Run

DATASET = "zalando-datasets/fashion_mnist"  # its name on the Hub
WEIGHTS = "model.safetensors"
FILES = ("README.md", "config.json", WEIGHTS)
MARKS = {"README.md": 'library_name: "fmnist"', "config.json": '"model_type": "fmnist"'}
USE = """```python
import onnxruntime

session = onnxruntime.InferenceSession("model.onnx")
logits, probabilities = session.run(["logits", "probabilities"], {"images": images})
```"""


def write(folder: Path, run: Run, storage: str) -> None:
    """Write FILES beside the ONNX file and its card, which are in the folder already.

    Raises FmnistError for a weight that does not fit the `storage`.
    """
    card, about = files.read_json(folder / "card.json"), run.about_weights()
    metadata = {"format": "numpy", "fmnist": json.dumps(about, ensure_ascii=False)}
    files.save_arrays(folder / WEIGHTS, store(run.load_weights(), storage), metadata)
    names = dict(enumerate(card["classes"]))
    config = {
        "model_type": "fmnist",
        "architectures": [run.recipe.model],
        "id2label": names,
        "label2id": {name: number for number, name in names.items()},
        "num_labels": len(names),
        "num_channels": 1,
        "image_size": about["shape"][:2],
        "mean": about["mean"],
        "deviation": about["deviation"],
        "temperature": card["temperature"],
        "storage": storage,
        "recipe": card["recipe"],
    }
    files.write_json(folder / "config.json", config)
    text = _front_matter(card) + _text(card)
    files.write_whole(folder / "README.md", lambda p: p.write_text(text, "utf-8", "replace"))


def _front_matter(card: Mapping[str, Any]) -> str:
    """The card's facts in the Hub's own keys. A value in JSON is one in YAML too."""
    fashion = card["data"]["name"] == FASHION_MNIST
    # Photos under another licence may ask for more than ours: then the card's text tells.
    known = fashion and all("CC0" in photos["source"] for photos in card["learnt_photos"])
    ((split, score),) = card["scores"].items()
    dataset = DATASET if fashion else card["data"]["name"]
    values: dict[str, Any] = {
        "license": "mit" if known else "other",
        "library_name": "fmnist",
        "pipeline_tag": "image-classification",
        "tags": ["image-classification", "onnx", card["data"]["name"]],
        **({"datasets": [DATASET]} if fashion else {}),
        "metrics": ["accuracy"],
        "model-index": [
            {
                "name": card["name"],
                "results": [
                    {
                        "task": {"type": "image-classification"},
                        "dataset": {"name": card["data"]["name"], "type": dataset, "split": split},
                        "metrics": [{"type": "accuracy", "value": score["accuracy"]}],
                    }
                ],
            }
        ],
    }
    lines = [f"{key}: {json.dumps(value, ensure_ascii=False)}" for key, value in values.items()]
    return "\n".join(["---", *lines, "---", ""])


def _on_photos(card: Mapping[str, Any]) -> str:
    score = card["photo_score"]
    return (
        f"An answer whose probability is below {card['doubt']:.2f} is not sure. Of {score['n']:,} "
        f"photos of its classes that it has not learnt {score['right']:.1%} are answered rightly, "
        f"and {score['wrong_and_sure']:.1%} wrongly and as sure; they set that mark."
    )


def _text(card: Mapping[str, Any]) -> str:
    ((split, score),) = card["scores"].items()
    low, high = score["interval"]
    takes = card["input"]
    rows = [
        f"| {_plain(row['class'])} | {row['precision']:.1%} | {row['recall']:.1%} | {row['n']:,} |"
        for row in score["by_class"]
    ]
    parts = [
        f"# {_plain(card['name'])}",
        _plain(card["intended_use"]),
        f"{score['accuracy']:.2%} of {score['n']:,} {split} images are classified correctly "
        f"(95 % interval {low:.2%} to {high:.2%}), each by {VIEWS[score['views']]}, as "
        f"{score['runtime']} runs `model.onnx`.",
        "## Use",
        f"`images`: {takes['dtype']} ({', '.join(map(str, takes['shape']))}), {takes['values']}.",
        USE,
        "`fmnist predict --model FOLDER photo.jpg` prepares photos and answers by the same file.",
        *([_on_photos(card)] if card["photo_score"] else []),
        "## Limits",
        "\n".join(f"- {_plain(limit)}" for limit in card["limits"]),
        "## By class",
        "\n".join(["| class | precision | recall | n |", "|---|---|---|---|", *rows]),
        "## Licence",
        _plain(card["licence"]),
    ]
    return "\n\n".join(parts) + "\n"


def _plain(text: str) -> str:
    """Text in Markdown that is neither a tag nor the end of a cell."""
    return html.escape(text, quote=False).replace("|", "&#124;")
