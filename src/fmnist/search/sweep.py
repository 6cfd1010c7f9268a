"""Search over recipes: Optuna proposes, every trial is a training process with its own run folder.

A sweep's folder holds `sweep.json` (what is searched), `base.json` (the recipe it starts from),
`journal.log` (Optuna's storage, unless another was asked for), `trials/NNNN`, the run folders, and
`trials/NNNN.txt`, the messages of their processes. The storage learns of a trial before its process
starts, and of its result once it has ended. So a sweep that was stopped resumes the trial that ran
then from its run folder: none is lost and none is done twice.

A sweep scores val only, never test.
"""

import contextlib
import os
import shutil
import sys
import time
import uuid
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from subprocess import Popen
from typing import IO, Any, NoReturn

import optuna
from optuna.trial import Trial, TrialState

from fmnist import files
from fmnist.errors import FmnistError, RunError
from fmnist.recipes.recipe import Recipe
from fmnist.recipes.text import settings
from fmnist.runs.commands import command
from fmnist.runs.folders import make_folder, require_plain_files
from fmnist.runs.run import Run, now
from fmnist.search import repeats, space, trial_process
from fmnist.search.outcome import Rows, refusal, row_of, train_command
from fmnist.search.study import (
    JOURNAL,
    mend_journal,
    open_study,
    read_about,
    reason,
    successive_halving,
    trials_of,
)
from fmnist.signals import Interrupted, stop_signals

SCHEMA = 1
POLL_SECONDS = 0.3
PRUNED = "pruned: behind other trials at the same epoch"
HOPELESS = 3  # trials that fail before any succeeds: then something else is wrong


