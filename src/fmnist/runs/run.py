"""The run folder and the ledger: everything that a report or a comparison needs, written safely.

A run folder holds `recipe.json`, `env.json`, `metrics.jsonl`, `checkpoint/` while training goes on,
then `weights.safetensors`, `val_logits.npz`, `test_logits.npz` and `score.json`. The ledger,
`ledger.jsonl` beside the run folders, gets a line each time a test split is scored.

Files appear whole or not at all: see `files`.
"""

import contextlib
import json
import os
import shlex
import shutil
import zipfile
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fmnist import files
from fmnist.errors import RunError
from fmnist.files import (
    append_line,
    load_arrays,
    read_json,
    read_lines,
    save_arrays,
    sha256,
    write_json,
    write_whole,
)
from fmnist.runs.commands import command, resume_command
from fmnist.runs.forms import CHECKPOINT, ENV, ENV_OPTIONAL, EPOCH, LIMITS, METRICS, SCORE

SCHEMA = 1
Arrays = Mapping[str, NDArray[Any]]
LEDGER = "ledger.jsonl"
SCALE = ".scale"  # ends the name of the scales of an array stored as whole numbers
KEPT_CHECKPOINTS = 2
LARGEST_LOGITS = 2**30  # bytes, unpacked


def now() -> str:
    """The time in UTC, ISO 8601 to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")


class Run:
    """A run folder. `Run(path)` opens one; `Run.create` makes one. Raises RunError."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        if not (self.path / "recipe.json").is_file():
            expected = "a run folder (with a recipe.json)"
            raise RunError(f"{self.path}: expected {expected}, found none; see fmnist runs")
        inside = self.path.resolve()
        for entry in (*self.path.glob("*"), *self.path.glob("checkpoint/*")):
            if entry.is_symlink() and not entry.resolve().is_relative_to(inside):
                raise RunError(f"{entry}: expected a file, found a link out of the run folder")
            if not entry.is_file() and not entry.is_dir() and entry.exists():
                raise RunError(f"{entry}: expected a file, found a pipe or device")

    @classmethod
    def create(
        cls,
        path: str | os.PathLike[str] | None,
        recipe: Mapping[str, Any],
        env: Mapping[str, Any],
        fill: Callable[[Path], object] = lambda folder: None,
    ) -> "Run":
        """A new folder with `recipe.json` and `env.json`; a name is made up where none is given.

        Refuses a folder that exists, unless it is empty. `fill` writes into it what else a run
        needs that is not trained; where that fails, no folder is left.
        """
        stamp = datetime.now(UTC).strftime("%Y%m%d-%H%M%S")
        first = Path("runs") / f"{stamp}-{recipe.get('name', 'run')}"
        folder, count = Path(path) if path is not None else first, 1
        try:
            while path is None and folder.exists():
                count += 1
                folder = first.with_name(f"{first.name}-{count}")
            if path is not None:
                cls.refuse_existing(folder)
            folder.mkdir(parents=True, exist_ok=path is not None)
            (folder / "lock").touch(exist_ok=False)  # of two that start at once, one gets it
        except FileExistsError:
            if path is None:
                return cls.create(None, recipe, env)
            raise _exists(folder) from None
        except OSError as error:
            raise RunError(f"{folder}: could not be made ({error.strerror or error})") from error
        # The recipe comes last, since a folder with a recipe is a run.
        try:
            fill(folder)
        except BaseException:
            shutil.rmtree(folder, ignore_errors=True)
            raise
        write_json(folder / "env.json", {"schema": SCHEMA} | dict(env))
        write_json(folder / "recipe.json", recipe)
        return cls(folder)

    @staticmethod
    def refuse_existing(path: str | os.PathLike[str]) -> None:
        """Raise RunError where `create` would for a folder that is there and not empty."""
        folder = Path(path)
        if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
            raise _exists(folder)

    def __fspath__(self) -> str:
        """So that whatever takes a run's path takes a run."""
        return str(self.path)

    def __repr__(self) -> str:
        return f"Run({str(self.path)!r})"

    @property
    def name(self) -> str:
        """The folder's name."""
        return self.path.resolve().name

    @property
    def recipe(self) -> dict[str, Any]:
        """`recipe.json` as an object; `Recipe.from_json` makes a recipe of it."""
        return read_json(self.path / "recipe.json")

    @property
    def env(self) -> dict[str, Any]:
        """`env.json`: versions, device, precision, data hash, and what else the result rests on."""
        env = read_json(self.path / "env.json")
        path = self.path / "env.json"
        optional = {k: form for k, form in ENV_OPTIONAL.items() if env.get(k) is not None}
        files.require(env, ENV | optional, path)
        files.require(env["data"].get("folder", ""), str, f"{path}: data: folder")
        files.require(list(env["versions"].values()), [str], f"{path}: versions")
        for key, limit in LIMITS.items():
            if not 1 <= env[key] <= limit:
                raise RunError(f"{path}: {key}: expected 1 to {limit:,}, found {env[key]}")
        return env

    def change_env(self, **values: Any) -> None:
        """Write `env.json` anew with some values changed."""
        write_json(self.path / "env.json", self.env | values)

    @property
    def scores(self) -> dict[str, Any]:
        """`score.json`: the latest score by split, empty before the first."""
        path = self.path / "score.json"
        scores = read_json(path) if path.exists() else {}
        for split, score in scores.items():
            if split not in ("val", "test"):
                raise RunError(f"{path}: expected scores of val and test, found {split!r}")
            files.require(score, SCORE, f"{path}: {split}")
            files.require(score.get("times_opened") or 0, int, f"{path}: {split}: times_opened")
            sizes = {len(score["confusion"]), *map(len, score["confusion"])}
            if sizes != {len(score["per_class"])} or len(score["interval"]) != 2:
                raise RunError(f"{path}: {split}: confusion, classes or interval do not fit")
        return scores

    @property
    def finished(self) -> bool:
        """Whether training went through and the weights are there."""
        return self.weights_path.exists()

    @property
    def weights_path(self) -> Path:
        """The file of the resulting weights."""
        return self.path / "weights.safetensors"

    @property
    def ledger_path(self) -> Path:
        """The ledger, beside the run folders."""
        return self.path.resolve().parent / LEDGER

    # metrics

    def metrics(self) -> list[dict[str, Any]]:
        """The lines of `metrics.jsonl`, one an epoch, oldest first."""
        path = self.path / "metrics.jsonl"
        lines = read_lines(path)
        for line in lines:
            files.require(line, METRICS | (EPOCH if "epoch" in line else {}), path)
            files.require(line.get("val_accuracy", 0), float, f"{path}: val_accuracy")
        return lines

    def append_metrics(self, values: Mapping[str, Any]) -> None:
        """Append a line to `metrics.jsonl`."""
        append_line(self.path / "metrics.jsonl", values)

    def keep_metrics(self, until: int) -> None:
        """Drop the lines after update number `until`, from which training is resumed."""
        kept = [line for line in self.metrics() if line.get("update", 0) <= until]
        text = "".join(json.dumps(line) + "\n" for line in kept)
        write_whole(self.path / "metrics.jsonl", lambda p: p.write_text(text, encoding="utf-8"))

    # weights, scores

    def save_weights(self, weights: Arrays, about: Mapping[str, Any]) -> None:
        """Write `weights.safetensors`; `about` goes into its metadata as JSON."""
        save_arrays(self.weights_path, weights, {"about": json.dumps(about, ensure_ascii=False)})

    def require_weights(self) -> None:
        """Raise RunError where training has not finished."""
        if not self.finished and self.weights_path.with_name("weights.safetensors.000").exists():
            whole = shlex.quote(str(self.weights_path))
            joining = f"cat {whole}.??? > {whole}"
            raise RunError(f"{self.path}: has its weights in parts; join them by: {joining}")
        if not self.finished and (self.path / "results.jsonl").exists():
            raise RunError(f"{self.path}: is a record whose weights were too large to keep")
        if not self.finished:
            raise RunError(
                f"{self.path}: has no weights yet; finish it by {resume_command(self.path)}"
            )

    def require_unfinished(self) -> None:
        """Raise RunError where there is nothing left to train."""
        if self.finished:
            raise RunError(f"{self.path}: is finished; {command('evaluate', self.path)} scores it")

    def about_weights(self) -> dict[str, Any]:
        """What is written about the weights: class names, image shape, mean and deviation."""
        self.require_weights()
        about = files.load_metadata(self.weights_path)
        form = {"classes": [str], "shape": [int], "mean": float, "deviation": float}
        files.require(about, form, f"{self.weights_path}: metadata")
        return about

    def load_weights(
        self, expected: Mapping[str, tuple[int, ...]] | None = None
    ) -> dict[str, NDArray[Any]]:
        """The arrays of `weights.safetensors` by name; RunError unless of the `expected` shapes.

        Of what is stored as whole numbers each array comes with its channels' scales, and is
        returned as float32.
        """
        self.require_weights()
        scaled = files.load_metadata(self.weights_path).get("storage") == "int8"
        if scaled and expected is not None:
            scales = {n + SCALE: s[-1:] for n, s in expected.items() if len(s) > 1}
            expected = {**expected, **scales}
        arrays = load_arrays(self.weights_path, expected, ("F32", "I8" if scaled else "F16"))
        if scaled:
            for name in [name for name in arrays if name.endswith(SCALE)]:
                scale, kernel = arrays.pop(name), name.removesuffix(SCALE)
                if kernel not in arrays:
                    raise RunError(f"{self.weights_path}: a scale of no array, {name!r}")
                arrays[kernel] = arrays[kernel].astype(np.float32) * scale
        return arrays

    def save_logits(self, split: str, logits: NDArray[Any], labels: NDArray[Any]) -> None:
        """Write `SPLIT_logits.npz` with float32 logits (n, classes) and labels (n,)."""

        def write(path: Path) -> None:
            with path.open("wb") as file:
                np.savez_compressed(file, logits=logits, labels=labels)

        write_whole(self._logits_path(split), write)

    def has_logits(self, split: str) -> bool:
        """Whether the run was scored on a split and has kept its logits."""
        return self._logits_path(split).exists()

    def load_logits(self, split: str) -> tuple[NDArray[Any], NDArray[Any]]:
        """The logits (n, classes) and labels (n,) that `save_logits` wrote. Raises RunError."""
        path = self._logits_path(split)
        if not path.exists():
            how = command("evaluate", self.path, "--split", split)
            raise RunError(f"{self.path}: was not scored on {split}; {how} does it")
        try:
            with zipfile.ZipFile(path) as parts:
                if sum(part.file_size for part in parts.infolist()) > LARGEST_LOGITS:
                    raise ValueError(f"more than {LARGEST_LOGITS:,} bytes unpacked")
            with np.load(path, allow_pickle=False) as arrays:
                logits, labels = arrays["logits"], arrays["labels"]
        except Exception as error:  # a damaged archive raises nearly anything, MemoryError too
            raise RunError(f"{path}: expected logits and labels ({error})") from None
        shape = (labels.size, len(self.env["classes"]))
        if logits.dtype != np.float32 or logits.shape != shape or not np.isfinite(logits).all():
            raise RunError(f"{path}: expected finite float32 logits for {shape[1]} classes")
        within = labels.dtype.kind in "iu" and labels.ndim == 1 and labels.size
        if not within or labels.min() < 0 or labels.max() >= shape[1]:
            raise RunError(f"{path}: expected labels from 0 to {shape[1] - 1}")
        return logits, labels

    def _logits_path(self, split: str) -> Path:
        return self.path / f"{split}_logits.npz"

    def save_score(self, split: str, score: Mapping[str, Any]) -> None:
        """Put a split's score into `score.json`."""
        write_json(self.path / "score.json", self.scores | {split: dict(score)})

    # checkpoints

    def save_checkpoint(self, update: int, arrays: Arrays, about: Mapping[str, Any]) -> None:
        """Keep the whole training state after `update` updates, and drop all but the newest two.

        The manifest, which holds the file's SHA-256, is written last: without it there is none.
        """
        folder = self.path / "checkpoint"
        try:
            folder.mkdir(exist_ok=True)
        except OSError as error:
            raise RunError(f"{folder}: could not be made ({error.strerror or error})") from error
        file = folder / f"{update:09}.safetensors"
        about = {"schema": SCHEMA, "update": update} | dict(about)
        save_arrays(file, arrays, {"about": json.dumps(about)})
        write_json(file.with_suffix(".json"), {"schema": SCHEMA, "sha256": sha256(file)})
        for old in sorted(folder.glob("*.safetensors"))[:-KEPT_CHECKPOINTS]:
            old.with_suffix(".json").unlink(missing_ok=True)
            old.unlink(missing_ok=True)

    def load_checkpoint(
        self,
        report: Callable[[str], object] = print,
        expected: Mapping[str, tuple[int, ...]] | None = None,
    ) -> tuple[dict[str, NDArray[Any]], dict[str, Any]] | None:
        """The newest checkpoint that is whole, as (arrays, about them); None where there is none.

        What is said about the arrays is `save_checkpoint`'s `about`, with schema and update. Each
        checkpoint that is not whole, or not of the `expected` shapes, gets a line through `report`.
        """
        for path in sorted((self.path / "checkpoint").glob("*.json"), reverse=True):
            file = path.with_suffix(".safetensors")
            try:
                if sha256(file) != read_json(path).get("sha256"):
                    raise RunError(f"{file}: does not match its manifest")
                about = {"seconds": 0.0, "scoring_seconds": 0.0} | files.load_metadata(file)
                files.require(about, CHECKPOINT, f"{file}: metadata")
                if f"{about['update']:09}" != path.stem:
                    raise RunError(f"{file}: says that it is of update {about['update']}")
                return load_arrays(file, expected), about
            except (OSError, RunError) as error:
                report(f"checkpoint skipped: {error}")
        return None

    def drop_temporaries(self) -> None:
        """Remove half-written files that a killed process left. Only while the run is held."""
        for pattern in (".*.tmp", "checkpoint/.*.tmp"):
            for path in self.path.glob(pattern):
                path.unlink(missing_ok=True)

    def drop_checkpoints(self) -> None:
        """Remove the checkpoints of a finished run."""
        shutil.rmtree(self.path / "checkpoint", ignore_errors=True)

    def locked(self) -> contextlib.AbstractContextManager[object]:
        """Hold the run for training; the lock dies with its process. RunError if it is held."""
        return files.held(self.path / "lock", f"{self.path}: another process is training this run")

    def named_by(self, records: Path = Path("records")) -> Path | None:
        """The ledger or the record that names this run or its weights; None where there is none."""
        if (self.path / "results.jsonl").exists():  # it is a record itself
            return self.path / "results.jsonl"
        weights = sha256(self.weights_path) if self.finished else None
        if any(
            line.get("run") == self.name or (weights and line.get("weights") == weights)
            for line in read_lines(self.ledger_path)
        ):
            return self.ledger_path
        for path in sorted(records.glob("*/results.jsonl")) if weights else []:
            if any(line.get("weights_sha256") == weights for line in read_lines(path)):
                return path
        return None

    def require_deletable(self) -> None:
        """Raise RunError where the run is evidence, or a link."""
        if self.path.is_symlink():
            raise RunError(f"{self.path}: expected a run folder, found a link; nothing was deleted")
        named = self.named_by()
        if named:
            raise RunError(f"{self.path}: is named in {named}, so it stays; nothing was deleted")

    def delete(self) -> None:
        """Remove the folder: out of sight in one step, then its files. RunError if it must stay."""
        with self.locked():
            self.require_deletable()  # now that no training can finish meanwhile
            folder = self.path.resolve()
            hidden = folder.with_name(f".{folder.name}.deleted-{os.getpid()}")
            try:
                folder.rename(hidden)
                shutil.rmtree(hidden)
            except OSError as error:
                raise RunError(f"{self.path}: could not be deleted ({error.strerror})") from error

    # the ledger

    def enter_in_ledger(self, values: Mapping[str, Any]) -> int:
        """Note that the test split was scored; returns how often it has been for these weights."""
        before = self.times_opened()
        entry = {"when": now(), "run": self.name, "weights": sha256(self.weights_path)}
        append_line(self.ledger_path, entry | dict(values))
        return max(before + 1, self.times_opened())

    def times_opened(self) -> int:
        """How often the test split was scored for these weights.

        By the ledger, under whatever name, but at least as often as `score.json` says, since the
        folder may have come from beside another ledger.
        """
        lines = read_lines(self.ledger_path)
        if not lines and "test" not in self.scores:
            return 0
        weights = sha256(self.weights_path) if self.finished else None
        noted = sum(1 for line in lines if line.get("weights") == weights)
        return max(noted, self.scores.get("test", {}).get("times_opened") or 0)


def _exists(folder: Path) -> RunError:
    unfinished = (folder / "recipe.json").is_file() and not Run(folder).finished
    advice = f", or go on with it by {resume_command(folder)}" if unfinished else ""
    return RunError(
        f"{folder}: exists already and a run never writes into another; choose another name{advice}"
    )


def find_run(name: str | os.PathLike[str]) -> Run:
    """The run at a path, or of that name under `runs/`."""
    inside = Path("runs") / name
    return Run(inside if not Path(name).exists() and inside.is_dir() else name)


def run_folders(folder: str | os.PathLike[str] = "runs") -> list[Path]:
    """The run folders in a folder, by name. RunError where a folder that is named is not there."""
    if Path(folder) != Path("runs") and not Path(folder).is_dir():
        raise RunError(f"{folder}: expected a folder of runs, found none")
    return [p.parent for p in sorted(Path(folder).glob("*/recipe.json"))]
