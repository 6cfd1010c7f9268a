"""An audit's rows: suspicious labels and near-duplicates, as they are written."""

import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fmnist import files
from fmnist.audits import confident_learning, duplicates
from fmnist.data.splits import Data, Split

# On Fashion-MNIST pairs above 0.999 show one photograph, those down to 0.995 mostly one garment
# with another print or shade; at 0.985 they are other garments of the same cut.
THRESHOLD = 0.995
STRIP = 12  # suspicious labels that page and terminal begin with
POOR = 0.8  # models that agree with a smaller share of the labels judge little but themselves


def audit_labels(
    chance: NDArray[np.float64], given: NDArray[np.int32], data: Data
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """What is found about the labels in all, and a row for each suspicious image."""
    names, n = data.classes, len(given)
    confident = confident_learning.confident_class(chance, given)
    joint = confident_learning.confident_joint(confident, given, len(names))
    estimated = confident_learning.estimated_joint(joint, given)
    images, suggested = confident_learning.suspicious(chance, given)
    margin = confident_learning.margins(chance, given)
    is_val = np.isin(images, data.val_indices)
    rows = [
        {
            "rank": rank + 1,
            "image": int(i),
            "split": "val" if is_val[rank] else "train",
            "given": names[given[i]],
            "suggested": names[to],
            "self_confidence": round(float(chance[i, given[i]]), 6),
            "suggested_probability": round(float(chance[i, to]), 6),
            "margin": round(float(margin[i]), 6),
        }
        for rank, (i, to) in enumerate(zip(images, suggested, strict=True))
    ]
    counts = np.zeros_like(joint)
    np.add.at(counts, (given[images], suggested), 1)
    pairs = [
        {
            "given": names[i],
            "suggested": names[j],
            "suspicious": int(counts[i, j]),
            "estimated": round(float(estimated[i, j]), 1),
        }
        for i, j in zip(*np.nonzero((estimated > 0) & ~np.eye(len(names), dtype=bool)), strict=True)
    ]
    wrong = float(estimated.sum() - np.trace(estimated))
    right = int((chance.argmax(axis=1) == given).sum())
    about = {
        "n": n,
        "right": right,
        "poor_models": right < POOR * n,
        "suspicious": len(rows),
        "most_suspicious": rows[:STRIP],
        "estimated_wrong": round(wrong, 1),
        "estimated_share": wrong / n,
        "thresholds": [
            None if np.isinf(value) else float(value)
            for value in confident_learning.thresholds(chance, given)
        ],
        "confident_joint": joint.tolist(),
        "pairs": sorted(pairs, key=lambda pair: (-pair["suspicious"], -pair["estimated"])),
    }
    return about, rows


def audit_duplicates(known: Split, data: Data) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """What is found about duplicates in all, and a row a pair: other labels first, then closest."""
    test = data.test.open()
    labels = np.concatenate([known.labels, test.labels])
    found = duplicates.find_pairs(np.concatenate([known.images, test.images]), THRESHOLD)
    is_val = np.zeros(len(known), bool)
    is_val[data.val_indices] = True

    def place(i: int) -> tuple[str, int]:
        if i >= len(known):
            return "test", i - len(known)
        return "val" if is_val[i] else "train", i

    rows = []
    for k, pair in enumerate(zip(found.first.tolist(), found.second.tolist(), strict=True)):
        splits, images = zip(*map(place, pair), strict=True)
        rows.append(
            {
                "splits": list(splits),
                "images": list(images),
                "labels": [data.classes[labels[i]] for i in pair],
                "labels_differ": bool(labels[pair[0]] != labels[pair[1]]),
                "across_splits": splits[0] != splits[1],
                "correlation": round(float(found.correlation[k]), 6),
                "exact": bool(found.exact[k]),
                "cluster": int(found.cluster[k]),
            }
        )
    by_splits = {}
    for kind in ("train", "val", "test", "train-val", "train-test", "val-test"):
        here = [row for row in rows if set(row["splits"]) == set(kind.split("-"))]
        if here:
            by_splits[kind] = {
                "pairs": len(here),
                "exact": sum(row["exact"] for row in here),
                "labels_differ": sum(row["labels_differ"] for row in here),
            }
    about = {
        "n": len(labels),
        "threshold": found.threshold,
        "pairs": len(rows),
        "exact": int(found.exact.sum()),
        "clusters": len(set(found.cluster.tolist())),
        "images": len(np.union1d(found.first, found.second)),
        "labels_differ": sum(row["labels_differ"] for row in rows),
        "by_splits": by_splits,
    }
    return about, sorted(rows, key=lambda row: not row["labels_differ"])


def write_lines(path: Path, rows: list[dict[str, Any]]) -> None:
    """Write JSON lines, whole or not at all."""
    text = "".join(json.dumps(row, allow_nan=False) + "\n" for row in rows)
    files.write_whole(path, lambda p: p.write_text(text, encoding="utf-8"))