class Sweep:
    """A sweep's folder. `Sweep(path)` opens one; `Sweep.create` makes one. Raises RunError."""

    def __init__(self, path: str | os.PathLike[str], *, new: bool = False) -> None:
        self.path = Path(path)
        if not (self.path / "sweep.json").is_file():
            raise RunError(f"{self.path}: expected a sweep (with a sweep.json), found none")
        # Optuna's own lock is a link, which `mend_journal` takes away.
        require_plain_files(self.path, ("*", "trials/*"), apart=(f"{JOURNAL}.lock",))
        self.about = read_about(self.path / "sweep.json", SCHEMA)
        self.recipe = Recipe.from_json(files.read_json(self.path / "base.json"))
        self.space = space.parse_over(self.about["over"], self.recipe)
        prunes = self.about["prune"] and "epochs" not in self.space
        self.study = open_study(
            self.path,
            self.about["storage"],
            self.about["study"],
            successive_halving(self.recipe.epochs) if prunes else optuna.pruners.NopPruner(),
            new,
        )

    @classmethod
    def create(
        cls,
        path: str | os.PathLike[str] | None,
        recipe: Recipe,
        over: Iterable[str],
        *,
        data: str = "",
        storage: str = "",
        seed: int = 0,
        prune: bool = True,
        log: Iterable[str] = (),
    ) -> "Sweep":
        """A new sweep over a recipe.

        Args:
            path: the folder to make; None makes up a name under `sweeps/`.
            recipe: the recipe to start from. Its own values are the first trial if the search
                includes them.
            over: see `space.parse_over`.
            data: the data's folder, as for `fmnist train --data`; empty for Fashion-MNIST.
            storage: a storage URL of Optuna's, such as sqlite:///sweeps.db; empty for a file.
            seed: seed of the proposals.
            prune: stop trials early that are worse than others at the same epoch.
            log: trackers that follow each trial, as for `fmnist train --log`.
        """
        over = list(over)
        space.parse_over(over, recipe)
        asked = Path(path) if path is not None else None
        folder = make_folder(
            asked, "sweeps", recipe.name, refusal, lambda folder: (folder / "trials").mkdir()
        )
        files.write_json(folder / "base.json", recipe.to_json())
        files.write_json(
            folder / "sweep.json",
            {
                "schema": SCHEMA,
                "created": now(),
                "command": sys.argv,
                "over": over,
                "seed": seed,
                "prune": prune,
                "data": data,
                "storage": storage,
                "log": list(log),
                # Another sweep may have the same name and storage, and a folder may be renamed.
                "study": f"{folder.resolve().name} {uuid.uuid4()}",
                "backend": os.environ.get("KERAS_BACKEND", "tensorflow"),
            },
        )
        try:
            return cls(folder, new=True)
        except RunError:
            shutil.rmtree(folder)
            raise

    def folder_of(self, number: int) -> Path:
        """The run folder of a trial."""
        return self.path / "trials" / f"{number:04}"

    def rows(self) -> Rows:
        """All trials: number, state, val accuracy, epochs done, seconds, values, run, reason.

        `val` of a finished run is scored with the recipe's views. Of any other trial it is the last
        epoch's accuracy with one view. A trial of values that an earlier one had has no row.
        """
        trials = trials_of(self.study, self.path)
        return [
            row_of(trial, self.space, self.folder_of(trial.number))
            for trial in trials
            if not repeats.is_repeated(trial)
        ]

    def search(
        self,
        trials: int,
        minutes: float = float("inf"),
        show: Callable[[Rows], object] = lambda rows: None,
    ) -> None:
        """Run trials until `trials` have ended, `minutes` have passed or all values were tried.

        A trial that has started is finished. `show` gets the rows whenever they change.
        Raises RunError where another process is at work on the sweep, Interrupted after a stopping
        signal (the trial then keeps a checkpoint), FmnistError where every trial fails.
        """
        end = time.monotonic() + 60 * minutes
        with self.at_work() as (held, stop):
            while trial := self.next_trial(trials, end):
                self._do(trial, held, stop, show)

    @contextlib.contextmanager
    def at_work(self) -> Iterator[tuple[IO[str], list[int]]]:
        """Hold the sweep: its lock and the stopping signals that came. Raises as `search` does."""
        lock = self.path / "lock"
        refusal = f"{self.path}: another process runs this sweep, or a trial that it left"
        with files.held(lock, f"{refusal} is still training") as held, stop_signals() as stop:
            try:
                if not self.about["storage"]:
                    mend_journal(self.path)
                yield held, stop
            except (OSError, optuna.exceptions.OptunaError) as error:
                raise RunError(
                    f"{self.path}: could not be written ({reason(error)}); go on by: "
                    f"{self._resume_command()}"
                ) from error

    def next_trial(self, trials: int, end: float, busy: Collection[int] = ()) -> Trial | None:
        """A trial that was at work when the sweep was cut off, else a new one, else None.

        The trials that are `busy`, by number, are at work now.
        """
        there = self.study.get_trials(deepcopy=False)
        for frozen in there:
            if frozen.state == TrialState.RUNNING and frozen.number not in busy:
                known = repeats.twin(self.study, frozen.params, frozen.number)
                if known and known.state.is_finished() and not self._run(frozen.number):
                    repeats.answer(self.study, Trial(self.study, frozen._trial_id), known)
                    continue  # cut off before its answer
                self._sample_as(frozen.number)
                trial = Trial(self.study, frozen._trial_id)  # which has no public name
                break
        else:
            ended = sum(t.state.is_finished() and not repeats.is_repeated(t) for t in there)
            if ended + len(busy) >= trials or time.monotonic() >= end:
                return None
            if not there and (first := space.own_values(self.space, self.recipe)):
                self.study.enqueue_trial(first)
            return repeats.new_trial(self.study, self.space, self._sample_as, self.about["seed"])
        for name, distribution in self.space.items():
            space.propose(trial, name, distribution)
        return trial

    @property
    def is_exhausted(self) -> bool:
        """Whether every combination of values has been tried."""
        return repeats.untried(self.study, self.space) == []

    def _sample_as(self, number: int) -> None:
        """Proposals by seed and trial alone, so that a resumed sweep repeats none."""
        seed = (self.about["seed"] * 100_003 + number) % 2**32
        # Trials that are at work meanwhile count as bad, so that several do not try the same.
        self.study.sampler = optuna.samplers.TPESampler(seed=seed, constant_liar=True)

    def _do(
        self, trial: Trial, held: IO[str], stop: list[int], show: Callable[[Rows], object]
    ) -> None:
        """Train a trial to its end, and tell the storage what became of it."""
        folder = self.folder_of(trial.number)
        show(self.rows())
        pruned = self._is_behind(trial)  # decided already, where the sweep was cut off then
        with self._training(trial, folder, held, pruned) as started:
            while started and started.poll() is None and not stop and not pruned:
                time.sleep(POLL_SECONDS)
                pruned = self._report(trial, show)
        run = self._run(trial.number)
        if stop and not pruned and not (run and run.finished):
            self.interrupted(stop, [trial.number])
        self.finish(trial, started.returncode if started else 0, show)

    def _run(self, number: int) -> Run | None:
        folder = self.folder_of(number)
        return Run(folder) if (folder / "recipe.json").exists() else None

    def interrupted(self, stop: Sequence[int], numbers: Sequence[int]) -> NoReturn:
        """Raise Interrupted, after a stopping signal, for the trials that were running."""
        where = f" in trial {', '.join(map(str, numbers))}" if numbers else ""
        raise Interrupted(stop[0], f"stopped{where}; go on by: {self._resume_command()}")

    def needs_training(self, trial: Trial) -> bool:
        """Whether a trial is not known to be behind, and its run not finished."""
        run = self._run(trial.number)
        return not trial.user_attrs.get("pruned") and not (run and run.finished)

    def words_of(self, trial: Trial) -> list[str]:
        """The options of `fmnist train` that make a trial of the sweep's recipe."""
        data = ["--data", self.about["data"]] if self.about["data"] else []
        return settings(trial.params) + data + [f"--log={name}" for name in self.about["log"]]

    def finish(self, trial: Trial, code: int, show: Callable[[Rows], object]) -> None:
        """Tell the storage what became of a trial whose process has ended with `code`.

        Raises FmnistError where all trials fail.
        """
        run = self._run(trial.number)
        # Epochs that ended between two looks are looked at in their order, whenever that was.
        pruned = trial.user_attrs.get("pruned") or self._report(trial, show)
        if run and run.metrics():
            trial.set_user_attr("seconds", run.metrics()[-1]["seconds"])
        if pruned:
            if run and not run.finished:
                run.change_env(ended={"when": now(), "why": PRUNED})
            self.study.tell(trial, state=TrialState.PRUNED)
        elif run and run.finished and "val" in run.scores:
            self.study.tell(trial, run.scores["val"]["accuracy"])
        else:
            trial_process.require_room(self.path)  # a full disk is no fault of the trial's values
            said = self.folder_of(trial.number).with_suffix(".txt")
            why = trial_process.why_it_failed(said, code)
            if code == RunError.exit_code:
                raise OSError(f"trial {trial.number}: {why}")
            trial.set_user_attr("reason", why)
            trial.set_user_attr(repeats.BY_VALUES, code in trial_process.BY_VALUES)
            self.study.tell(trial, state=TrialState.FAIL)
        if run and not run.finished:
            run.checkpoints.drop()
        show(self.rows())
        ended = [row for row in self.rows() if row["state"] != "running"]
        if len(ended) >= HOPELESS and all(row["state"] == "failed" for row in ended):
            raise FmnistError(
                f"{self.path}: every trial so far failed; the last: {ended[-1]['reason']}"
            )

    @contextlib.contextmanager
    def _training(
        self, trial: Trial, folder: Path, held: IO[str], pruned: bool
    ) -> Iterator["Popen[bytes] | None"]:
        """The trial's process, which ends with the block; None where there is nothing to train."""
        if pruned:
            yield None
            return
        if not (folder / "recipe.json").exists():  # what is there was cut off before it began
            shutil.rmtree(folder, ignore_errors=True)
            words = ["train", str(self.path.absolute() / "base.json"), "--run", str(folder)]
            words += self.words_of(trial)
        elif Run(folder).finished:
            yield None
            return
        else:
            words = ["train", "--resume", str(folder)]
        backend, said = self.about["backend"], folder.with_suffix(".txt")
        with trial_process.training(words, backend, said, held) as started:
            yield started

    def _report(self, trial: Trial, show: Callable[[Rows], object]) -> bool:
        """Report the epochs that are new; whether the trial is to be pruned."""
        if not (run := self._run(trial.number)):
            return False
        known = self.study.get_trials(deepcopy=False)[trial.number].intermediate_values
        for line in run.metrics():
            if "epoch" not in line or "val_accuracy" not in line or line["epoch"] in known:
                continue
            trial.report(line["val_accuracy"], line["epoch"])
            show(self.rows())
            if self._is_behind(trial):
                return True
        return False

    def _is_behind(self, trial: Trial) -> bool:
        """Whether the trial is to be pruned at the last epoch that was reported.

        Optuna answers once for a rung, so that a yes is noted: a sweep may be cut off before the
        trial's process has ended.
        """
        if trial.user_attrs.get("pruned"):
            return True
        steps = self.study.get_trials(deepcopy=False)[trial.number].intermediate_values
        # With its last epoch a trial is done. Where epochs differ nothing is pruned.
        behind = bool(steps) and max(steps) < self.recipe.epochs and trial.should_prune()
        if behind:
            trial.set_user_attr("pruned", True)
        return behind

    def _resume_command(self) -> str:
        return command("sweep", "--resume", self.path)

    def best(self) -> dict[str, Any] | None:
        """The row of the complete trial with the highest val accuracy; None where there is none."""
        complete = [row for row in self.rows() if row["state"] == "complete"]
        return max(complete, key=lambda row: row["val"], default=None)

    def command_for(self, row: Mapping[str, Any]) -> str:
        """The command that trains a trial's recipe on all images and scores it on test."""
        return train_command(self.recipe, row, self.about["data"], self.about["backend"])
