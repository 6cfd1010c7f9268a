"""Runs a trained model from an ONNX file with numpy and onnxruntime, without Keras.

The file takes uint8 images and contains the normalisation and the calibration; its metadata names
the classes. A stranger may have made it: onnxruntime reads it as data, runs no code from it, and an
unexpected file is refused in one line.
"""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from fmnist.errors import RunError, UsageError
from fmnist.files import parse_json, require
from fmnist.inference.model_file import SHIPPED, find_model
from fmnist.inference.photos import misfit, prepare_photo
from fmnist.inference.trial import require_answers
from fmnist.system import usable_processors

if TYPE_CHECKING:
    import onnxruntime

Bytes = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float32]
LARGEST_MODEL = 2**30  # bytes
MOST_CLASSES = 10_000
OUTPUTS = ("logits", "probabilities")
BATCH = 32  # images at once: quicker than more of them, in 50 MB for the model in the box
SCHEMA = 1
WHOLE = "whole"  # of a file's metadata: photos stay as they are
SCORE = "centred energy"  # see `energy`
DOUBT = 0.5  # where a file has no such entry; photos can only raise it
FORM = {"schema": int, "name": str, "classes": [str], "shape": [int], "temperature": float}


class Classifier:
    """A model that classifies images.

    `name`; `classes`, their names in the order of the outputs; `shape`, (height, width) of an
    image; `temperature`, the divisor of the logits that calibrates the probabilities; `threshold`,
    the lowest energy of an image that looks like one of the classes, or None if none was fitted;
    `doubt`, the probability, 0 to 1, below which the likeliest class is no sure answer, 0.5 where
    the file names none; `whole_photos`, whether it learnt images with their surroundings, so that
    nothing is cut out.
    """

    def __init__(self, session: "onnxruntime.InferenceSession", about: dict[str, Any]) -> None:
        self._session = session
        self.name: str = about["name"]
        self.classes: tuple[str, ...] = tuple(about["classes"])
        self.shape: tuple[int, int] = (about["shape"][0], about["shape"][1])
        self.temperature: float = float(about["temperature"])
        self.doubt: float = float(about.get("doubt", DOUBT))
        self.whole_photos: bool = about.get("photos") == WHOLE
        outlier = about.get("outlier")
        self.threshold: float | None = float(outlier["threshold"]) if outlier else None

    @classmethod
    def load(
        cls, source: str | os.PathLike[str] | None = None, *, threads: int = 0
    ) -> "Classifier":
        """Load the bundled model (`source` None), an .onnx file, a folder with one, or a run.

        A run is a `Run`, its folder, its name under `runs/`, or `latest`. It is exported when it is
        first loaded, and when its weights have changed; that needs Keras and the run's data.
        `threads`: threads for the model; 0: one for each processor that this process may use.
        A model that is not the bundled one is tried first, in a process of its own, see `trial`.
        Raises RunError for a file that fmnist did not export, one that does not answer, and a run
        that cannot be exported.
        """
        path = find_model(source)
        if path != SHIPPED:
            _require_file(path)
            require_answers(path)
        return cls.open(path, threads=threads)

    @classmethod
    def open(cls, path: Path, *, threads: int = 0) -> "Classifier":
        """As `load` of a file, which is not tried."""
        session, text = _opened(path, threads)
        if not text:
            raise RunError(f"{path}: expected a model that fmnist export wrote, found another")
        about = parse_json(text, f"{path}: metadata")
        _check(about, session, path)
        return cls(session, about)

    def run(self, images: npt.ArrayLike) -> tuple[Floats, Floats]:
        """Logits and calibrated probabilities, float32 (n, classes) each.

        `images`: uint8, (n, height, width), (n, height, width, 1) or one (height, width), in the
        data set's form. Raises UsageError for others.
        """
        pixels = np.asarray(images)
        if pixels.ndim == 2:
            pixels = pixels[np.newaxis]
        if pixels.ndim == 4 and pixels.shape[3] == 1:
            pixels = pixels[:, :, :, 0]
        if pixels.dtype != np.uint8 or pixels.ndim != 3 or pixels.shape[1:] != self.shape:
            raise UsageError(
                f"images: expected uint8 of shape (n, {self.shape[0]}, {self.shape[1]}), received "
                f"{pixels.dtype} of shape {pixels.shape}"
            )
        outputs = [np.empty((len(pixels), len(self.classes)), np.float32) for _ in range(2)]
        for start in range(0, len(pixels), BATCH):
            piece = np.ascontiguousarray(pixels[start : start + BATCH])
            try:
                answers = self._session.run([*OUTPUTS], {"images": piece})
            except Exception as error:  # onnxruntime's errors share no class of their own
                raise RunError(f"{self.name}: the model fails ({_line(error)})") from None
            for name, output, answer in zip(OUTPUTS, outputs, answers, strict=True):
                if answer.shape != (len(piece), len(self.classes)) or not np.isfinite(answer).all():
                    raise RunError(
                        f"{self.name}: expected {len(self.classes)} finite numbers per image from "
                        f"the model, received shape {answer.shape}, NaN or infinity"
                    )
                if name == "probabilities" and not _are_probabilities(answer):
                    raise RunError(
                        f"{self.name}: expected probabilities from the model, of 0 to 1 and in all "
                        f"1 for each image, received {answer.min():g} to {answer.max():g}"
                    )
                output[start : start + len(piece)] = answer
        return outputs[0], outputs[1]

    def logits(self, images: npt.ArrayLike) -> Floats:
        """Logits, float32 (n, classes); `images` as for `run`."""
        return self.run(images)[0]

    def predict(self, images: npt.ArrayLike) -> Floats:
        """Calibrated probabilities, float32 (n, classes); `images` as for `run`."""
        return self.run(images)[1]

    def predict_photo(self, photo: str | os.PathLike[str] | bytes) -> Floats:
        """Calibrated probabilities for a photo, float32 (classes,); which is prepared first.

        `photo` is an image file's path, or its bytes. Raises UsageError where a garment is to be
        cut out for a model of another size than 28×28, PhotoError where there is no such image.
        """
        if why := misfit(self.shape, self.whole_photos):
            raise UsageError(f"{self.name}: {why}")
        pixels = prepare_photo(photo, self.shape, whole=self.whole_photos)
        probabilities: Floats = self.predict(pixels)[0]
        return probabilities

    def is_unlike(self, logits: npt.ArrayLike) -> npt.NDArray[np.bool_]:
        """Whether each image looks like none of the classes, by the energy of its logits: (n,)."""
        scores = energy(logits)
        return scores < (-np.inf if self.threshold is None else self.threshold)


