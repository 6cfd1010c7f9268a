"""What training and sweeps show while they run: live on a terminal, plain lines elsewhere."""

import contextlib
import sys
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, TextIO

from fmnist.recipes.recipe import Recipe
from fmnist.runs.run import Run
from fmnist.system import print_message, send_nowhere

SECONDS_BETWEEN_LINES = 60.0


def clock(seconds: float) -> str:
    """`4:05` or `1:02:03`."""
    minutes, rest = divmod(round(max(seconds, 0)), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


class Progress:
    """Shows a training run on `stream` (stderr): `mode` is bar, lines, none or auto.

    Auto means a bar where the stream is a terminal and lines elsewhere.
    """

    def __init__(self, mode: str = "auto", stream: TextIO | None = None) -> None:
        self.stream = stream or sys.stderr
        self.mode = mode if mode != "auto" else "bar" if self.stream.isatty() else "lines"
        self._bar: Any = None
        self._task: Any = None

    def __enter__(self) -> "Progress":
        if self.mode == "bar":
            from rich.console import Console
            from rich.progress import BarColumn, TextColumn
            from rich.progress import Progress as Bar

            self._bar = Bar(
                TextColumn("{task.description}"),
                BarColumn(bar_width=None),
                TextColumn("{task.fields[state]}"),
                console=Console(file=self.stream),
                refresh_per_second=4,
            )
            self._bar.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._bar is not None:
            with self._if_it_can():
                self._bar.stop()
            self._bar = None

    @contextlib.contextmanager
    def _if_it_can(self) -> Iterator[None]:
        """Do without the bar once its terminal is gone: a training is worth more."""
        try:
            yield
        except OSError:
            send_nowhere(self.stream)
            self._bar, self.mode = None, "none"

    def say(self, line: str) -> None:
        """A line, above the bar where there is one."""
        if self.mode == "none":
            return
        if self._bar is not None:
            with self._if_it_can():
                self._bar.console.print(line, markup=False, highlight=False)
        else:
            print_message(line, self.stream)

    def note(self, line: str) -> None:
        """A line that is said where no progress is shown, too."""
        print_message(line, self.stream) if self.mode == "none" else self.say(line)

    def start(
        self, run: Path, recipe: Recipe, env: dict[str, Any], updates: int, done: int
    ) -> None:
        """Training begins, or goes on after `done` of its updates."""
        self.recipe, self.updates, self.first = recipe, updates, done
        self.validated = ""
        self.seconds_before: float | None = None
        divided = (
            ""
            if env["micro_batch"] >= recipe.batch_size
            else f" in micro-batches of {env['micro_batch']}"
        )
        photos = sum(each["images"] for each in env.get("photos", []))
        beside = f" and {photos:,} made with photos" if photos else ""
        self.say(
            f"training {recipe.name} ({env['parameters']:,} parameters) on "
            f"{env['data']['n']:,} images of {env['data']['name']}{beside}, {env['precision']} on "
            f"{env['device']}, batch {recipe.batch_size}{divided}, into {run}"
        )
        if done:
            self.say(f"going on after update {done} of {updates}")
        if self._bar is not None:
            with self._if_it_can():
                self._task = self._bar.add_task(
                    "compiling the update", total=updates, completed=done, state=""
                )

    def update(self, update: int, loss: float, accuracy: float, seconds: float) -> None:
        """An update is done; loss and accuracy are the epoch's running means."""
        if self.mode == "none":
            return
        if self.seconds_before is None:  # the first update compiles: not a measure of speed
            self.seconds_before, self.first, self.said = seconds, update, seconds
        epoch = f"epoch {-(-update * self.recipe.epochs // self.updates)}/{self.recipe.epochs}"
        state = f"loss {loss:.4f}  accuracy {accuracy:.2%}  {self.validated}"
        spent, count = seconds - self.seconds_before, update - self.first
        if count:
            state += f"{count * self.recipe.batch_size / spent:,.0f} img/s  "
            state += f"{clock((self.updates - update) * spent / count)} left"
        if self._bar is not None:
            with self._if_it_can():
                self._bar.update(self._task, completed=update, description=epoch, state=state)
        elif seconds - self.said >= SECONDS_BETWEEN_LINES:
            self.said = seconds
            self.say(f"{epoch}  update {update}/{self.updates}  {state}")

    def epoch(self, line: dict[str, Any]) -> None:
        """An epoch is done; `line` is what `metrics.jsonl` got."""
        if "val_accuracy" in line:
            self.validated = f"val {line['val_accuracy']:.2%}  "
        if self._bar is None:
            self.said = line["seconds"]
            left = line["seconds"] / line["update"] * (self.updates - line["update"])
            self.say(
                f"epoch {line['epoch']}/{self.recipe.epochs}  loss {line['loss']:.4f}  "
                f"accuracy {line['accuracy']:.2%}  {self.validated}"
                f"{line['images_per_second']:,.0f} img/s  {clock(line['seconds'])} spent  "
                f"{clock(left)} left"
            )

    def finish(self, run: Run) -> None:
        """Training has finished."""
        last = run.metrics()[-1]
        scoring = last["scoring_seconds"]
        self.say(
            f"trained in {clock(last['seconds'])}"
            + (f", and {clock(scoring)} for scoring val" if scoring else "")
        )
