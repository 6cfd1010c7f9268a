"""Bodies of requests as images: what is read, and what is refused with which status."""

import io
import json

import httpx
import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from PIL import Image

from fmnist.data.image_file import decode
from fmnist.inference import photos
from fmnist.serving import bodies
from fmnist.serving.bodies import MOST_IMAGES, MOST_PHOTOS, Refused, content_type

SHAPE = (28, 28)
IMAGES = np.random.default_rng(1).integers(0, 256, (3, 28, 28), np.uint8)


def png(pixels):
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


PHOTO = np.full((60, 50, 3), 250, np.uint8)
PHOTO[10:50, 12:40] = (20, 60, 140)


def read(kind, body, shape, raw):
    """The images in a body that comes with this content type."""
    return bodies.read(content_type([kind]), body, shape, raw)


def multipart(*contents, name="file"):
    """The content type and body that another implementation sends."""
    files = [(name, (f"{i}.png", content, "image/png")) for i, content in enumerate(contents)]
    request = httpx.Request("POST", "http://x/", files=files)
    return request.headers["content-type"], request.read()


def of_json(value, shape=SHAPE):
    return read("application/json", json.dumps(value).encode(), shape, False)


def status_of(kind, body, *, shape=SHAPE, raw=False):
    with pytest.raises(Refused) as error:
        read(kind, body, shape, raw)
    assert "\n" not in str(error.value)
    return error.value.status


def test_json_holds_images():
    assert (of_json({"images": IMAGES.tolist()}) == IMAGES).all()
    assert of_json({"images": IMAGES[:, :2, :3].tolist()}, (2, 3)).shape == (3, 2, 3)
    assert read("Application/JSON; charset=utf-8", b'{"images": [[[7]]]}', (1, 1), False) == 7
    assert read("application/json", b'{"images": [[[7.0, 3]]]}', (1, 2), False).tolist() == [
        [[7, 3]]
    ]


@pytest.mark.parametrize(
    "headers",
    [
        [],
        [""],
        ["text/plain"],
        ["application/json", "image/png"],
        ["application/json\xa0"],
        ["application/json\x85"],
        ["application/json\x1f"],
        ["application/json\x0b;"],
        ["application/json, image/png"],
        ["application/json; charset=\xa0"],
        ["image/"],
        ["image/ png"],
    ],
)
def test_an_odd_content_type_is_refused_and_read_once(headers):
    """What one reader takes for JSON and the next for a photo is neither."""
    with pytest.raises(Refused) as error:
        content_type(headers)
    assert error.value.status == 415


def test_blanks_and_capitals_of_a_content_type_do_not_matter():
    assert content_type([" \tApplication/JSON \t; charset=utf-8"]).name == "application/json"
    assert content_type(["image/svg+xml"]).name == "image/svg+xml"
    assert content_type(['multipart/form-data; boundary="a b"']).boundary == "a b"


def test_a_key_that_comes_twice_is_refused():
    assert (
        status_of("application/json", b'{"images": [[[7]]], "images": [[[8]]]}', shape=(1, 1))
        == 400
    )


@pytest.mark.parametrize("value", [-1, 256, 0.5, -0.5, 1e308, True, None, "1", [1], 10**400, {}])
def test_what_is_no_pixel_is_refused(value):
    body = json.dumps({"images": [[[0, value]]]}).encode()
    assert status_of("application/json", body, shape=(1, 2)) == 422


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"", 400),
        (b"{", 400),
        (b"\xff\xfe\x00", 400),
        (b'{"images": [[[NaN]]]}', 400),
        (b'{"images": [[[Infinity]]]}', 400),
        (b'{"images": [[[1' + b"0" * 5000 + b"]]]}", 400),
        (b"[" * 100_000, 400),
        (b'{"a":' * 100_000, 400),
        (b'{"images": ' + b"[" * 500 + b"]" * 500 + b"}", 422),
        (b"null", 422),
        (b"[[[1]]]", 422),
        (b"{}", 422),
        (b'{"images": []}', 422),
        (b'{"images": {"0": [[1]]}}', 422),
        (b'{"images": [[1]]}', 422),
        (b'{"images": [[[1], [1]]]}', 422),
        (b'{"images": [[[1, 1]]]}', 422),
        (b'{"images": [[[1]], [[]]]}', 422),
        (b'{"images": [[[1]]], "url": "http://x/"}', 422),
        (b'{"images": [[[1e999]]]}', 422),
        (b'{"images": [' + b"[[1]]," * MOST_IMAGES + b"[[1]]]}", 422),
    ],
)
def test_json_that_holds_no_images_is_refused(body, status):
    assert status_of("application/json", body, shape=(1, 1)) == status


