"""Photos that are transparent around a garment."""

import numpy as np

from fmnist.inference.garments import cut_out


def test_colours_that_nobody_sees_do_not_count():
    """Of transparent pixels; a browser does not even keep them."""
    y, x = np.mgrid[:200, :180]
    inside = np.hypot(x - 90, y - 100)[..., np.newaxis] < 70
    black, white = (
        np.where(inside, np.uint8([100, 100, 100, 255]), np.uint8([grey, grey, grey, 0]))
        for grey in (0, 255)
    )
    np.testing.assert_array_equal(cut_out(black), cut_out(white))
