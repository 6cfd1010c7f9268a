"""The run folder: all files that a report or a comparison needs, written safely.

A run folder holds `recipe.json`, `env.json`, `metrics.jsonl`, `checkpoint/` while training goes on,
then `weights.safetensors`, `val_logits.npz`, `test_logits.npz` and `score.json`. Files appear
whole or not at all: see `files`.
"""

import contextlib
import json
import os
import shlex
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import IO, Any

from numpy.typing import NDArray

from fmnist import files
from fmnist.errors import RunError, UsageError
from fmnist.files import append_line, read_json, save_arrays, sha256, write_json
from fmnist.recipes.recipe import Recipe
from fmnist.runs import folders
from fmnist.runs.arrays import read_logits, read_weights, write_logits
from fmnist.runs.checkpoints import Checkpoints
from fmnist.runs.commands import command, resume_command, typed
from fmnist.runs.ledger import SCORE, Ledger
from fmnist.runs.origin import origin_of, require_origin
from fmnist.runs.schemas import read_env, read_metrics, read_scores

SCHEMA = 1
Arrays = Mapping[str, NDArray[Any]]


def now() -> str:
    """The time in UTC, ISO 8601 to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")


class Run:
    """A run folder. `Run(path)` opens one; `Run.create` makes one. Raises RunError.

    Recipe, environment and scores are read once. This object knows its own changes to them; open a
    new one to read another process's changes.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        self._lock: IO[str] | None = None  # while this process trains the run
        self._weights: os.stat_result | None = None  # of the file that was loaded from here
        try:
            if not (self.path / "recipe.json").is_file():
                expected = "a run folder (with a recipe.json)"
                raise RunError(
                    f"{self.path}: expected {expected}, found none; list runs with fmnist runs"
                )
            folders.require_plain_files(self.path)
        except OSError as error:
            raise RunError(f"{self.path}: cannot be read ({error.strerror or error})") from None

    @classmethod
    def create(
        cls,
        path: str | os.PathLike[str] | None,
        recipe: Recipe,
        env: Mapping[str, Any],
        fill: Callable[[Path], object] = lambda folder: None,
    ) -> "Run":
        """A new folder with `recipe.json` and `env.json`; a name is made up where none is given.

        Raises RunError for a folder that exists and is not empty. `fill` may write more files into
        it. If that fails, the folder is removed.
        """

        def write(folder: Path) -> None:
            fill(folder)
            write_json(folder / "env.json", {"schema": SCHEMA} | dict(env))
            write_json(folder / "recipe.json", recipe.to_json())  # last: a folder with it is a run

        asked = Path(path) if path is not None else None
        return cls(folders.make_folder(asked, "runs", recipe.name, _refusal, write))

    @staticmethod
    def refuse_existing(path: str | os.PathLike[str]) -> None:
        """Raise RunError for a folder that exists and is not empty, as `create` does."""
        folders.refuse_existing(Path(path), _refusal)

    def __fspath__(self) -> str:
        """The path, so that a run can be passed wherever a path can."""
        return str(self.path)

    def __repr__(self) -> str:
        return f"Run({str(self.path)!r})"

    @property
    def name(self) -> str:
        """The folder's name."""
        return self.path.resolve().name

    @cached_property
    def recipe_json(self) -> Mapping[str, Any]:
        """The content of `recipe.json`, which another version may have written."""
        return read_json(self.path / "recipe.json")

    @cached_property
    def recipe(self) -> Recipe:
        """The run's recipe. Raises UsageError for a recipe of another version."""
        return Recipe.from_json(self.recipe_json)

    @cached_property
    def env(self) -> Mapping[str, Any]:
        """`env.json`: versions, device, precision, data hash and all else that affects the result.

        Use `change_env` to change it.
        """
        return read_env(self.path)

    def change_env(self, **values: Any) -> None:
        """Change some values of `env.json`."""
        self.require_in_place()
        write_json(self.path / "env.json", read_env(self.path) | values)
        self.__dict__.pop("env", None)

    @property
    def origin(self) -> dict[str, str]:
        """What weights and checkpoints of this run are trained by, as `origin_of` says it."""
        return origin_of(self.recipe_json, self.env)

    @cached_property
    def scores(self) -> Mapping[str, Any]:
        """`score.json`: the latest score by split, empty before the first."""
        return read_scores(self.path)

    def save_score(self, split: str, score: Mapping[str, Any]) -> None:
        """Put a split's score into `score.json`."""
        self.require_in_place()
        scores = read_scores(self.path)  # another process may have scored another split meanwhile
        write_json(self.path / "score.json", scores | {split: dict(score)})
        self.__dict__.pop("scores", None)

    def require_data(self, received: str, name: str) -> None:
        """Raise UsageError unless a data set is the one that the run was trained on.

        `received` is its hash, `Data.hash` or `Split.source`; `name` is its name in the message.
        """
        data = self.env["data"]
        if received != data["hash"]:
            raise UsageError(
                f"{self.path}: expected the data that it was trained on ({data['name']}, hash "
                f"{data['hash'][:16]}), received {name}, hash {received[:16] or 'unknown'}"
            )

    def require_data_of(self, other: "Run") -> None:
        """Raise UsageError unless another run was trained on the same data."""
        self.require_data(other.env["data"]["hash"], f"that of {other.path}")

    @property
    def finished(self) -> bool:
        """Whether training has finished and the weights exist."""
        return self.weights_path.exists()

    @property
    def weights_path(self) -> Path:
        """The file of the resulting weights."""
        return self.path / "weights.safetensors"

    @property
    def checkpoints(self) -> Checkpoints:
        """The checkpoints, from which training resumes; a finished run has none."""
        return Checkpoints(self)

    @property
    def ledger(self) -> Ledger:
        """The ledger in the folder that contains the run."""
        return Ledger(self.path.resolve().parent)

    # metrics

    def metrics(self) -> list[dict[str, Any]]:
        """The lines of `metrics.jsonl`, one per epoch, oldest first."""
        return read_metrics(self.path)

    def append_metrics(self, values: Mapping[str, Any]) -> None:
        """Append a line to `metrics.jsonl`."""
        self.require_in_place()
        append_line(self.path / "metrics.jsonl", values)

    def keep_metrics(self, until: int) -> None:
        """Drop the lines after update number `until`, from which training is resumed."""
        self.require_in_place()
        kept = [line for line in self.metrics() if line.get("update", 0) <= until]
        text = "".join(json.dumps(line) + "\n" for line in kept)
        path = self.path / "metrics.jsonl"
        files.write_whole(path, lambda p: p.write_text(text, encoding="utf-8"))

    # weights, scores

    def save_weights(self, weights: Arrays, about: Mapping[str, Any]) -> None:
        """Write `weights.safetensors`; `about` goes into its metadata as JSON."""
        self.require_in_place()
        save_arrays(self.weights_path, weights, {"about": json.dumps(about, ensure_ascii=False)})
        self._weights = None

    def require_weights(self) -> None:
        """Raise RunError where training has not finished."""
        if not self.finished and self.weights_path.with_name("weights.safetensors.000").exists():
            whole = shlex.quote(typed(self.weights_path))
            joining = f"cat {whole}.??? > {whole}"
            raise RunError(
                f"{self.path}: expected weights in one file, found parts; join them by: {joining}"
            )
        if not self.finished and (self.path / "results.jsonl").exists():
            raise RunError(
                f"{self.path}: expected weights, found a record without them; train the run again"
            )
        if not self.finished:
            raise RunError(
                f"{self.path}: has no weights yet; finish it by {resume_command(self.path)}"
            )

    def require_unfinished(self) -> None:
        """Raise RunError where there is nothing left to train."""
        if self.finished:
            raise RunError(f"{self.path}: is finished; {command('evaluate', self.path)} scores it")

    def about_weights(self) -> dict[str, Any]:
        """The weights' metadata: class names, image shape, mean and standard deviation."""
        self.require_weights()
        about = files.load_metadata(self.weights_path)
        form = {"classes": [str], "shape": [int], "mean": float, "deviation": float}
        files.require(about, form, f"{self.weights_path}: metadata")
        require_origin(about, f"{self.weights_path}: metadata")
        return about

    def load_weights(
        self, expected: Mapping[str, tuple[int, ...]] | None = None
    ) -> dict[str, NDArray[Any]]:
        """The arrays of `weights.safetensors` by name; RunError unless of the `expected` shapes.

        Weights stored as whole numbers are returned as float32.
        """
        self.require_weights()
        self._weights = self.weights_path.stat()
        return read_weights(self.weights_path, expected)

    def save_logits(self, split: str, logits: NDArray[Any], labels: NDArray[Any]) -> None:
        """Write `SPLIT_logits.npz` with float32 logits (n, classes) and labels (n,)."""
        self.require_in_place()
        write_logits(self._logits_path(split), logits, labels)

    def has_logits(self, split: str) -> bool:
        """Whether the run has saved its logits of a split."""
        return self._logits_path(split).exists()

    def load_logits(self, split: str) -> tuple[NDArray[Any], NDArray[Any]]:
        """The logits (n, classes) and labels (n,) that `save_logits` wrote. Raises RunError."""
        path = self._logits_path(split)
        if not path.exists():
            self.require_weights()
            how = command("evaluate", self.path, "--split", split)
            raise RunError(f"{self.path}: was not scored on {split}; {how} does it")
        return read_logits(path, len(self.env["classes"]))

    def _logits_path(self, split: str) -> Path:
        return self.path / f"{split}_logits.npz"

    def drop_temporaries(self) -> None:
        """Remove half-written files that a killed process left. Call it only under the lock."""
        for pattern in (".*.tmp", "checkpoint/.*.tmp"):
            for path in self.path.glob(pattern):
                path.unlink(missing_ok=True)

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the run for training; the lock dies with its process. RunError if it is held."""
        refusal = f"{self.path}: another process is training this run"
        with files.held(self.path / "lock", refusal) as self._lock:
            try:
                yield
            finally:
                self._lock = None

    def require_in_place(self) -> None:
        """Raise RunError where another folder than this run's has come to stand at its path.

        The lock says so while the run is trained, its weights' file once they were loaded.
        """
        lock = os.fstat(self._lock.fileno()) if self._lock else None
        folders.require_same_files(self.path, {"lock": lock, self.weights_path.name: self._weights})

    # the ledger

    def enter_in_ledger(self, values: Mapping[str, Any], kind: str = SCORE) -> int:
        """Record a scoring of test by its kind; returns `times_opened`."""
        self.require_in_place()
        before = self.times_opened() + (kind == SCORE)
        about = {"when": now(), "run": self.name, "weights": sha256(self.weights_path)}
        self.ledger.enter({"kind": kind} | about | dict(values))
        return max(before, self.times_opened())

    def times_opened(self) -> int:
        """How often test was scored for these weights so that something could be decided on it.

        At least the number in `score.json`, as the folder may have come from beside another ledger.
        """
        recorded: int = self.scores.get("test", {}).get("times_opened") or 0
        return max(self.scorings()[SCORE], recorded)

    def scorings(self) -> dict[str, int]:
        """The ledger's lines about these weights by kind: score, verification, export."""
        return self.ledger.counts(self.name, self.weights_path, "test" in self.scores)


