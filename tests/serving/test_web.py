"""The page: its arithmetic against Python's by node, and all of it in a real Chromium.

The browser's tests want `make web` to have been run; `make browser` does that. They leave pictures
of the page in build/screenshots for people to look at.
"""

import base64
import functools
import json
import os
import re
import shutil
import subprocess
import sys
import threading
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image, ImageDraw

from fmnist.data.load import load_data
from fmnist.errors import DataError
from fmnist.inference import garments
from fmnist.inference.classifier import SHIPPED, Classifier, energy
from fmnist.inference.photos import prepare, prepare_photo

ROOT = Path(__file__).parents[2]
WEB = ROOT / "src" / "fmnist" / "serving" / "web"
SCREENSHOTS = ROOT / "build" / "screenshots"
AXE = ROOT / "web-build" / "node_modules" / "axe-core" / "axe.min.js"
CHROMIUM = os.environ.get("CHROMIUM") or "/usr/bin/chromium"
ARGUMENTS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
    "--use-fake-device-for-media-stream",
)
SHIRT = (
    *((20, 20), (38, 14), (62, 14), (80, 20), (97, 45), (83, 54), (73, 42), (73, 94)),
    *((27, 94), (27, 42), (17, 54), (3, 45)),
)  # percent of the paper, the corners of an outline
WIDE, PHONE = {"width": 1280, "height": 960}, {"width": 390, "height": 844}
needs_node = pytest.mark.skipif(shutil.which("node") is None, reason="node is not installed")


