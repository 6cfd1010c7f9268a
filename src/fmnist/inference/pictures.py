"""The pictures of `fmnist predict --show`: a photo, what the model saw of it, and the answer."""

import contextlib
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fmnist.errors import UsageError, printable
from fmnist.files import require_own, write_own
from fmnist.inference.inputs import KEPT, Given

if TYPE_CHECKING:
    from PIL import Image, ImageFont

MARK = "made by fmnist predict"
MARGIN = 10  # pixels
WORDS, CLASS = 26, 20  # pixels: the heights of the letters; long words get those of a class
MOST = 3  # classes of the strip
STRIP = 2 * MARGIN + WORDS + 10 + MOST * (CLASS + 8)  # pixels below the two images


class Pictures:
    """Writes pictures into a folder, by the photos' names, or one into a .png file."""

    def __init__(self, place: Path, words: Sequence[str]) -> None:
        self.place, self.one = place, place.suffix.lower() == ".png"
        self.written: set[Path] = set()
        if self.one and any(_same(place, word) for word in words):
            raise UsageError(f"--show: {place} is the photo itself; name another file")
        if self.one:
            require_own(place, MARK)
        elif os.path.lexists(place) and not place.is_dir():
            raise UsageError(f"--show: expected a folder or a .png file, received {place}")

    def require_place_for(self, given: Sequence[Given]) -> None:
        """Raise UsageError for more images than there is a file for."""
        if self.one and len(self.written) + len(given) > 1:
            raise UsageError(f"--show: {self.place} is for one image; name a folder for several")

    def write(self, given: Given, found: dict[str, Any]) -> None:
        """Write the picture of an image and of what was found; its name is made of the photo's."""
        path = self.place
        if not self.one:
            name, number = Path(given.name).name.replace("-", "stdin", given.name == "-"), 1
            path = self.place / f"{name}.seen.png"
            while path in self.written:
                number += 1
                path = self.place / f"{name}.{number}.seen.png"
        from PIL.PngImagePlugin import PngInfo

        about = PngInfo()
        about.add_text("Software", MARK)
        self.written.add(path)
        picture = drawn(given, found)
        write_own(path, MARK, lambda place: picture.save(place, "PNG", pnginfo=about))


def _same(one: Path, other: str) -> bool:
    with contextlib.suppress(OSError):  # a name that is no file's
        return one.samefile(other)
    return False


def drawn(given: Given, found: dict[str, Any]) -> "Image.Image":
    """The photo, what the model saw beside it, each KEPT pixels wide, and below the answer; RGB.

    `found` has `answer` and `classes`, as a line of --json.
    """
    from PIL import Image, ImageDraw, ImageFont

    seen = Image.fromarray(given.pixels).resize((KEPT, KEPT), Image.Resampling.NEAREST)
    photo = given.photo or seen
    picture = Image.new("RGB", (2 * KEPT, KEPT + STRIP), "white")
    picture.paste((128, 128, 128), (0, 0, 2 * KEPT, KEPT))
    place = ((KEPT - photo.width) // 2, (KEPT - photo.height) // 2)
    picture.paste(photo, place, photo if photo.mode == "RGBA" else None)
    picture.paste(seen, (KEPT, 0))
    draw, y = ImageDraw.Draw(picture), KEPT + MARGIN
    words, classes = ImageFont.load_default(WORDS), ImageFont.load_default(CLASS)
    if words.getlength(found["answer"]) > 2 * (KEPT - MARGIN):
        words = classes
    draw.text((MARGIN, y), _fitting(found["answer"], words, 2 * (KEPT - MARGIN)), "black", words)
    y += WORDS + 10
    for each in found["classes"][:MOST]:
        share = f"{each['probability']:.1%}"
        draw.text((MARGIN + 70, y), share, "black", classes, anchor="ra")
        name = _fitting(each["class"], classes, 2 * (KEPT - MARGIN) - 85)
        draw.text((MARGIN + 85, y), name, "black", classes)
        y += CLASS + 8
    return picture


def _fitting(text: str, font: "ImageFont.FreeTypeFont | ImageFont.ImageFont", width: int) -> str:
    """The text, or as much of its beginning as has room in `width` pixels."""
    text = printable(text)[:200]
    if font.getlength(text) <= width:
        return text
    while text and font.getlength(text + "...") > width:
        text = text[:-1]
    return text + "..."
