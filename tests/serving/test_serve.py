"""`fmnist serve` as its clients meet it: a real process, real sockets, friends and others."""

import concurrent.futures
import contextlib
import io
import json
import os
import select
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper
from onnx_models import ABOUT, CLASSES, weights, write_model
from PIL import Image
from server import LINUX, Server, bomb_of_pixels, drip, head, photo, received, slow_photos, status

from fmnist.data.image_file import decode
from fmnist.files import sha256
from fmnist.inference import photos
from fmnist.inference.garments import SEGMENTER
from fmnist.serving import bodies
from fmnist.serving.limits import HEADERS

CODES = {200, 400, 408, 413, 415, 422, 503}  # of POST /v1/predict
IMAGES = np.random.default_rng(1).integers(0, 256, (3, 28, 28), np.uint8)
LARGE = 2**24
QUICK = {
    "serving.app.WEB": Path("none"),
    "serving.limits.HEAD_SECONDS": 1.0,
    "serving.limits.BODY_SECONDS": 1.5,
    "serving.readers.READ_SECONDS": 3.0,
    "serving.limits.BODY_BYTES": 2**20,
}


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return write_model(tmp_path_factory.mktemp("model") / "model.onnx")


@pytest.fixture(scope="module")
def server(model):
    """One server for most tests, with less patience and room than usual."""
    with Server(model, QUICK) as server:
        yield server


@pytest.fixture(autouse=True)
def still_answering(request):
    """After each test that hurts the server, it says what it said before."""
    yield
    if "server" in request.fixturenames:
        expect_answers(request.getfixturevalue("server"))


def expect_answers(server):
    answer = server.client.post("v1/predict", json={"images": IMAGES.tolist()})
    assert answer.status_code == 200, answer.text
    check(answer.json(), IMAGES)


def check(answer, images):
    """Compare an answer with the arithmetic of the model that it is from."""
    logits = images.reshape(len(images), -1) @ weights()
    scaled = np.exp(logits / ABOUT["temperature"])
    expected = scaled / scaled.sum(1, keepdims=True)
    energies = np.log(np.exp(logits).sum(1)) - logits.mean(1)
    assert answer["model"] == "tiny"
    assert len(answer["predictions"]) == len(images)
    for i, found in enumerate(answer["predictions"]):
        probabilities = [each["probability"] for each in found["classes"]]
        assert probabilities == sorted(probabilities, reverse=True)
        by_class = {each["class"]: each["probability"] for each in found["classes"]}
        np.testing.assert_allclose([by_class[name] for name in CLASSES], expected[i], atol=1e-5)
        np.testing.assert_allclose(found["logits"], logits[i], atol=1e-3)
        assert found["energy"] == pytest.approx(energies[i], abs=1e-3)
        assert found["unlike"] == (
            energies[i] < ABOUT["outlier"]["threshold"] or not images[i].any()
        )
        assert found["sure"] == found["answer"].startswith("probably a ")


# what it is for


def test_json_images_are_answered_in_their_order(server):
    images = np.random.default_rng(2).integers(0, 256, (bodies.MOST_IMAGES, 28, 28), np.uint8)
    answer = server.client.post("v1/predict", json={"images": images.tolist()})
    check(answer.json(), images)
    assert "seen" not in answer.json()["predictions"][0]
    assert answer.headers["cache-control"] == "no-store"


def test_photos_are_answered_as_the_model_sees_them(server):
    expected = photos.prepare(decode(photo()))
    for form in ("PNG", "JPEG", "WEBP"):
        content = photo(form=form)
        answer = server.post(content, f"image/{form.lower()}", params={"seen": "1"})
        seen = np.array(answer.json()["predictions"][0]["seen"], np.uint8)
        assert (seen == photos.prepare(decode(content))).all()
        check(answer.json(), seen[np.newaxis])
    files = [("file", ("any name", photo())), ("file", ("any name", photo()))]
    answer = server.client.post("v1/predict", files=files)
    check(answer.json(), np.stack([expected, expected]))


