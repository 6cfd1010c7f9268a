"""Near-duplicates against the plain matrix of all correlations, in one tile and in many."""

import numpy as np
import pytest

from fmnist.audits import duplicates


@pytest.fixture
def images():
    """60 images of noise, of which some are copies, brighter, darker, or of one grey."""
    random = np.random.default_rng(0)
    made = random.integers(0, 200, (60, 6, 5, 1)).astype(np.uint8)
    made[40] = made[3]
    made[41] = made[3] + 20
    made[50] = made[7]
    made[50, 0, 0] ^= 64
    made[20], made[59] = 0, 7
    return made


@pytest.mark.parametrize("tile", [1, 7, 4096])
@pytest.mark.parametrize("threshold", [0.3, 0.97])
def test_pairs_are_those_of_the_whole_matrix(images, tile, threshold, monkeypatch):
    monkeypatch.setattr(duplicates, "TILE", tile)
    found = duplicates.find_pairs(images, threshold)
    varied = np.flatnonzero(images.reshape(60, -1).std(axis=1) > 0)
    matrix = np.zeros((60, 60))
    matrix[np.ix_(varied, varied)] = np.corrcoef(images[varied].reshape(len(varied), -1))
    matrix[20, 59] = 1
    expected = {(i, j) for i, j in np.argwhere(matrix >= threshold) if i < j}
    assert expected >= {(3, 40), (3, 41), (40, 41), (7, 50), (20, 59)}
    pairs = list(zip(found.first, found.second, strict=True))
    assert len(pairs) == len(expected)
    assert set(pairs) == expected
    assert found.correlation == pytest.approx([matrix[pair] for pair in pairs], abs=1e-5)
    assert np.all(np.diff(found.correlation[1:]) <= 1e-6)
    assert [pair for pair, same in zip(pairs, found.exact, strict=True) if same] == [(3, 40)]
    assert found.threshold == threshold


def test_clusters_hang_together_by_pairs(images):
    found = duplicates.find_pairs(images, 0.97)
    groups = {}
    for i, j, k in zip(found.first, found.second, found.cluster, strict=True):
        groups.setdefault(k, set()).update((i, j))
    assert sorted(map(sorted, groups.values())) == [[3, 40, 41], [7, 50], [20, 59]]
    assert sorted(groups) == [0, 1, 2]
    assert found.cluster[0] == 0


def test_of_too_many_pairs_the_closest_are_kept(images, monkeypatch):
    everything = duplicates.find_pairs(images, 0.1)
    monkeypatch.setattr(duplicates, "MOST_PAIRS", 8)
    monkeypatch.setattr(duplicates, "TILE", 9)
    found = duplicates.find_pairs(images, 0.1)
    assert len(found.first) == 8
    assert found.correlation == pytest.approx(everything.correlation[:8])
    assert found.threshold == pytest.approx(everything.correlation[7])


def test_nothing_alike_is_no_pair():
    images = np.eye(9, dtype=np.uint8).reshape(9, 3, 3, 1) * 255
    found = duplicates.find_pairs(images, 0.9)
    assert len(found.first) == len(found.cluster) == len(found.exact) == 0
