"""`fmnist ARGUMENTS` as a process of its own, with what the variable FAULT says in JSON done to it.

folder   the run folder
event    SIGKILL before this file operation in it, counted from 1 once training has begun
count    write the number of these operations here at the end
value    what the loss of update `update` becomes, as text: nan, inf
over     memory is short for more images at once than this, at update `update`
batch    SIGKILL after this batch of val
data     where Fashion-MNIST comes from: cache, mirrors, and pins by name
stop     SIGTERM at this update
clock    the wall clock runs backwards
"""

import datetime
import functools
import itertools
import json
import os
import signal
import sys
from pathlib import Path

from fmnist.cli import main as cli

fault = json.loads(os.environ["FAULT"])
folder = os.path.realpath(fault.get("folder", "."))
EVENTS = {"open", "os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.truncate"}
seen = 0


def count(event, arguments):
    """Called by Python before each operation that it audits."""
    global seen
    if event not in EVENTS or not isinstance(arguments[0], str):
        return
    # Not Path.resolve, whose look at links would be audited in its turn.
    if not os.path.abspath(arguments[0]).startswith(folder + os.sep):  # noqa: PTH100
        return
    seen += 1
    if seen == fault.get("event"):
        os.kill(os.getpid(), signal.SIGKILL)


class Backwards(datetime.datetime):
    """A clock that goes back an hour each time that it is asked."""

    hours = 0

    @classmethod
    def now(cls, tz=None):
        cls.hours += 1
        return super().now(tz) - datetime.timedelta(hours=cls.hours)


def hurt():
    """Put the faults in, once training is about to begin."""
    from fmnist.engine import backend
    from fmnist.runs import run as runs
    from fmnist.scoring import evaluate
    from fmnist.training import progress, trainer
    from fmnist.training.update import Updater

    def shown(self, number, *arguments):
        if number == fault.get("stop"):
            os.kill(os.getpid(), signal.SIGTERM)
        show(self, number, *arguments)

    show, progress.Progress.update = progress.Progress.update, shown
    if "event" in fault or "count" in fault:
        sys.addaudithook(count)
    predict, batches = trainer.predict_logits, itertools.count(1)

    def predicted(forward, *arguments):
        def scored(images):
            logits = forward(images)
            if next(batches) == fault["batch"]:
                os.kill(os.getpid(), signal.SIGKILL)
            return logits

        return predict(scored, *arguments)

    if "batch" in fault:
        trainer.predict_logits = evaluate.predict_logits = predicted
    if "clock" in fault:
        runs.datetime = Backwards
    update = Updater.__call__

    def updated(self, index):
        logs = update(self, index)
        if int(self.number) + 1 == fault["update"]:
            if "value" in fault:
                logs["loss"] = float(fault["value"])
            if "over" in fault and (self.model.micro_batch or len(index)) > fault["over"]:
                raise SHORT[backend.name()]()
        self.number += 1
        return logs

    if "update" in fault:
        Updater.number = 0
        Updater.__call__ = updated


def short_on_tensorflow():
    import tensorflow as tf

    return tf.errors.ResourceExhaustedError(None, None, "OOM when allocating tensor")


def short_on_jax():
    import jax

    return jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating 9 bytes")


SHORT = {"tensorflow": short_on_tensorflow, "jax": short_on_jax}


def misdirect():
    """Let Fashion-MNIST come from elsewhere."""
    from fmnist.data import sources
    from fmnist.data.fashion_mnist import Pin

    where = fault["data"]
    places = {
        "cache": Path(where["cache"]),
        "system": Path(where["cache"]) / "absent",
        "apt": False,
        "mirrors": where["mirrors"],
        "pins": {name: Pin(*values) for name, values in where["pins"].items()},
    }
    sources.FIRST_BYTE_SECONDS = sources.PATIENCE_SECONDS = 3
    sources.SLOWEST = 1_000_000
    sources.obtain_set = functools.partial(sources.obtain_set, **places)


def main():
    from fmnist.training import progress

    if "data" in fault:
        misdirect()

    start = progress.Progress.start

    def started(self, *arguments):
        if not getattr(progress, "hurt", False):
            progress.hurt = True
            hurt()
        start(self, *arguments)

    progress.Progress.start = started
    try:
        cli.main()
    finally:
        if "count" in fault:
            Path(fault["count"]).write_text(str(seen))


if __name__ == "__main__":
    main()