def test_an_image_without_anything_says_so(server):
    def png(colour):
        file = io.BytesIO()
        Image.new("L", (28, 28), colour).save(file, "PNG")
        return file.getvalue()

    photo = server.post(png("white"), "image/png").json()
    raw = server.post(png("black"), "image/png", params={"raw": "1"}).json()
    zeros = server.client.post("v1/predict", json={"images": [[[0] * 28] * 28]}).json()
    expected = ("no garment found", "nothing in the image", "nothing in the image")
    for answer, words in zip((photo, raw, zeros), expected, strict=True):
        (found,) = answer["predictions"]
        assert (found["answer"], found["sure"], found["unlike"]) == (words, False, True)


def test_requests_at_once_get_each_its_own_answer(server):
    images = np.random.default_rng(3).integers(0, 256, (120, 1, 28, 28), np.uint8)
    with concurrent.futures.ThreadPoolExecutor(12) as pool:
        answers = pool.map(
            lambda each: server.client.post("v1/predict", json={"images": each.tolist()}).json(),
            images,
        )
        for each, answer in zip(images, answers, strict=True):
            check(answer, each)


def test_health_card_and_model(server, model):
    assert server.client.get("healthz").json() == {"status": "ok", "model": "tiny"}
    card = server.client.get("v1/model").json()
    assert card["classes"] == [*CLASSES]
    assert server.client.get("model/card.json").json() == card
    answer = server.client.get("model/model.onnx")
    assert answer.content == model.read_bytes()
    again = server.client.get("model/model.onnx", headers={"if-none-match": answer.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")
    segmenter = server.client.get("model/segmenter.onnx")
    assert segmenter.content == SEGMENTER.read_bytes()


@pytest.fixture(scope="module")
def other(tmp_path_factory):
    """A server for everyone, with a page and a card; and the folder around both."""
    folder = tmp_path_factory.mktemp("other")
    for name in (
        "page/index.html",
        "page/a.mjs",
        "page/a.wasm",
        "page/a.js",
        "page/a.css",
        "page/vendor/b.wasm",
        "secret.txt",
    ):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("content of " + name)
    (folder / "page" / "link.txt").symlink_to(folder / "secret.txt")
    digest = sha256(write_model(folder / "model.onnx"))
    (folder / "card.json").write_text(json.dumps({"sha256": digest, "name": "carded"}))
    with (folder / "page" / "large.wasm").open("wb") as file:
        file.truncate(LARGE)
    limits = {"serving.app.WEB": folder / "page", "serving.limits.REQUEST_SECONDS": 3.0}
    with Server(folder, limits, ["--host", "0.0.0.0"]) as server:
        yield server


def test_the_card_beside_the_model_is_the_models(other, model, tmp_path):
    for name in ("v1/model", "model/card.json"):
        assert other.client.get(name).json()["name"] == "carded"
    (tmp_path / "model.onnx").write_bytes(model.read_bytes())
    (tmp_path / "card.json").write_text(json.dumps({"sha256": "0" * 64}))
    with pytest.raises(AssertionError, match="another model's"):
        Server(tmp_path)


def test_the_page_is_hosted_with_its_types(other):
    page = other.client.get("/")
    assert page.text == "content of page/index.html"
    assert page.headers["content-type"].startswith("text/html")
    for name, kind in (
        ("a.mjs", "text/javascript"),
        ("a.js", "text/javascript"),
        ("a.css", "text/css"),
        ("vendor/b.wasm", "application/wasm"),
    ):
        answer = other.client.get(name)
        assert answer.text == "content of page/" + name
        assert answer.headers["content-type"].startswith(kind)
        assert answer.headers["cache-control"] == "no-cache"
        again = other.client.get(name, headers={"if-none-match": answer.headers["etag"]})
        assert again.status_code == 304


@pytest.mark.parametrize(
    "path",
    [
        "/no.js",
        "/link.txt",
        "/../secret.txt",
        "/%2e%2e/secret.txt",
        "/..%2fsecret.txt",
        "//../secret.txt",
        "/a%00.js",
        "//etc/passwd",
        "/vendor",
        "/" + "x" * 5_000,
    ],
    ids=range(10),
)
def test_what_is_not_in_the_page_is_not_there(other, path):
    request = f"GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
    answer = other.send(request.encode())
    assert status(answer) == 404
    assert b"content of" not in answer


def test_a_client_that_does_not_read_is_cut_off(other):
    with other.connect() as connection:
        connection.sendall(b"GET /large.wasm HTTP/1.1\r\nHost: localhost\r\n\r\n")
        time.sleep(4)
        assert len(received(connection)) < LARGE
    assert len(other.client.get("large.wasm").content) == LARGE


def test_without_a_page_there_is_none(server):
    assert server.client.get("/").status_code == 404


def test_every_answer_has_the_headers_that_guard_a_browser(server):
    for method, path in (("GET", "healthz"), ("GET", "none"), ("POST", "v1/predict")):
        answer = server.client.request(method, path)
        for name, value in HEADERS.items():
            assert answer.headers[name] == value
        assert "access-control-allow-origin" not in answer.headers
        assert "server" not in answer.headers
    policy = HEADERS["content-security-policy"]
    assert "unsafe-inline" not in policy
    assert "'unsafe-eval'" not in policy


def test_methods(server):
    for method, path, allowed in (
        ("GET", "v1/predict", "POST"),
        ("PUT", "v1/predict", "POST"),
        ("POST", "healthz", "GET, HEAD"),
        ("DELETE", "v1/model", "GET, HEAD"),
        ("POST", "model/model.onnx", "GET, HEAD"),
    ):
        answer = server.client.request(method, path)
        assert (answer.status_code, answer.headers["allow"]) == (405, allowed)
    for path in ("healthz", "v1/model"):
        answer = server.client.head(path)
        assert (answer.status_code, answer.content) == (200, b"")
    for method in ("GET", "POST", "DELETE"):
        for path in ("v1/predict/", "v1/none", "none"):
            assert server.client.request(method, path).status_code == 404


def test_a_photo_that_says_it_is_json_is_not_decoded(server):
    for end in ("\xa0", "\x85", "\x1f"):
        kind = f"application/json{end}".encode("latin-1")
        head_of_it = head(len(photo())).replace(b"application/json", kind)
        assert status(server.send(head_of_it + photo())) in (400, 415)  # h11 refuses \x1f itself


def test_a_packed_body_is_refused_with_a_word(server):
    headers = {"content-type": "application/json", "content-encoding": "gzip"}
    answer = server.client.post("v1/predict", content=b"{}", headers=headers)
    assert (answer.status_code, "content-encoding gzip" in answer.text) == (415, True)


def test_a_second_statement_of_the_length_closes_the_connection(server):
    """What is smuggled behind the body of such a request gets no answer."""
    smuggled = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n"
    answer = server.send(head(5, Transfer_Encoding="chunked") + b"0\r\n\r\n" + smuggled)
    assert status(answer) == 400
    assert answer.count(b"HTTP/1.1 ") == 1
    assert b"content-security-policy: " in answer


def test_a_client_that_closes_its_side_gets_its_answer(server):
    body = json.dumps({"images": IMAGES.tolist()}).encode()
    with server.connect() as connection:
        connection.sendall(head(len(body)) + body)
        connection.shutdown(socket.SHUT_WR)
        answer = received(connection)
    assert status(answer) == 200
    check(json.loads(answer.partition(b"\r\n\r\n")[2]), IMAGES)
    with server.connect() as connection:  # with half a body there is nothing to answer
        connection.sendall(head(len(body)) + body[:100])
        connection.shutdown(socket.SHUT_WR)
        assert received(connection) == b""


def test_only_the_names_of_this_machine_are_accepted(server):
    for name in ("localhost", "127.0.0.1:80", "[::1]:80", "LOCALHOST"):
        assert server.client.get("healthz", headers={"host": name}).status_code == 200
    for name in ("example.org", "localhost.example.org", "127.0.0.1.example.org", ""):
        assert server.client.get("healthz", headers={"host": name}).status_code == 400
    assert status(server.send(b"GET /healthz HTTP/1.0\r\n\r\n")) == 400


def test_elsewhere_any_name_is_accepted(other):
    assert other.client.get("healthz", headers={"host": "example.org"}).status_code == 200


# the OpenAPI

HOOKS = """
import schemathesis
from hypothesis import strategies
from server import photo

images = strategies.sampled_from([photo(28, 28)])  # that not all bytes are one, no schema can say
schemathesis.openapi.media_type("image/*", images)
schemathesis.openapi.format("binary", images)
"""


def test_what_the_openapi_allows_and_forbids_is_answered_as_it_says(server, tmp_path):
    (tmp_path / "hooks.py").write_text(HOOKS)
    helpers = Path(__file__).parents[1] / "helpers"
    paths = [os.environ.get("PYTHONPATH", ""), str(helpers), str(tmp_path)]
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "schemathesis.cli",
            "run",
            f"{server.address}openapi.json",
            "--max-examples",
            "3",
            "--phases",
            "coverage,fuzzing",
            "--seed",
            "1",
            "--generation-database",
            "none",
        ],
        env=os.environ | {"SCHEMATHESIS_HOOKS": "hooks", "PYTHONPATH": os.pathsep.join(paths)},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stdout[-5000:]
    assert "Tested: 3" in done.stdout


def test_the_openapis_example_is_answered(server):
    about = server.client.get("openapi.json").json()["paths"]["/v1/predict"]["post"]
    assert set(map(int, about["responses"])) == CODES
    example = about["requestBody"]["content"]["application/json"]["example"]
    check(server.client.post("v1/predict", json=example).json(), np.array(example["images"]))


# the wrong, the slow and the large


@pytest.mark.parametrize(
    ("content", "content_type", "code"),
    [
        (b'{"images": [[[NaN]]]}', "application/json", 400),
        (b'{"images": [[[-1]]]}', "application/json", 422),
        (b"[" * 500_000, "application/json", 400),
        (b"--x\r\n", "multipart/form-data; boundary=x", 400),
        (b"--x--", "multipart/form-data; boundary=y", 400),
        (b"x", "image/png", 422),
        (photo()[:-200], "image/png", 422),
        (photo(), "application/octet-stream", 415),
        (photo(), "", 415),
        (b"a=b", "application/x-www-form-urlencoded", 415),
        (b"{}", "application/jsonp", 415),
        (b"\xff" * 1000, "image/" + "x" * 1000, 422),
        (b"", "multipart/form-data; boundary=" + '"' * 1000, 400),
        (photo(), "image/png; charset=\xe9\xff", 415),
        (bomb_of_pixels(), "image/png", 422),
    ],
    ids=range(15),
)
def test_what_is_no_images_is_refused(server, content, content_type, code):
    answer = server.post(content, content_type.encode("latin-1"))
    assert answer.status_code == code, answer.text
    if code != 200:
        assert set(answer.json()) == {"detail"}


def test_an_option_that_cannot_be_is_refused(server):
    answer = server.post(b"{}", "application/json", params={"raw": "perhaps"})
    assert answer.status_code == 422
    assert answer.json()["detail"].startswith("raw: ")


@pytest.mark.parametrize(
    "content",
    [
        b"nonsense\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(300),
        b"GET / HTTP/9.9\r\n\r\n",
        b"POST /v1/predict HTTP/1.1\r\nHost: localhost\r\nContent-Length: -5\r\n\r\n",
        b"POST /v1/predict HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\n"
        b"Content-Length: 6\r\n\r\n",
        head(None, Transfer_Encoding="chunked") + b"not a length\r\n",
        head(None, Transfer_Encoding="gzip, chunked") + b"0\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: localhost\r\nA: " + b"a" * 100_000,
        b"GET / HTTP/1.1\r\nHost: localhost\r\n" + b"A: b\r\n" * 100_000,
    ],
    ids=range(9),
)
def test_what_is_no_http_is_refused(server, content):
    assert status(server.send(content)) in (400, 501)


def test_upgrades_are_not_followed(server):
    for name in (b"websocket", b"h2c"):
        request = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: "
        assert status(server.send(request + name + b"\r\n\r\n")) == 200


def test_a_body_too_large_by_its_length_is_refused_before_it_is_sent(server):
    with server.connect() as connection:
        connection.sendall(head(10**12, Expect="100-continue"))
        assert status(connection.recv(65536)) == 413


def test_a_body_too_large_in_chunks_is_refused_when_it_is(server):
    pieces = (b" " * 65_536 for _ in range(40))
    assert server.post(pieces, "application/json").status_code == 413


def test_ten_thousand_images_are_refused(server):
    body = json.dumps({"images": np.zeros((10_000, 28, 28), int).tolist()})
    assert len(body) > 2**24
    assert server.post(body, "application/json").status_code == 413


def test_a_head_that_does_not_end_is_cut_off(server):
    with server.connect() as connection:
        connection.sendall(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nA: ")
        assert drip(connection, b"a") == b""


def test_a_silent_connection_is_cut_off(server):
    with server.connect() as connection:
        assert connection.recv(1) == b""


def test_a_body_that_does_not_end_is_answered_408_and_cut_off(server):
    with server.connect() as connection:
        connection.sendall(head(1000))
        assert status(drip(connection, b" ")) == 408


def test_a_client_that_goes_away_costs_nothing(server):
    for content in (head(1000), head(1000) + b" " * 500, head(4) + b"null", b"POST /"):
        with server.connect() as connection:
            connection.sendall(content)


def test_images_beyond_the_models_size_are_refused(server):
    answer = server.post(b'{"images": [[[0, 0]]]}', "application/json")
    assert (answer.status_code, "28 rows of 28" in answer.text) == (422, True)


@pytest.mark.skipif(not LINUX, reason="reads /proc")
def test_memory_stays_bounded(model):
    """Whatever is sent: no more than a decoder may take, and the server itself far less."""
    lists = b'{"images": [' + b"[]," * 5_000_000 + b"[]]}"
    with Server(model) as server:
        expect_answers(server)
        before = server.memory()[0]
        for body, kind in (
            (lists, "application/json"),
            (bomb_of_pixels(), "image/png"),
            (photo(5_000, 4_999, compress_level=1), "image/png"),
            (b"x" * 2**24, "multipart/form-data; boundary=x"),
        ):
            answer = server.post(body, kind)
            assert answer.status_code in CODES, answer.text
        expect_answers(server)
        peak, *decoders = server.memory()
        assert peak < before + 100 * 2**20
        assert max(decoders) < bodies.MEMORY + 100 * 2**20


# too many


@pytest.fixture(scope="module")
def tight(model):
    """A server with room for little."""
    limits = {
        "serving.limits.QUEUE": 2,
        "serving.readers.WAIT_SECONDS": 1.0,
        "serving.readers.READ_SECONDS": 3.0,
        "serving.limits.ALL_BODIES": 2_500_000,
        "serving.limits.CONNECTIONS": 8,
    }
    with Server(model, limits, ["--threads", "1"]) as server:
        yield server


def test_a_photo_that_takes_too_long_ends_its_decoder_alone(tight):
    kind, content = slow_photos()
    answer = tight.post(content, kind)
    assert answer.status_code == 422
    assert answer.json()["detail"].startswith("expected a body that decodes within 3 s")
    expect_answers(tight)


def test_requests_past_the_queue_and_without_a_decoder_are_503(tight):
    """One is decoded for as long as it may, one waits for its decoder, the others are too many."""
    kind, content = slow_photos()
    with concurrent.futures.ThreadPoolExecutor(6) as pool:
        answers = list(pool.map(lambda _: tight.post(content, kind), range(6)))
    details = {(each.status_code, each.json()["detail"].partition(";")[0]) for each in answers}
    assert details == {
        (422, "expected a body that decodes within 3 s"),
        (503, "no decoder became free in time"),
        (503, "too many requests are waiting"),
    }
    for each in answers:
        assert each.status_code == 422 or int(each.headers["retry-after"]) > 0
    expect_answers(tight)


def test_bodies_past_the_room_for_all_are_503(tight):
    with contextlib.ExitStack() as stack:
        holding = [stack.enter_context(tight.connect()) for _ in range(3)]
        for connection in holding:
            connection.sendall(head(1_000_001, Expect="100-continue"))
            assert b" 100 " in connection.recv(65536)
            connection.sendall(b" " * 1_000_000)
        (refused, *_), _, _ = select.select(holding, [], [], 600)
        assert status(refused.recv(65536)) == 503
    expect_answers(tight)


def test_a_new_connection_takes_the_place_of_the_longest_silent(tight):
    tight.client.close()
    with contextlib.ExitStack() as stack:
        held = [stack.enter_context(tight.connect()) for _ in range(8)]
        for connection in held:
            connection.sendall(head(1000, Expect="100-continue"))
            assert b" 100 " in connection.recv(65536)
        held[0].sendall(b" ")  # no longer the longest silent
        with tight.connect() as another:
            another.sendall(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
            assert status(another.recv(65536)) == 200
        assert received(held[1]) == b""
        held[0].sendall(b" " * 999)
        assert status(held[0].recv(65536)) == 400  # an answer, if to no JSON


def test_where_every_connection_is_at_work_a_new_one_is_503(model):
    limits = {"serving.limits.CONNECTIONS": 1, "serving.readers.READ_SECONDS": 2.0}
    with Server(model, limits) as server, server.connect() as connection:
        kind, content = slow_photos()
        connection.sendall(head(len(content), kind, Expect="100-continue"))
        assert b" 100 " in connection.recv(65536)
        connection.sendall(content)
        time.sleep(0.5)  # it is decoded for longer
        answer = server.send(b"")
        assert status(answer) == 503
        assert b"retry-after: " in answer
        assert json.loads(answer.partition(b"\r\n\r\n")[2])["detail"].startswith("too many")
        assert status(connection.recv(65536)) == 422


def test_who_does_not_read_gives_its_place(tmp_path, model):
    """All places are taken by clients that send a request and never take its answer."""
    web = tmp_path / "web"
    web.mkdir()
    (web / "large.wasm").write_bytes(bytes(LARGE))
    limits = {
        "serving.app.WEB": web,
        "serving.limits.CONNECTIONS": 4,
        "serving.limits.UNREAD_SECONDS": 0.5,
    }
    with Server(model, limits) as server, contextlib.ExitStack() as stack:
        for _ in range(4):
            silent = stack.enter_context(server.connect())
            silent.sendall(b"GET /large.wasm HTTP/1.1\r\nHost: localhost\r\n\r\n")
        answer, end = b"", time.monotonic() + 200
        while status(answer) != 200:
            assert time.monotonic() < end, answer
            answer = server.send(
                b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
            )


@pytest.mark.skipif(not LINUX, reason="reads /proc")
def test_few_files_are_few_connections(model):
    """120 clients at once at a server that may open few files: it says nothing, and answers."""
    few = 100
    code = f"import resource; resource.setrlimit(resource.RLIMIT_NOFILE, ({few}, {few}))\n"
    with Server(model, options=["--threads", "1"], first=code) as server:
        with contextlib.ExitStack() as stack:
            for _ in range(120):
                stack.enter_context(server.connect())
            another = stack.enter_context(server.connect())
            another.sendall(
                b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
            )
            assert status(received(another)) == 200
        assert server.stop() == (128 + signal.SIGTERM, "stopped\n")


# who may ask


def test_a_site_that_is_named_may_ask(model):
    options = ["--allow-origin", "https://example.org"]
    with Server(model, {"serving.app.WEB": Path("none")}, options) as server:
        ask = {"origin": "https://example.org", "access-control-request-method": "POST"}
        answer = server.client.options("v1/predict", headers=ask)
        assert answer.headers["access-control-allow-origin"] == "https://example.org"
        other = {"origin": "https://example.com"}
        assert (
            "access-control-allow-origin" not in server.client.get("healthz", headers=other).headers
        )


@pytest.mark.parametrize("origin", ["", "*", "example.org", "https://example.org/"])
def test_what_is_no_site_is_refused(model, origin):
    with pytest.raises(AssertionError, match=r"^error: --allow-origin: expected a site"):
        Server(model, options=["--allow-origin", origin])


def test_a_model_that_fails_for_an_image_is_500_in_a_line(tmp_path):
    """Its logits are no numbers for a blank image alone: 0 / 0."""
    path = write_model(tmp_path / "model.onnx")
    graph = onnx.load(path)
    nodes = [
        helper.make_node("ReduceMax", ["flat"], ["brightest"], axes=[1], keepdims=1),
        helper.make_node("Div", ["brightest", "brightest"], ["one"]),
        helper.make_node("Mul", ["flat", "one"], ["seen"]),
    ]
    graph.graph.node[2].input[0] = "seen"
    for node in reversed(nodes):
        graph.graph.node.insert(2, node)
    path.write_bytes(graph.SerializeToString())
    with Server(path, {"serving.app.WEB": Path("none")}) as server:
        blank = np.zeros((1, 28, 28), int).tolist()
        answer = server.client.post("v1/predict", json={"images": blank})
        assert (answer.status_code, "NaN" in answer.json()["detail"]) == (500, True)
        assert server.client.post("v1/predict", json={"images": IMAGES.tolist()}).is_success
        assert server.stop() == (128 + signal.SIGTERM, "stopped\n")


def test_an_empty_host_is_refused(model):
    with pytest.raises(AssertionError, match=r"^error: --host: expected an address"):
        Server(model, options=["--host", ""])


def test_threads_have_a_most(model):
    with pytest.raises(AssertionError, match=r"^error: --threads: expected at most"):
        Server(model, options=["--threads", "100000"])


# the end


@pytest.mark.parametrize("again", [False, True])
def test_a_signal_at_once_after_the_start_is_one_line(model, again):
    with Server(model) as server:
        server.process.send_signal(signal.SIGINT)
        if again:
            server.process.send_signal(signal.SIGINT)
        assert server.ended() == (128 + signal.SIGINT, "stopped\n")


def test_a_second_signal_ends_what_is_not_finished(model):
    with Server(model) as server, server.connect() as connection:
        connection.sendall(head(1000, Expect="100-continue"))
        assert b" 100 " in connection.recv(65536)
        server.process.send_signal(signal.SIGINT)
        with contextlib.suppress(ConnectionRefusedError):
            while True:  # until it listens no more
                server.connect().close()
                time.sleep(0.05)
        server.process.send_signal(signal.SIGINT)
        assert server.ended() == (128 + signal.SIGINT, "stopped\n")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_an_accepted_request_is_finished_before_the_end(model, number):
    with Server(model) as server:
        children = server.children() if LINUX else []
        body = json.dumps({"images": IMAGES.tolist()}).encode()
        with server.connect() as connection, server.connect() as silent:
            silent.sendall(b"GET /")
            connection.sendall(head(len(body), Expect="100-continue"))
            assert b" 100 " in connection.recv(65536)
            connection.sendall(body[:100])
            server.process.send_signal(number)
            with contextlib.suppress(ConnectionRefusedError):
                while True:  # until it listens no more
                    server.connect().close()
                    time.sleep(0.05)
            assert silent.recv(1) == b""
            connection.sendall(body[100:])
            answer = received(connection)
        assert status(answer) == 200
        check(json.loads(answer.partition(b"\r\n\r\n")[2]), IMAGES)
        assert server.ended() == (128 + number, "stopped\n")
    assert not any(Path(f"/proc/{pid}").exists() for pid in children)


def test_a_port_in_use_is_said(server, model):
    with pytest.raises(AssertionError, match=r"^error: 127.0.0.1, port \d+: cannot listen there"):
        Server(model, options=["--port", str(server.port)])


def test_what_is_no_model_is_said(tmp_path):
    (tmp_path / "model.onnx").write_bytes(b"no model")
    with pytest.raises(AssertionError, match=r"^error: .*expected an ONNX model"):
        Server(tmp_path)
