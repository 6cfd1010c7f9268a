"""Copies of garments as other photos might show them, and what is no garment."""

import numpy as np
import pytest

from fmnist.inference.garments import Look, in_form
from fmnist.training.variation import no_garment, of_image, varied


@pytest.fixture
def image():
    """28×28 in the data set's form: a dark T, 28 high, a little lighter at its foot."""
    image = np.zeros((28, 28), np.uint8)
    image[:8, 2:26] = 140
    image[8:, 9:19] = 140
    image[20:, 9:19] = 170
    return image


def test_an_image_of_the_data_set_stays_what_it_is(image):
    made = in_form(of_image(image)).astype(int)
    assert np.abs(made - image).mean() < 4
    assert np.abs(made - image)[2:6, 5:23].max() <= 2


def test_copies_are_other_garments_by_the_seed_alone(image):
    def copies(seed):
        random = np.random.default_rng(seed)
        return np.stack([in_form(varied(of_image(image), random)) for _ in range(60)])

    first = copies(1)
    assert np.array_equal(first, copies(1))
    assert len({each.tobytes() for each in first}) == 60
    assert all(each.any() for each in first)
    # Of most the T stands on its foot, of some it lies or hangs: where is the bar?
    heavy = first.astype(float)
    upper = heavy[:, :14].sum((1, 2)) / heavy.sum((1, 2))
    assert 0.5 < np.mean(upper > 0.5) < 0.99
    pairs = [each for each in first if not each[:, 13:15].any()]
    assert pairs


def test_what_is_no_garment_has_another_form_in_the_photos_colours(image):
    seen, random = of_image(image), np.random.default_rng(2)
    blue = Look(np.broadcast_to(np.uint8([20, 20, 255]), seen.pixels.shape), seen.opacity)
    forms = [in_form(no_garment(blue, random)) for _ in range(40)]
    level = 255 - (299 * 20 + 587 * 20 + 114 * 255 + 500) // 1000
    drawn = [form for form in forms if form.any()]
    assert len(drawn) >= 30
    assert all(form.max() <= level for form in drawn)
    assert np.median([form.max() for form in drawn]) == level
    alike = [np.minimum(form > 0, image > 0).sum() / (image > 0).sum() for form in drawn]
    assert np.mean(alike) < 0.8