def _refusal(folder: Path) -> str:
    unfinished = (folder / "recipe.json").is_file() and not Run(folder).finished
    advice = f", or resume it by {resume_command(folder)}" if unfinished else ""
    return (
        f"{folder}: exists already and a run never writes into another; choose another name{advice}"
    )


def find_run(name: str | os.PathLike[str]) -> Run:
    """The run that `run_path` finds; a run itself is returned as it is."""
    return name if isinstance(name, Run) else Run(run_path(name))


def run_path(name: str | os.PathLike[str]) -> Path:
    """The run folder at a path, or of that name under `runs/`, or a path where none is.

    `latest` is the one under `runs/` that was begun last. What is no run hides none of that name.
    """
    if not os.fspath(name):
        raise RunError("expected a run folder or the name of a run, received an empty name")
    path, inside = Path(name), Path("runs") / name
    if folders.is_run(path):
        return path
    if str(name) == "latest" and (there := run_folders()):
        return max(there, key=lambda folder: str(Run(folder).env.get("created", "")))
    hidden = folders.is_run(inside) or (not os.path.lexists(path) and files.is_folder(inside))
    return inside if hidden else path


def run_folders(folder: str | os.PathLike[str] = "runs") -> list[Path]:
    """The run folders in a folder, by name. RunError for a folder that does not exist."""
    if Path(folder) != Path("runs") and not files.is_folder(folder):
        raise RunError(f"{folder}: expected a folder of runs, found none")
    return [p.parent for p in sorted(Path(folder).glob("*/recipe.json"))]
