"""Random layers against NumPy loops: per image, by seed, update and position."""

import numpy as np
import pytest

from fmnist.engine import augment, keras, ops

pytestmark = pytest.mark.engines
IMAGES = np.random.RandomState(0).uniform(-1, 1, (40, 9, 7, 1)).astype("float32")


def apply(layer, images=IMAGES, *, seed=3, update=5, positions=None):
    positions = np.arange(len(images), dtype="int32") if positions is None else positions
    with augment.step(seed, update, positions):
        out = layer(images, training=True)
    return ops.convert_to_numpy(ops.cast(out, "float32"))


def draws(stream, count, *, seed=3, update=5, n=40):
    with augment.step(seed, update, np.arange(n, dtype="int32")):
        return ops.convert_to_numpy(augment.uniform(stream, count))


LAYERS = [
    augment.RandomCrop(2),
    augment.RandomFlip(),
    augment.RandomCutout(4),
    augment.Dropout(0.4),
]


@pytest.mark.parametrize("layer", LAYERS, ids=lambda layer: type(layer).__name__)
class TestEveryLayer:
    def test_is_the_identity_at_inference(self, layer):
        np.testing.assert_array_equal(ops.convert_to_numpy(layer(IMAGES, training=False)), IMAGES)
        np.testing.assert_array_equal(ops.convert_to_numpy(layer(IMAGES)), IMAGES)

    def test_acts_on_each_image_by_itself(self, layer):
        out = apply(layer, np.broadcast_to(IMAGES[:1], IMAGES.shape))
        assert len({image.tobytes() for image in out}) > 1

    def test_depends_on_position_not_on_division(self, layer):
        whole = apply(layer)
        parts = [
            apply(layer, IMAGES[a:b], positions=np.arange(a, b, dtype="int32"))
            for a, b in ((0, 7), (7, 8), (8, 40))
        ]
        np.testing.assert_array_equal(np.concatenate(parts), whole)

    def test_depends_on_seed_and_update(self, layer):
        one = apply(layer)
        np.testing.assert_array_equal(apply(layer), one)
        assert (apply(layer, update=6) != one).any()
        assert (apply(layer, seed=4) != one).any()

    def test_needs_a_step_in_training(self, layer):
        with pytest.raises(RuntimeError, match="micro_batched"):
            layer(IMAGES, training=True)

    def test_keeps_dtype_and_shape(self, layer):
        with augment.step(0, 0, np.arange(len(IMAGES), dtype="int32")):
            narrow = type(layer).from_config(layer.get_config() | {"dtype": "mixed_bfloat16"})
            out = narrow(ops.cast(IMAGES, "bfloat16"), training=True)
        assert keras.backend.standardize_dtype(out.dtype) == "bfloat16"
        assert tuple(out.shape) == IMAGES.shape

    def test_survives_its_config(self, layer):
        again = type(layer).from_config(layer.get_config())
        np.testing.assert_array_equal(apply(again), apply(layer))


def test_crop_equals_pad_then_crop():
    pixels = 3
    out = apply(augment.RandomCrop(pixels))
    shifts = np.floor(draws(1, 2) * (2 * pixels + 1)).astype(int)
    for image, cropped, (down, right) in zip(IMAGES, out, shifts, strict=True):
        padded = np.pad(image, ((pixels, pixels), (pixels, pixels), (0, 0)), mode="edge")
        np.testing.assert_array_equal(cropped, padded[down : down + 9, right : right + 7])


def test_crop_is_exact_in_bfloat16_and_reaches_every_place():
    exact = np.round(IMAGES * 100)
    out = apply(augment.RandomCrop(1, dtype="mixed_bfloat16"), exact)
    assert set(np.unique(out)) <= set(np.unique(exact))
    shifts = np.floor(draws(1, 2, n=500) * 3).astype(int)
    assert {tuple(s) for s in shifts} == {(a, b) for a in range(3) for b in range(3)}


def test_flip_mirrors_about_half():
    out = apply(augment.RandomFlip())
    mirrored = draws(2, 1)[:, 0] < 0.5
    assert 0 < mirrored.sum() < len(IMAGES)
    np.testing.assert_array_equal(out[mirrored], IMAGES[mirrored][:, :, ::-1])
    np.testing.assert_array_equal(out[~mirrored], IMAGES[~mirrored])


def test_cutout_blanks_one_square():
    side = 4
    out = apply(augment.RandomCutout(side))
    for image, cut, (u, v) in zip(IMAGES, out, draws(3, 2), strict=True):
        top, left = int(u * 9) - side // 2, int(v * 7) - side // 2
        expected = image.copy()
        expected[max(top, 0) : max(top + side, 0), max(left, 0) : max(left + side, 0)] = 0
        np.testing.assert_array_equal(cut, expected)


def test_dropout_scales_what_it_keeps():
    features = np.ones((200, 50), "float32")
    out = apply(augment.Dropout(0.25), features)
    assert set(np.unique(out)) == {0, np.float32(1 / 0.75)}
    assert abs((out == 0).mean() - 0.25) < 0.02
    assert (out == 0).any(axis=0).all()
    assert (out == 0).any(axis=1).all()


def reference_mix(x):
    for shift, factor in ((16, 0x7FEB352D), (15, 0x846CA68B)):
        x = ((x ^ (x >> shift)) * factor) % 2**32
    return x ^ (x >> 16)


def test_uniform_equals_python_integers():
    """The same draws on every backend: compared with unbounded integers."""
    out = draws(7, 3, seed=11, update=13, n=5)
    key = 0
    for part in (7, 11, 13):
        key = reference_mix(((key ^ part) + 0x9E3779B9) % 2**32)
    for position in range(5):
        for place in range(3):
            spread = reference_mix((place + 0x85EBCA6B) % 2**32)
            bits = reference_mix((reference_mix(position ^ key) + spread) % 2**32)
            assert out[position, place] == (bits >> 8) / 2**24


def test_streams_of_other_seeds_are_other_draws():
    drawn = {draws(stream, 4, seed=seed).tobytes() for stream in range(4) for seed in range(4)}
    assert len(drawn) == 16


def test_uniform_is_uniform_and_uncorrelated():
    u = np.stack([draws(1, 2, update=k, n=256) for k in range(40)]).reshape(-1, 2)
    n = len(u)
    histogram = np.histogram(u[:, 0], bins=20, range=(0, 1))[0]
    chi_squared = ((histogram - n / 20) ** 2 / (n / 20)).sum()
    assert chi_squared < 43.8  # 99.9 % point at 19 degrees of freedom
    neighbours = [np.corrcoef(a, b)[0, 1] for a, b in ((u[:, 0], u[:, 1]), (u[1:, 0], u[:-1, 0]))]
    assert np.abs(neighbours).max() < 4 / np.sqrt(n)


def test_standardise_takes_out_mean_and_deviation():
    images = np.random.RandomState(1).randint(0, 256, (6, 4, 4, 1), dtype=np.uint8)
    scaled = images / 255
    out = augment.standardise(images, float(scaled.mean()), float(scaled.std()))
    expected = (scaled - scaled.mean()) / scaled.std()
    np.testing.assert_allclose(ops.convert_to_numpy(out), expected, atol=1e-5)