def energy(logits: npt.ArrayLike) -> npt.NDArray[np.float64]:
    """log Σ exp(logits - their mean) of each row, (n,): high for images like the training images.

    The negative energy of Liu, Wang, Owens & Li 2020, "Energy-based Out-of-distribution Detection",
    of centred logits: cross-entropy leaves free what is added to all of an image's logits, and
    without the mean taken off it says nothing (`benchmarks/outliers.py` compares).
    """
    values = np.asarray(logits, np.float64)
    largest = values.max(axis=-1)
    sums = np.exp(values - largest[..., np.newaxis]).sum(axis=-1)
    return np.asarray(largest + np.log(sums) - values.mean(axis=-1), np.float64)


def _are_probabilities(values: Floats) -> bool:
    """Whether each row is of numbers from 0 to 1 whose sum is 1, within float16's rounding."""
    within = values.min() >= -1e-3 and values.max() <= 1 + 1e-3
    return bool(within and np.abs(values.sum(axis=1) - 1).max() < 0.01)


def _require_file(path: Path) -> None:
    if not path.is_file():
        raise RunError(f"{path}: expected an .onnx file, found none")
    if path.stat().st_size > LARGEST_MODEL:
        raise RunError(f"{path}: expected at most {LARGEST_MODEL:,} bytes")


def _opened(path: Path, threads: int) -> tuple["onnxruntime.InferenceSession", str]:
    """The model, ready to run, and its metadata's entry, empty where there is none."""
    _require_file(path)
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4  # its errors are raised too, and said in one line here
    options.intra_op_num_threads = threads or usable_processors()
    # Threads that wait for the next batch by spinning would take the processors from reading it.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    # A model is one file: weights that it wants from others are looked for where nothing can be.
    options.add_session_config_entry(
        "session.model_external_initializers_file_folder_path", str(path)
    )
    try:
        session = onnxruntime.InferenceSession(
            path.read_bytes(),
            options,
            providers=["CPUExecutionProvider"],
            enable_fallback=0,  # to what it was asked for already, with a message on stdout
        )
        return session, session.get_modelmeta().custom_metadata_map.get("fmnist", "")
    except Exception as error:  # onnxruntime's errors share no class of their own
        raise RunError(f"{path}: expected an ONNX model ({_line(error)})") from None


def _check(about: dict[str, Any], session: "onnxruntime.InferenceSession", path: Path) -> None:
    """Raise RunError unless metadata and signature are those that fmnist's export gives."""
    where = f"{path}: metadata"
    require(about, FORM, where)
    if about["schema"] != SCHEMA:
        raise RunError(f"{where}: expected schema {SCHEMA}, found {about['schema']}")
    classes, shape, outlier = about["classes"], about["shape"], about.get("outlier")
    if not 2 <= len(classes) <= MOST_CLASSES or len(set(classes)) != len(classes):
        raise RunError(f"{where}: expected 2 to {MOST_CLASSES:,} different classes")
    if len(shape) != 3 or shape[2] != 1 or not all(1 <= side <= 1024 for side in shape[:2]):
        raise RunError(f"{where}: expected the shape of a grey image, found {shape[:4]}")
    if not about["temperature"] > 0:
        raise RunError(f"{where}: expected a temperature above 0, found {about['temperature']}")
    require({"doubt": (doubt := about.get("doubt", DOUBT))}, {"doubt": float}, where)
    if not 0 <= doubt <= 1:
        raise RunError(f"{where}: expected a doubt of 0 to 1, found {doubt}")
    if outlier is not None:
        require(outlier, {"score": str, "threshold": float}, f"{where}: outlier")
        if outlier["score"] != SCORE:
            raise RunError(f"{where}: expected the outlier score {SCORE}, found {outlier['score']}")
    inputs = {i.name: (i.type, i.shape[1:]) for i in session.get_inputs()}
    if inputs != {"images": ("tensor(uint8)", shape[:2])}:
        raise RunError(f"{path}: expected one input, images, uint8 (n, {shape[0]}, {shape[1]})")
    outputs = {o.name: (o.type, o.shape[1:]) for o in session.get_outputs()}
    for name in OUTPUTS:
        if outputs.get(name) != ("tensor(float)", [len(classes)]):
            raise RunError(f"{path}: expected an output {name}, float32 (n, {len(classes)})")


def _line(error: Exception) -> str:
    """The first line of an error, which onnxruntime makes long."""
    return (str(error).splitlines() or [type(error).__name__])[0][:200]
