"""The page of an audit: the suspicious images by given and suggested class, and the duplicates.

One file that loads nothing else: pictures stand in it as PNG data addresses.
"""

from pathlib import Path
from typing import Any

from fmnist.audits.rows import STRIP
from fmnist.data.splits import Data, Split
from fmnist.reports.pictures import png_uri
from fmnist.reports.templates import environment

MOST_SUSPECTS = 300
MOST_CLUSTERS = 200
MOST_OF_A_CLUSTER = 12


def render(
    audit: dict[str, Any],
    suspects: list[dict[str, Any]],
    pairs: list[dict[str, Any]],
    known: Split,
    data: Data,
) -> str:
    """The page's HTML, of what `audit.json`, `labels.jsonl` and `duplicates.jsonl` say."""
    groups: dict[tuple[str, str], list[dict[str, Any]]] = {}
    seen = [r | {"picture": png_uri(known.images[r["image"]])} for r in suspects[:MOST_SUSPECTS]]
    for row in seen:
        groups.setdefault((row["given"], row["suggested"]), []).append(row)
    return (
        environment(Path(__file__).parent)
        .get_template("audit.html.jinja")
        .render(
            audit=audit,
            shown=len(seen),
            strip=seen[:STRIP],
            groups=sorted(groups.items(), key=lambda group: -len(group[1])),
            clusters=_clusters(pairs, known, data),
            total=audit["duplicates"]["clusters"],
        )
    )


def _clusters(pairs: list[dict[str, Any]], known: Split, data: Data) -> list[dict[str, Any]]:
    """The clusters to show: other labels first, then across splits, then the closest."""
    test = data.test.open()
    found: dict[int, dict[str, Any]] = {}
    for pair in pairs:
        cluster = found.setdefault(
            pair["cluster"],
            {
                "images": {},
                "closest": 0.0,
                "furthest": 1.0,
                "labels_differ": False,
                "across_splits": False,
            },
        )
        for split, image, label in zip(pair["splits"], pair["images"], pair["labels"], strict=True):
            cluster["images"][split, image] = label
        cluster["closest"] = max(cluster["closest"], pair["correlation"])
        cluster["furthest"] = min(cluster["furthest"], pair["correlation"])
        cluster["labels_differ"] |= pair["labels_differ"]
        cluster["across_splits"] |= pair["across_splits"]
    clusters = sorted(
        found.values(),
        key=lambda c: (not c["labels_differ"], not c["across_splits"], -c["closest"]),
    )[:MOST_CLUSTERS]
    for cluster in clusters:
        images = list(cluster["images"].items())
        cluster["more"] = max(0, len(images) - MOST_OF_A_CLUSTER)
        cluster["images"] = [
            {
                "split": split,
                "image": image,
                "label": label,
                "picture": png_uri((test if split == "test" else known).images[image]),
            }
            for (split, image), label in images[:MOST_OF_A_CLUSTER]
        ]
    return clusters
