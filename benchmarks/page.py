"""What the page weighs, and how long it takes to load and to answer in a headless Chromium.

    make web && python benchmarks/page.py [--repeats 200] [--chromium /usr/bin/chromium]

Served by Python's plain file server on this machine, so that loading is unpacking and compiling,
not the network. An answer is one image through the model, there and back from its worker. So is a
photo of 600 × 800 pixels, which is prepared there first: both looks of the network are included.
Of a larger one the page first decodes the file and draws it at 1024 pixels or fewer.
"""

import argparse
import gzip
import json
import shutil
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from playwright.sync_api import sync_playwright

from fmnist.inference.classifier import SHIPPED

WEB = Path(__file__).parents[1] / "src" / "fmnist" / "serving" / "web"
MODEL = ("model.onnx", "segmenter.onnx", "card.json")
TIMED = """async (repeats) => {
    const module = (name) => import(new URL(name, document.baseURI));
    const { open } = await module("engine.js");
    const { covered } = await module("answer.js");
    const { pixelsOf } = await module("pictures.js");
    const image = Uint8Array.from({ length: 784 }, (_, i) => i % 251);
    const clock = async (n, action) => {
        const times = [];
        for (let i = 0; i < n; i++) {
            const begin = performance.now();
            await action();
            times.push(performance.now() - begin);
        }
        return times;
    };
    // A dark square on a light ground that is not quite even.
    const [width, height] = [600, 800];
    const photo = new ImageData(width, height);
    photo.data.fill(255);
    for (let i = 0; i < width * height; i++) {
        const [x, y] = [i % width, Math.floor(i / width)];
        const inside = Math.abs(x - 300) < 190 && Math.abs(y - 390) < 230;
        const value = inside ? 60 + (i * 7919) % 31 : 215 + (i * 7919) % 5 + y / 80;
        photo.data.fill(value, 4 * i, 4 * i + 3);
    }
    const copy = () => new ImageData(photo.data.slice(), width, height);
    const copies = Array.from({ length: 20 }, copy); // each is used up
    const large = new OffscreenCanvas(3000, 4000);
    large.getContext("2d").drawImage(await createImageBitmap(photo), 0, 0, 3000, 4000);
    const jpeg = await large.convertToBlob({ type: "image/jpeg" });
    const draw = async () => {
        const bitmap = await createImageBitmap(jpeg);
        pixelsOf(bitmap, bitmap.width, bitmap.height);
        bitmap.close();
    };
    const opened = [];
    let engine;
    for (let i = 0; i < 5; i++) opened.push(...await clock(1, async () => (engine = await open())));
    return {
        load: opened,
        large: await clock(5, draw),
        photo: await clock(copies.length, () => engine.ask({ photo: copies.pop() })),
        answer: await clock(repeats, () => engine.ask({ images: image.slice() })),
        map: await clock(5, () => engine.ask({ images: covered(image) })),
        local: engine.local,
    };
}"""


def weights() -> dict[str, tuple[int, int]]:
    """Bytes as they lie there, and as a host sends them that compresses: of each part."""
    files = {
        "page": [path for path in sorted(WEB.iterdir()) if path.is_file()],
        "model": [SHIPPED.with_name(name) for name in MODEL],
        "runtime": [WEB / "vendor" / "ort.js", WEB / "vendor" / "ort.wasm.gz"],
    }
    return {
        part: (
            sum(path.stat().st_size for path in paths),
            sum(min(path.stat().st_size, len(gzip.compress(path.read_bytes()))) for path in paths),
        )
        for part, paths in files.items()
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=200)
    parser.add_argument("--chromium", default="/usr/bin/chromium")
    options = parser.parse_args()
    print(f"{'part':<10} {'bytes':>12} {'gzip':>12}")
    for part, (raw, packed) in weights().items():
        print(f"{part:<10} {raw:>12,} {packed:>12,}")
    unpacked = len(gzip.decompress((WEB / "vendor" / "ort.wasm.gz").read_bytes()))
    print(f"ort.wasm.gz unpacked: {unpacked:,} bytes")
    with tempfile.TemporaryDirectory() as top:
        folder = Path(top) / "page"
        shutil.copytree(WEB, folder)
        (folder / "model").mkdir()
        for name in MODEL:
            shutil.copy(SHIPPED.with_name(name), folder / "model")
        command = [sys.executable, "-u", "-m", "http.server", "--bind", "127.0.0.1", "0"]
        with (
            subprocess.Popen(
                command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
            ) as server,
            sync_playwright() as playwright,
        ):
            port = server.stdout.readline().split("port ")[1].split()[0]
            browser = playwright.chromium.launch(
                executable_path=options.chromium, args=["--headless", "--no-sandbox"]
            )
            page = browser.new_page()
            page.goto(f"http://127.0.0.1:{port}/")
            page.locator("#loading").wait_for(state="hidden")
            page.wait_for_timeout(5000)  # its own occlusion map
            found = page.evaluate(TIMED, options.repeats)
            version = browser.version
            browser.close()
            server.terminate()
    assert found.pop("local"), json.dumps(found)
    print(f"{'milliseconds':<28} {'median':>8} {'fastest':>8}   (Chromium {version})")
    names = {
        "load": "load the model",
        "large": "pixels of 3000 × 4000",
        "photo": "a photo of 600 × 800",
        "answer": "an answer",
        "map": "an occlusion map",
    }
    for key, times in found.items():
        label = f"{names[key]}, n={len(times)}"
        print(f"{label:<28} {statistics.median(times):>8.1f} {min(times):>8.1f}")


if __name__ == "__main__":
    main()
