"""Occlusion maps against a loop over squares, and against models whose regions are known."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fmnist.errors import UsageError
from fmnist.reports.occlusion import occlusion_map


def linear(height, width, classes=3):
    """A model of fixed random weights: logits of images as uint8."""
    weights = np.random.default_rng(1).normal(0, 0.004, (height * width, classes))
    return lambda images: (images.reshape(len(images), -1) @ weights).astype(np.float32)


def image_of(height, width, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 1), dtype=np.uint8)


def softmax(logits):
    powers = np.exp(np.float64(logits) - logits.max())
    return powers / powers.sum()


@given(
    height=st.integers(1, 9),
    width=st.integers(1, 9),
    patch=st.integers(1, 12),
    stride=st.integers(1, 4),
    label=st.integers(0, 2),
    batch=st.integers(1, 7),
)
def test_each_pixel_has_what_its_square_costs(height, width, patch, stride, label, batch):
    forward, image = linear(height, width), image_of(height, width)
    found = occlusion_map(forward, image, 70, label=label, patch=patch, stride=stride, batch=batch)
    assert found.shape == (height, width)
    assert found.dtype == np.float32
    whole = softmax(forward(image[None])[0])[label]
    for y in range(height):
        for x in range(width):
            middle = [p // stride * stride + stride // 2 for p in (y, x)]
            covered = image.copy()
            for i in range(height):
                for j in range(width):
                    offsets = [p - m + patch // 2 for p, m in zip((i, j), middle, strict=True)]
                    if all(0 <= offset < patch for offset in offsets):
                        covered[i, j] = 70
            lost = whole - softmax(forward(covered[None])[0])[label]
            assert found[y, x] == pytest.approx(lost, abs=1e-6)


def test_only_what_the_model_looks_at_matters():
    def forward(images):
        seen = images[:, 20:24, 4:8, 0].mean(axis=(1, 2)) / 255
        return np.stack([6 * seen, 0 * seen + 1, 3 - 6 * seen], axis=1)

    image = np.full((28, 28, 1), 255, np.uint8)
    found = occlusion_map(forward, image, 0)
    y, x = np.unravel_index(found.argmax(), found.shape)
    assert 18 <= y <= 26
    assert 2 <= x <= 10
    assert found.max() > 0.9
    assert np.abs(found[:14]).max() == np.abs(found[:, 14:]).max() == 0
    against = occlusion_map(forward, image, 0, label=2)  # that region speaks against class 2
    assert against.min() < -0.8
    assert against.max() <= 0


@pytest.mark.parametrize(
    ("image", "label", "named"),
    [
        (np.zeros((4, 4)), None, "float64 of shape"),
        (np.zeros((4, 4), np.uint8), None, "uint8 of shape"),
        (np.zeros((0, 4, 1), np.uint8), None, "uint8 of shape"),
        (image_of(4, 4), 3, "expected 0 to 2, received 3"),
        (image_of(4, 4), -1, "expected 0 to 2, received -1"),
    ],
)
def test_what_cannot_be_is_refused(image, label, named):
    with pytest.raises(UsageError, match=named):
        occlusion_map(linear(4, 4), image, 0, label=label)