def test_photos_become_the_data_sets_form():
    expected = photos.prepare(decode(png(PHOTO)))
    assert expected.any()
    assert (read("image/png", png(PHOTO), SHAPE, False) == expected).all()
    assert (read(*multipart(png(PHOTO), png(PHOTO)), SHAPE, False) == expected).all()


def test_raw_images_stay_as_they_are():
    found = read(*multipart(*map(png, IMAGES)), SHAPE, True)
    assert (found == IMAGES).all()
    assert status_of("image/png", png(PHOTO), raw=True) == 422
    assert status_of("image/png", png(PHOTO), shape=(5, 4)) == 422
    small = png(IMAGES[0, :5, :4])
    assert (read("image/png", small, (5, 4), True) == IMAGES[0, :5, :4]).all()


def test_a_part_is_its_bytes_whatever_they_are():
    kind, body = multipart(png(PHOTO))
    boundary = kind.partition("boundary=")[2].encode()
    odd = b"\r\n--" + boundary[:-1] + b"\r\n\r\n-- --"
    cut = body.replace(png(PHOTO), png(PHOTO) + odd)
    expected = read("image/png", png(PHOTO), SHAPE, False)
    assert (read(kind, cut, SHAPE, False) == expected).all()  # what follows a PNG is no matter


@pytest.mark.parametrize(
    ("kind", "body", "status"),
    [
        ("multipart/form-data", multipart(png(PHOTO))[1], 400),
        ("multipart/form-data; boundary=", multipart(png(PHOTO))[1], 400),
        ("multipart/form-data; boundary=other", multipart(png(PHOTO))[1], 400),
        ("multipart/form-data; boundary=" + "b" * 10_000, b"", 400),
        (multipart(png(PHOTO))[0], b"", 400),
        (multipart(png(PHOTO))[0], b"nothing like it", 400),
        ("multipart/form-data; boundary=x", b"--x--\r\n", 422),
        ("multipart/form-data; boundary=x", b"--x\r\nA: b\r\n\r\nc\r\n--x--\r\n", 422),
        ("multipart/form-data; boundary=x", b"--x\r\n" + b"A: b\r\n" * 10_000, 400),
        ("multipart/form-data; boundary=x", b"--x\r\nA" + b"a" * 100_000, 400),
        (*multipart(png(PHOTO), name="image"), 422),
        (*multipart(png(PHOTO), b"no image"), 422),
        (*multipart(*[png(IMAGES[0])] * (MOST_PHOTOS + 1)), 422),
        ("image/png", b"", 422),
        ("image/png", b"no image", 422),
        ("image/png", png(PHOTO)[:100], 422),
        ("image/svg+xml", b'<svg xmlns="http://www.w3.org/2000/svg"/>', 422),
    ],
    ids=map(str, range(17)),  # the boundaries are drawn: two processes would see other tests
)
def test_what_holds_no_photos_is_refused(kind, body, status):
    assert status_of(kind, body) == status


def test_a_multipart_cut_anywhere_is_refused():
    kind, body = multipart(png(IMAGES[0]), png(IMAGES[1]))
    end = body.rindex(b"--\r\n")
    for length in (*range(0, end, 97), end):
        assert status_of(kind, body[:length], raw=True) in (400, 422)


def test_the_number_of_the_image_that_is_none_is_said():
    with pytest.raises(Refused, match="image 2: "):
        read(*multipart(png(PHOTO), b"no image"), SHAPE, False)


def test_an_image_of_too_many_pixels_is_refused_before_it_is_decoded():
    file = io.BytesIO()
    Image.new("1", (5_100, 5_000)).save(file, "PNG")
    assert len(file.getvalue()) < 10_000
    with pytest.raises(Refused, match="25,000,000"):
        read("image/png", file.getvalue(), SHAPE, False)


@given(st.binary(max_size=200))
@example(b"--x\r\nContent-Disposition: form-data; name=file\r\n\r\n\r\n--x--")
@example(b"--x\r\nContent-Disposition: form-data; name=\"file\"; name*=utf-8''y\r\n\r\n\r\n--x--")
def test_made_up_bodies_are_refused(body):
    for kind in ("multipart/form-data; boundary=x", "application/json", "image/gif"):
        assert status_of(kind, body) in (400, 413, 422)
