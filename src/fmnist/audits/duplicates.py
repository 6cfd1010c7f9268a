"""Finds images that are nearly the same, by the correlation of their pixels.

Every image is compared with every other, tile by tile of a product of matrices, so that memory
never holds all pairs.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

TILE = 4096  # images a side: 64 MiB of correlations
LARGEST_TILE = 2**26  # pixels of one, 256 MiB in float32
MOST_PAIRS = 100_000


@dataclass(frozen=True)
class Pairs:
    """Pairs of images, the closest first.

    `first` < `second`: int64 (n,), the indices of the images; `correlation`: float32 (n,); `exact`:
    whether every pixel is the same (n,); `threshold`: the least correlation asked for, or a higher
    one where there were more than `MOST_PAIRS`; `cluster`: the number, from 0, of the group that a
    pair belongs to, in which each image is linked to each by pairs, (n,).
    """

    first: NDArray[np.int64]
    second: NDArray[np.int64]
    correlation: NDArray[np.float32]
    exact: NDArray[np.bool_]
    cluster: NDArray[np.int64]
    threshold: float


def standardise(images: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Each image as a row of mean 0 and length 1, so that products are Pearson's correlations.

    Images of one grey throughout, which have no correlation, get one row that is orthogonal to
    all others: they count as the same.
    """
    rows = images.reshape(len(images), -1).astype(np.float32)
    rows -= rows.mean(axis=1, keepdims=True)
    length = np.linalg.norm(rows, axis=1, keepdims=True)
    flat = images.reshape(len(images), -1)
    plain = (flat == flat[:, :1]).all(axis=1)
    rows[plain], length[plain] = 1, np.sqrt(rows.shape[1])
    rows /= length
    return rows


def find_pairs(images: NDArray[np.uint8], threshold: float) -> Pairs:
    """All pairs of uint8 images (n, height, width, 1) that correlate by `threshold` or more."""
    tile = max(1, min(TILE, LARGEST_TILE // max(1, images[0].size)))
    found: list[tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float32]]] = []
    count = 0
    for top in range(0, len(images), tile):
        rows = standardise(images[top : top + tile])
        for left in range(top, len(images), tile):
            columns = rows if left == top else standardise(images[left : left + tile])
            products = rows @ columns.T
            i, j = np.nonzero(products >= threshold)
            if left == top:
                i, j = i[i < j], j[i < j]
            if not len(i):
                continue
            found.append((i + top, j + left, products[i, j]))
            count += len(i)
            if count > 2 * MOST_PAIRS:
                found = [_closest(found)]
                count, threshold = MOST_PAIRS, float(found[0][2][-1])
    nothing = np.empty(0, np.int64)
    first, second, correlation = _closest(found or [(nothing, nothing, np.empty(0, np.float32))])
    if len(first) == MOST_PAIRS:
        threshold = float(correlation[-1])
    exact = np.array(
        [np.array_equal(images[i], images[j]) for i, j in zip(first, second, strict=True)], bool
    )
    correlation = np.where(exact, np.float32(1), np.minimum(correlation, np.float32(1)))
    return Pairs(first, second, correlation, exact, clusters(first, second), threshold)


def _closest(
    found: list[tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float32]]],
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float32]]:
    """The `MOST_PAIRS` of highest correlation, sorted by it, ties by place."""
    first, second, correlation = (np.concatenate(parts) for parts in zip(*found, strict=True))
    order = np.lexsort((second, first, -correlation))[:MOST_PAIRS]
    return first[order], second[order], correlation[order]


def clusters(first: NDArray[np.int64], second: NDArray[np.int64]) -> NDArray[np.int64]:
    """The connected group of each pair, numbered from 0 by its first pair: (n,)."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    members, places = np.unique(np.concatenate([first, second]), return_inverse=True)
    if not len(members):
        return np.empty(0, np.int64)
    i, j = places[: len(first)], places[len(first) :]
    graph = coo_array((np.ones(len(i), np.int8), (i, j)), shape=(len(members), len(members)))
    group = connected_components(graph, directed=False)[1][i]
    _, starts, inverse = np.unique(group, return_index=True, return_inverse=True)
    return np.argsort(np.argsort(starts))[inverse].astype(np.int64)