def in_node(folder: Path, code: str) -> str:
    """What a module of JavaScript beside the page's modules prints."""
    for path in WEB.glob("*.js"):
        shutil.copy(path, folder)
    (folder / "package.json").write_text('{"type": "module"}')  # to node .js is none otherwise
    (folder / "test.js").write_text(code, encoding="utf-8")
    done = subprocess.run(
        ["node", folder / "test.js"], capture_output=True, text=True, timeout=600, cwd=folder
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def shirt(size: tuple[int, int], colour: object, ground: object, mode: str = "RGB") -> Image.Image:
    """A plain shirt in the middle of a picture."""
    image = Image.new(mode, size, ground)
    side = 0.9 * min(size)
    left, top = (size[0] - side) / 2, (size[1] - side) / 2
    corners = [(left + x * side / 100, top + y * side / 100) for x, y in SHIRT]
    ImageDraw.Draw(image).polygon(corners, fill=colour)
    return image


def photos() -> list[np.ndarray]:
    """Pictures of all kinds, uint8 (height, width, 4)."""
    random = np.random.default_rng(6)
    made = [
        shirt((640, 480), (40, 60, 120), (240, 238, 230)),
        shirt((300, 500), (230, 220, 210), (20, 25, 30)),
        shirt((97, 61), (200, 40, 30), (90, 160, 90)),
        shirt((51, 73), (120, 120, 120), (255, 255, 255)),
        shirt((400, 400), (10, 200, 90, 255), (0, 0, 0, 0), "RGBA"),
        shirt((257, 255), (10, 20, 90, 140), (9, 99, 0, 20), "RGBA"),
        Image.new("RGB", (40, 30), (7, 8, 9)),
        Image.new("RGB", (1, 1), (250, 3, 9)),
        Image.new("RGB", (700, 3), (250, 3, 9)),
    ]
    shaded = np.asarray(made[0]).astype(float)
    y, x = np.mgrid[0:480, 0:640]
    shaded -= (x / 12 + y / 9)[..., np.newaxis]
    made += [
        Image.fromarray((shaded + random.normal(0, noise, shaded.shape)).clip(0, 255).astype("u1"))
        for noise in (0, 2, 6, 15)
    ]
    made += [
        Image.fromarray(random.integers(0, 256, (*shape, 4), np.uint8))
        for shape in ((1, 9), (9, 2), (3, 3), (28, 28), (5, 300), (300, 7), (120, 90))
    ]
    # One that has the data set's form already, and one that has its size alone.
    ready = np.zeros((28, 28, 3), np.uint8)
    ready[4:24, 6:22] = random.integers(60, 256, (20, 16, 3))
    made += [Image.fromarray(ready), Image.fromarray(255 - ready)]
    # A floor below a wall, a soft shadow, and holes.
    room = np.asarray(made[0]).astype(float)
    room[330:] *= 0.55
    distance = np.hypot(x - 400, (y - 430) * 3)
    shadow = np.asarray(made[0]) * (1 - 0.25 * np.exp(-((distance / 90) ** 2)))[..., np.newaxis]
    for scene in (room, shadow, 0.6 * shadow):
        noisy = scene + random.normal(0, 1.5, scene.shape)
        image = Image.fromarray(noisy.clip(0, 255).astype("u1"))
        ImageDraw.Draw(image).ellipse((300, 200, 330, 240), fill=(240, 238, 230))
        made.append(image)
    # Blots of several sizes on a slope: pieces that are kept, and others that are dropped.
    for _ in range(12):
        width, height = (int(n) for n in random.integers(20, 400, 2))
        slope = np.linspace(*random.integers(0, 256, (2, 3)), width)[np.newaxis].repeat(height, 0)
        blots = Image.fromarray(
            (slope + random.normal(0, 2, slope.shape)).clip(0, 255).astype("u1")
        )
        for _ in range(6):
            a, b = (int(n) for n in random.integers(0, (width, height)))
            size = [int(n) for n in random.integers(2, 90, 2)]
            colour = tuple(int(n) for n in random.integers(0, 256, 3))
            ImageDraw.Draw(blots).ellipse((a, b, a + size[0], b + size[1]), fill=colour)
        made.append(blots)
    return [np.asarray(image.convert("RGBA")) for image in made]


def real_test_images():
    try:
        return load_data().test.open()
    except DataError as error:
        pytest.skip(f"wants the real data: {error}")


@needs_node
def test_around_the_network_a_photo_is_prepared_to_the_very_pixel_as_in_python(
    tmp_path, monkeypatch
):
    """Both with the same rule in the network's place, whose floats have the same last bits."""

    def contrast(_, feed):
        green = feed["pixels"][..., 1].astype(float)
        return [np.minimum(1, abs(green - green[:, :1, :1]) / 64).astype(np.float32)]

    monkeypatch.setattr(garments, "_segmenter", lambda: SimpleNamespace(run=contrast))
    pictures = photos()
    (tmp_path / "pixels").write_bytes(b"".join(picture.tobytes() for picture in pictures))
    sizes = [[picture.shape[1], picture.shape[0]] for picture in pictures]
    prepared = json.loads(
        in_node(
            tmp_path,
            f"""
        const {{ prepare }} = await import("./photo.js");
        const bytes = (await import("node:fs")).readFileSync("pixels");
        const contrast = (pixels) => Float32Array.from({{ length: 64 * 64 }}, (_, i) =>
          Math.min(1, Math.abs(pixels[3 * i + 1] - pixels[1]) / 64));
        let start = 0;
        const all = [];
        for (const [width, height] of {sizes}) {{
          const end = start + 4 * width * height;
          all.push([...await prepare(bytes.subarray(start, end), width, height, contrast)]);
          start = end;
        }}
        console.log(JSON.stringify(all));
    """,
        )
    )
    expected = [prepare(Image.fromarray(picture)) for picture in pictures]
    assert sum(image.any() for image in expected) > len(pictures) / 2
    for i, (ours, theirs) in enumerate(zip(prepared, expected, strict=True)):
        np.testing.assert_array_equal(np.reshape(ours, (28, 28)), theirs, err_msg=f"picture {i}")


@needs_node
def test_the_occlusion_map_is_pythons(tmp_path):
    """Of a model that is a fixed linear map of the pixels."""
    from fmnist.reports.occlusion import occlusion_map

    random = np.random.default_rng(1)
    weights = random.normal(0, 0.0005, (784, 3)).astype(np.float32)
    image = random.integers(0, 256, (28, 28, 1), np.uint8)

    def forward(images: np.ndarray) -> np.ndarray:
        return images.reshape(-1, 784).astype(np.float32) @ weights

    expected = occlusion_map(forward, image, 73)
    found = json.loads(
        in_node(
            tmp_path,
            f"""
        const {{ covered, occlusionMap, softmax, ranking }} = await import("./answer.js");
        const weights = {weights.tolist()};
        const logits = (images) => {{
          const n = images.length / 784;
          const out = new Float32Array(3 * n);
          for (let i = 0; i < n; i++) for (let k = 0; k < 3; k++) {{
            let sum = 0;
            for (let j = 0; j < 784; j++) sum += images[784 * i + j] * weights[j][k];
            out[3 * i + k] = sum;
          }}
          return out;
        }};
        const image = Uint8Array.from({image.reshape(-1).tolist()});
        const whole = softmax(logits(image), 1);
        const map = occlusionMap(whole, logits(covered(image)), 3, 1, ranking(whole)[0]);
        console.log(JSON.stringify([...map]));
    """,
        )
    )
    assert np.abs(expected).max() > 0.01
    np.testing.assert_allclose(np.reshape(found, (28, 28)), expected, atol=1e-5)


@needs_node
def test_the_most_important_region_is_told_in_words(tmp_path):
    code = """
        const { mostImportant } = await import("./answer.js");
        const words = [3, 14, 25].flatMap((y) => [3, 14, 25].map((x) => {
          const map = new Float32Array(784);
          map[28 * y + x] = 0.4;
          return mostImportant(map, "Bag");
        }));
        console.log(JSON.stringify(words));
    """
    places = [
        *("at the top left", "at the top", "at the top right"),
        *("at the left", "in the middle", "at the right"),
        *("at the bottom left", "at the bottom", "at the bottom right"),
    ]
    assert json.loads(in_node(tmp_path, code)) == [
        f"Red, most {place}: without it 40 points less Bag" for place in places
    ]


@needs_node
def test_doubts_are_told_where_there_are_any(tmp_path):
    """Energy and temperature as Python has them; sentences only where they are true."""
    card = {
        "classes": ["Shirt", "Coat", "Bag"],
        "temperature": 0.5,
        "doubt": 0.6,
        "outlier": {"score": "centred energy", "threshold": 3.0, "test_false_alarm": 0.01},
        "scores": {
            "test": {
                "accuracy": 0.95,
                "by_class": [
                    {"class": "Shirt", "precision": 0.85},
                    {"class": "Coat", "precision": 0.95},
                    {"class": "Bag", "precision": 0.99},
                ],
            }
        },
    }
    rows = [[0, 0, 9], [5, 4.9, -9], [-9, -9, -5], [9, 0, 0]]
    found = json.loads(
        in_node(
            tmp_path,
            f"""
        const {{ doubts, energy, softmax }} = await import("./answer.js");
        const card = {json.dumps(card)};
        console.log(JSON.stringify({rows}.map((row) => ({{
          energy: energy(row), probabilities: softmax(row, card.temperature),
          words: doubts(row, card, false).map(({{ text }}) => text.split(/[ :]/)[0]),
          own: doubts(row, card, true).length - doubts(row, card, false).length,
        }}))));
    """,
        )
    )
    np.testing.assert_allclose([each["energy"] for each in found], energy(rows), atol=1e-9)
    powers = np.exp(np.array(rows) / 0.5)
    expected = powers / powers.sum(axis=1, keepdims=True)
    np.testing.assert_allclose([each["probabilities"] for each in found], expected, atol=1e-9)
    words = [each["words"] for each in found]
    assert words == [[], ["Unsure", "Close", "Shirt"], ["Not"], ["Shirt"]]
    assert [each["own"] for each in found] == [1] * 4


@needs_node
def test_the_answer_in_words(tmp_path):
    """Nothing, unlike any class, not sure, probably; by the card's `doubt` where it has one."""
    classes = ["Shirt", "Ankle boot", "3-piece suit"]
    cards = [
        {"classes": classes, "temperature": 1, "doubt": 0.8},
        {"classes": classes, "temperature": 1},
    ]
    cards[1]["outlier"] = {"score": "centred energy", "threshold": 1.15}
    rows = [[0, 0, 9], [0, 9, 0], [2, 1, 0], [0, 1.1, 1], [0, 0, 0.1]]
    code = f"""
        const {{ verdict }} = await import("./answer.js");
        const [cards, rows] = {json.dumps([cards, rows])};
        const image = (pixel) => new Uint8Array(784).fill(pixel, 9, 10);
        const say = (pixel, row, card) => verdict(image(pixel), row, card);
        console.log(JSON.stringify([say(0, [9, 0, 0], cards[0]),
          ...cards.map((card) => rows.map((row) => say(1, row, card)))].flat()));
    """
    found = json.loads(in_node(tmp_path, code))
    sure = ["Probably 3-piece suit", "Probably an Ankle boot"]
    assert [each["text"] for each in found] == [
        "No garment found",
        *sure,
        "Not sure: a Shirt or an Ankle boot",
        "Not sure: an Ankle boot or 3-piece suit",
        "Not sure: 3-piece suit or a Shirt",
        *sure,
        "Probably a Shirt",
        "Not sure: an Ankle boot or 3-piece suit",
        "Looks like none of the classes",
    ]
    assert all(each["sure"] == each["text"].startswith("Probably") for each in found)


def test_the_examples_are_images_of_the_test_split_drawn_over_all_classes():
    about = json.loads((WEB / "gallery.json").read_text(encoding="utf-8"))
    with Image.open(WEB / "gallery.png") as sprite:
        assert sprite.mode == "L"
        assert sprite.width * sprite.height == 784 * len(about["images"])
    labels = [each["label"] for each in about["images"]]
    assert np.bincount(labels).tolist() == [4] * len(about["classes"])


@pytest.mark.data
def test_the_examples_are_what_they_say():
    test = real_test_images()
    about = json.loads((WEB / "gallery.json").read_text(encoding="utf-8"))
    pixels = np.asarray(Image.open(WEB / "gallery.png"))
    for i, each in enumerate(about["images"]):
        y, x = divmod(i, pixels.shape[1] // 28)
        tile = pixels[28 * y : 28 * y + 28, 28 * x : 28 * x + 28]
        np.testing.assert_array_equal(tile, test.images[each["index"], :, :, 0])
        assert test.labels[each["index"]] == each["label"]


def test_the_page_holds_no_script_or_style_of_its_own_and_no_address():
    for path in WEB.iterdir():
        if path.suffix in {".html", ".css", ".js"}:
            text = path.read_text(encoding="utf-8")
            assert not re.findall(r"(?:https?:)?//[\w-]+\.[\w.]+", text), path.name
    page = (WEB / "index.html").read_text(encoding="utf-8")
    assert not re.findall(r"<style|\sstyle=|\son\w+=|<script(?![^>]* src=)", page)
    names = re.findall(r'(?:href|src)="([^"#]+)"', page)
    assert names
    assert all((WEB / name).is_file() for name in names)


# In the browser


class FileHost(SimpleHTTPRequestHandler):
    """A plain file host: no headers of ours, so that the page's own policy is what holds."""

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture(scope="module")
def host(tmp_path_factory):
    """The page's address on a plain file host, below a folder as `make page` makes it."""
    if not (WEB / "vendor" / "ort.js").exists():
        pytest.skip("the page's runtime is not there: make web")
    top = tmp_path_factory.mktemp("host")
    shutil.copytree(WEB, top / "some" / "where")
    (top / "some" / "where" / "model").mkdir()
    for name in ("model.onnx", "segmenter.onnx", "card.json"):
        shutil.copy(SHIPPED.with_name(name), top / "some" / "where" / "model")
    handler = functools.partial(FileHost, directory=str(top))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        server.handle_error = lambda *_: None  # a page that is closed while it loads
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/some/where/"
        server.shutdown()


@pytest.fixture(scope="module")
def server():
    """The address at which `fmnist serve` answers."""
    command = [sys.executable, "-m", "fmnist", "serve", "--port", "0", "--json"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield json.loads(process.stdout.readline())["address"]
        finally:
            process.terminate()


@pytest.fixture(scope="module")
def chromium():
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        yield browser
        browser.close()


@pytest.fixture
def visit(chromium):
    """Opens a page and waits for its first answer; at the end nothing may have gone wrong in it."""
    contexts, troubles, foreseen = [], [], []

    def go(address, *, camera=True, card=None, missing=None, route=None, wait=answered, **options):
        context = chromium.new_context(
            viewport=options.pop("viewport", WIDE),
            **options,
            permissions=["camera"] if camera else [],
        )
        contexts.append(context)
        page = context.new_page()
        page.on("pageerror", lambda error: troubles.append(str(error)))
        page.on("console", lambda said: said.type == "error" and troubles.append(said.text))
        if missing:
            foreseen.append("Failed to load resource")
            context.route(missing, lambda route: route.fulfill(status=404))
        if route:
            context.route(*route)
        if card:
            text = json.dumps(card)
            context.route("**/card.json", lambda route: route.fulfill(body=text))
        page.goto(address)
        wait(page)
        return page

    yield go
    for context in contexts:
        context.close()
    assert not [line for line in troubles if not any(each in line for each in foreseen)]


def answered(page):
    """Waits until an answer stands there with its map, and gives the class."""
    page.locator("#mattered-text", has_text=re.compile("Red|No single")).wait_for(timeout=60_000)
    return shares(page)[0][0]


def pick(page, source):
    page.get_by_role("radio", name=source, exact=True).check()


def asked(page, action):
    """The class that is answered after `action`."""
    page.evaluate("document.getElementById('mattered-text').textContent = ''")
    action()
    return answered(page)


def check_accessibility(page):
    """axe-core finds nothing, contrast included."""
    page.evaluate(AXE.read_text(encoding="utf-8"))
    found = page.evaluate("axe.run()")
    assert found["passes"]
    assert not [
        (each["id"], [node["html"] for node in each["nodes"]]) for each in found["violations"]
    ]


def photo_file(tmp_path, name="shirt.jpg"):
    path = tmp_path / name
    shirt((900, 1200), (50, 70, 130), (226, 222, 214)).save(path)
    return path


@functools.cache
def model():
    return Classifier.load()


def answer_of(path):
    """The class that Python answers to a photo."""
    return model().classes[int(model().predict(prepare_photo(path))[0].argmax())]


def seen(page):
    """The pixels that the page shows as what the model saw."""
    pixels = page.evaluate(
        "[...document.getElementById('saw').getContext('2d').getImageData(0, 0, 28, 28).data]"
    )
    return np.reshape(pixels, (28, 28, 4))[:, :, 0]


def choose_photo(page, path):
    pick(page, "Photo")
    page.set_input_files("#file", path)


def shares(page):
    """Class and share as the bars have them."""
    rows = page.locator("#bars li").all_inner_texts()
    return [tuple(row.split("\n")) for row in rows]


@pytest.mark.browser
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("viewport", [WIDE, PHONE], ids=["wide", "phone"])
def test_the_page_at_first_sight(visit, host, viewport, scheme):
    page = visit(host, viewport=viewport, color_scheme=scheme, reduced_motion="reduce")
    assert page.get_by_text("your pictures stay on this device").is_visible()
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    tiles = page.evaluate(
        "[...document.querySelectorAll('.tiles label')].map((e) => e.offsetWidth)"
    )
    assert min(tiles) >= 44  # what a finger hits
    assert ".." not in page.locator("#card").inner_text()
    SCREENSHOTS.mkdir(parents=True, exist_ok=True)
    size = "wide" if viewport is WIDE else "phone"
    page.screenshot(path=SCREENSHOTS / f"examples-{size}-{scheme}.png", full_page=True)


@pytest.mark.browser
def test_every_example_is_answered_as_in_python(visit, host):
    page = visit(host)
    about = json.loads((WEB / "gallery.json").read_text(encoding="utf-8"))
    pixels = np.asarray(Image.open(WEB / "gallery.png"))
    classifier = model()
    for i in (0, 17, 39):
        y, x = divmod(i, 8)
        tile = np.ascontiguousarray(pixels[28 * y : 28 * y + 28, 28 * x : 28 * x + 28])
        each = about["images"][i]
        label = about["classes"][each["label"]]
        name = f"Test image {each['index']}, {label}"
        top = asked(page, lambda name=name: page.get_by_label(name).click())
        expected = classifier.predict(tile)[0]
        assert top == classifier.classes[int(expected.argmax())]
        assert page.inner_text("#kicker") == f"Label: {label} {'✓' if top == label else '✗'}"
        assert [name for name, _ in shares(page)] == [
            classifier.classes[k] for k in np.argsort(-expected)[:5]
        ]


@pytest.mark.browser
@pytest.mark.parametrize("way", ["choose", "drop", "paste"])
def test_a_photo(visit, host, tmp_path, way):
    page = visit(host)
    content = photo_file(tmp_path).read_bytes()
    given = base64.b64encode(content).decode()
    carry = f"""(() => {{
        const bytes = Uint8Array.from(atob("{given}"), (c) => c.charCodeAt(0));
        const carried = new DataTransfer();
        carried.items.add(new File([bytes], "shirt.jpg", {{ type: "image/jpeg" }}));
        return carried;
    }})()"""
    actions = {
        "choose": lambda: choose_photo(page, tmp_path / "shirt.jpg"),
        "drop": lambda: page.evaluate(
            "document.body.dispatchEvent(new DragEvent('drop', "
            f"{{ dataTransfer: {carry}, bubbles: true, cancelable: true }}))"
        ),
        "paste": lambda: page.evaluate(
            f"document.body.dispatchEvent(new ClipboardEvent('paste', "
            f"{{ clipboardData: {carry}, bubbles: true, cancelable: true }}))"
        ),
    }
    assert asked(page, actions[way]) == answer_of(tmp_path / "shirt.jpg")
    assert page.get_by_alt_text("The photo you chose").is_visible()
    assert "Not from its data set" in page.inner_text("#reasons")
    page.screenshot(path=SCREENSHOTS / f"photo-{way}.png", full_page=True)


def many_photos():
    """Pictures of all forms, by name."""
    random = np.random.default_rng(29)
    plain = shirt((620, 500), (50, 70, 130), (226, 222, 214))
    noisy = np.asarray(shirt((700, 900), (120, 30, 50), (150, 160, 140))).astype(float)
    noisy += random.normal(0, 8, noisy.shape)
    tight = shirt((400, 400), (190, 30, 60), (255, 255, 255)).crop((32, 50, 368, 358))
    return {
        "plain": plain,
        "grey": plain.convert("L"),
        "transparent": shirt((400, 300), (10, 90, 60, 255), (0, 0, 0, 0), "RGBA"),
        "cut out": shirt((400, 300), (10, 90, 60, 255), (255, 255, 255, 0), "RGBA"),
        "half": shirt((300, 300), (10, 20, 90, 255), (200, 199, 190, 200), "RGBA"),
        "large": Image.fromarray(noisy.clip(0, 255).astype("u1")),
        "wide": shirt((1000, 130), (20, 20, 25), (200, 210, 190)),
        "line": shirt((1, 900), (250, 3, 9), (250, 3, 9)),
        "tight": tight,
        "small": shirt((30, 41), (30, 30, 160), (250, 250, 250)),
        "noise": Image.fromarray(random.integers(0, 256, (300, 400, 3), np.uint8)),
    }


@pytest.mark.browser
def test_a_photo_is_prepared_and_answered_as_in_python(visit, host, tmp_path):
    """Within two of 255 at 99.5 % of the pixels: the network's floats differ in their last bits."""
    page = visit(host)
    carry = """async (text) => {
        const module = (name) => import(new URL(name, document.baseURI));
        window.engine ??= await (await module("engine.js")).open();
        const { pixelsOf } = await module("pictures.js");
        const bytes = Uint8Array.from(atob(text), (c) => c.charCodeAt(0));
        const bitmap = await createImageBitmap(new Blob([bytes], { type: "image/png" }));
        const photo = pixelsOf(bitmap, bitmap.width, bitmap.height);
        const { images, logits } = await window.engine.ask({ photo });
        return [[...images], [...logits]];
    }"""
    differences, garments_found = [], 0
    for name, image in many_photos().items():
        path = tmp_path / f"{name}.png"
        image.save(path)
        pixels, logits = page.evaluate(carry, base64.b64encode(path.read_bytes()).decode())
        expected = prepare_photo(path)
        off = abs(np.reshape(pixels, (28, 28)).astype(int) - expected)
        assert (off <= 2).mean() >= 0.995, name
        assert np.argmax(logits) == model().logits(expected)[0].argmax(), name
        differences.append(off.max())
        garments_found += bool(expected.any())
    assert garments_found > len(differences) / 2
    print(f"largest differences of a pixel: {differences}")


@pytest.mark.browser
@pytest.mark.parametrize("viewport", [WIDE, PHONE], ids=["wide", "phone"])
def test_of_several_photos_each_is_answered(visit, host, tmp_path, viewport):
    image = shirt((300, 300), (20, 60, 20, 255), (0, 0, 0, 0), "RGBA")
    image.save(tmp_path / "plain.png")
    image.rotate(135).save(tmp_path / "turned.png")
    (tmp_path / "letter.txt").write_text("no image")
    page = visit(host, viewport=viewport)
    files = [tmp_path / name for name in ("letter.txt", "plain.png", "turned.png")]
    answers = [answer_of(path) for path in files[1:]]
    assert asked(page, lambda: choose_photo(page, files)) == answers[0]
    page.locator("#photo-trouble", has_text="letter.txt is not an image").wait_for()
    tiles = page.locator("#photos label")
    tiles.nth(1).get_by_text(re.compile(r"\w")).wait_for()
    first, second = tiles.all_inner_texts()
    assert first.strip() == page.inner_text("#top")
    page.screenshot(path=SCREENSHOTS / f"photos-{viewport['width']}.png", full_page=True)
    top = page.locator("#top").bounding_box()
    assert top["y"] + top["height"] < viewport["height"]  # seen without scrolling
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    check_accessibility(page)
    assert asked(page, lambda: page.get_by_role("radio", name="turned.png").check()) == answers[1]
    assert second.strip() == page.inner_text("#top")
    choose_photo(page, files[1])
    page.locator("#photos").wait_for(state="hidden")


@pytest.mark.browser
def test_the_answer_is_seen_before_its_map(visit, host):
    """Where the model never answers for the map's covered images."""
    whole = "if (images.length > 784) await new Promise(() => {}); const input"

    def stopped(route):
        code = (WEB / "worker.js").read_text(encoding="utf-8")
        assert "const input" in code
        route.fulfill(body=code.replace("const input", whole, 1), content_type="text/javascript")

    def seen_already(page):
        page.locator("#bars li").first.wait_for()
        assert page.locator("#loading").is_hidden()
        assert page.inner_text("#mattered-text") == "Looking …"

    visit(host, wait=seen_already, route=("**/worker.js", stopped))


@pytest.mark.browser
@pytest.mark.parametrize(
    "content",
    [b"", b"no image at all", b"\x89PNG\r\n\x1a\n cut short"],
    ids=["empty", "text", "cut"],
)
def test_a_file_that_is_no_image_is_refused_in_words(visit, host, tmp_path, content):
    (tmp_path / "bad.png").write_bytes(content)
    page = visit(host)
    good = photo_file(tmp_path)
    asked(page, lambda: choose_photo(page, good))
    page.set_input_files("#file", tmp_path / "bad.png")
    page.get_by_text("bad.png is not an image that this browser can read").wait_for()
    page.locator("#result").wait_for(state="hidden")  # the answer to another photo
    assert page.locator("#preview").is_hidden()
    assert asked(page, lambda: page.set_input_files("#file", good)) == answer_of(good)
    assert page.locator("#trouble").is_hidden()


@pytest.mark.browser
def test_a_photo_of_nothing_is_said_to_be_one(visit, host, tmp_path):
    """Transparent, since what the network finds in a wall is a matter of its quality."""
    Image.new("RGBA", (300, 200)).save(tmp_path / "nothing.png")
    page = visit(host)
    choose_photo(page, tmp_path / "nothing.png")
    page.get_by_role("heading", name="No garment found").wait_for()
    assert page.locator("#hint").is_visible()
    assert page.locator("#bars").is_hidden()
    assert page.get_by_role("status").inner_text().startswith("No garment found. Lay")


@pytest.mark.browser
@pytest.mark.parametrize("above", [True, False])
def test_what_is_no_garment_is_said_to_be_none(visit, host, tmp_path, above):
    """By the card's threshold, put a hair above or below the energy that Python finds."""
    path = tmp_path / "letter.png"
    shirt((300, 300), (20, 20, 20, 255), (0, 0, 0, 0), "RGBA").rotate(135).save(path)
    found = float(energy(model().logits(prepare_photo(path)))[0])
    card = json.loads(SHIPPED.with_name("card.json").read_text(encoding="utf-8"))
    card["outlier"]["threshold"] = found + (0.01 if above else -0.01)
    page = visit(host, card=card)
    asked(page, lambda: choose_photo(page, path))
    assert ("Not like a garment" in page.inner_text("#reasons")) == above
    assert (page.inner_text("#top") == "Looks like none of the classes") == above
    if above:
        assert "Not like a garment" in page.locator("#reasons li").first.inner_text()
        page.screenshot(path=SCREENSHOTS / "unlike.png", full_page=True)


@pytest.mark.browser
def test_the_camera(visit, host):
    page = visit(host)
    pick(page, "Camera")
    page.get_by_role("button", name="Start the camera").click()
    take = page.get_by_role("button", name="Take the picture")
    take.wait_for()
    assert page.evaluate("document.activeElement.id") == "camera-take"
    asked(page, take.click)
    assert page.get_by_role("img", name="The picture you took").is_visible()
    assert page.locator("#video").is_hidden()
    assert page.evaluate("document.getElementById('video').srcObject === null")
    page.get_by_role("button", name="Take another").click()
    take.wait_for()
    pick(page, "Draw")  # leaving turns the camera off
    assert page.evaluate("document.getElementById('video').srcObject === null")


@pytest.mark.browser
def test_a_camera_that_is_refused_is_no_dead_end(visit, host, tmp_path):
    page = visit(host, camera=False)
    pick(page, "Camera")
    page.get_by_role("button", name="Start the camera").click()
    page.get_by_text("The camera was not allowed").wait_for()
    assert page.get_by_role("button", name="Start the camera").is_enabled()
    photo = photo_file(tmp_path)
    found = asked(page, lambda: choose_photo(page, photo))
    assert found == answer_of(photo)


@pytest.mark.browser
def test_drawing(visit, host, tmp_path):
    page = visit(host)
    pick(page, "Draw")
    box = page.locator("#paper").bounding_box()
    corners = [
        (box["x"] + x * box["width"] / 100, box["y"] + y * box["height"] / 100)
        for x, y in (*SHIRT, SHIRT[0])
    ]

    def draw():
        page.mouse.move(*corners[0])
        page.mouse.down()
        for corner in corners[1:]:
            page.mouse.move(*corner, steps=3)
        page.mouse.up()

    top = asked(page, draw)
    drawn = page.evaluate("document.getElementById('paper').toDataURL().split(',')[1]")
    (tmp_path / "drawn.png").write_bytes(base64.b64decode(drawn))
    assert top == answer_of(tmp_path / "drawn.png")
    page.screenshot(path=SCREENSHOTS / "draw.png", full_page=True)
    page.get_by_role("button", name="Undo").click()
    page.get_by_text("The paper is empty.").wait_for()
    asked(page, draw)
    page.get_by_role("button", name="Clear").click()
    page.get_by_text("The paper is empty.").wait_for()
    assert page.locator("#result").is_hidden()


@pytest.mark.browser
def test_with_the_keyboard_alone(visit, host):
    """Examples by arrow keys, drawing by arrow keys and space; the answer is told aloud."""
    page = visit(host)
    focused = "document.activeElement"
    page.keyboard.press("Tab")
    assert page.evaluate(f"{focused}.className") == "skip"
    page.keyboard.press("Tab")
    assert page.evaluate(f"{focused}.value") == "gallery"
    page.keyboard.press("Tab")
    first = page.evaluate(f"{focused}.ariaLabel")
    assert first.startswith("Test image")
    asked(page, lambda: page.keyboard.press("ArrowRight"))
    assert page.evaluate(f"{focused}.ariaLabel") != first
    said = page.get_by_role("status").inner_text()
    assert said.startswith(page.inner_text("#top") + ". ")
    assert "The label says" in said
    page.keyboard.press("Shift+Tab")
    for _ in range(3):
        page.keyboard.press("ArrowRight")
    assert page.locator("#paper").is_visible()
    page.keyboard.press("Tab")
    assert page.evaluate(f"{focused}.id") == "paper"
    page.keyboard.press("Space")
    for key, times in (("ArrowRight", 6), ("ArrowDown", 22), ("ArrowLeft", 12), ("ArrowUp", 22)):
        for _ in range(times):
            page.keyboard.press(key)
    page.evaluate("document.getElementById('said').textContent = ''")
    page.keyboard.press("Space")
    page.locator("#said", has_text=re.compile(r"\w")).wait_for()  # whatever it is taken for
    assert page.locator("#pen").is_visible()
    assert page.get_by_role("status").inner_text().startswith(page.inner_text("#top") + ". ")


@pytest.mark.browser
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("source", ["Examples", "Photo", "Camera", "Draw"])
def test_accessibility(visit, host, source, scheme):
    page = visit(host, color_scheme=scheme, reduced_motion="reduce")
    pick(page, source)
    page.locator("summary").click()
    check_accessibility(page)


@pytest.mark.browser
@pytest.mark.data
def test_the_browser_answers_as_python_does_for_1000_test_images(visit, host):
    images = real_test_images().images[:1000, :, :, 0]
    page = visit(host)
    found = page.evaluate(
        """async (text) => {
            const module = (name) => import(new URL(name, document.baseURI));
            const { open } = await module("engine.js");
            const { softmax } = await module("answer.js");
            const { card, local, ask } = await open();
            const pixels = Uint8Array.from(atob(text), (c) => c.charCodeAt(0));
            const size = 784, some = 50, n = card.classes.length, rows = [];
            for (let i = 0; i < pixels.length; i += some * size) {
                const { logits: all } = await ask({ images: pixels.slice(i, i + some * size) });
                for (let k = 0; k < some; k++) {
                    rows.push(softmax(all.subarray(k * n, (k + 1) * n), card.temperature));
                }
            }
            return { local, rows };
        }""",
        base64.b64encode(images.tobytes()).decode(),
    )
    assert found["local"]
    expected = model().predict(images)
    difference = float(np.abs(np.array(found["rows"]) - expected).max())
    print(f"largest difference of a probability over 1,000 images: {difference:.2e}")
    assert difference < 1e-3
    assert (np.argmax(found["rows"], axis=1) == expected.argmax(axis=1)).all()


# By whom the answer is given


@pytest.mark.browser
def test_our_own_server_hosts_the_page(visit, host, server):
    """Under its headers, and the model still runs in the page."""
    assert answered(visit(server)) == answered(visit(host))
    page = visit(server)
    assert page.get_by_text("your pictures stay on this device").is_visible()


@pytest.mark.browser
def test_without_the_runtime_the_server_answers(visit, host, server, tmp_path):
    page = visit(server, missing="**/vendor/**")
    assert page.get_by_text("are sent there").is_visible()
    assert page.inner_text("#time").endswith("on the server")
    photo = photo_file(tmp_path)
    found = []
    for each in (page, visit(host)):
        asked(each, lambda each=each: choose_photo(each, photo))
        found.append((shares(each), each.inner_text("#mattered-text")))
    assert found[0] == found[1]


@pytest.mark.browser
@pytest.mark.parametrize(
    "missing", ["**/vendor/**", "**/model.onnx", "**/segmenter.onnx", "**/card.json"]
)
def test_what_is_missing_is_named(visit, host, missing):
    def told(page):
        page.locator("#trouble").wait_for()

    page = visit(host, missing=missing, wait=told)
    assert missing.strip("*/").split(".")[0] in page.inner_text("#trouble")
    assert page.locator("#loading").is_hidden()


@pytest.mark.browser
def test_a_model_that_has_no_card_to_speak_of(visit, host):
    """The card is then what the file says of itself."""
    card = json.loads(SHIPPED.with_name("card.json").read_text(encoding="utf-8"))
    kept = ("schema", "name", "file", "sha256", "bytes", "classes", "shape", "temperature")
    page = visit(host, card={key: card[key] for key in kept})
    assert shares(page)[0][0] in card["classes"]
    assert f"{card['bytes'] / 1e6:.2f} MB" in page.inner_text("#facts")
