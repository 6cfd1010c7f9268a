"""`fmnist ARGUMENTS` as a process of its own, with what the variable FAULT says in JSON done to it.

folder   the run folder
event    SIGKILL before this file operation in it, counted from 1 once training has begun
count    write the number of these operations here at the end
value    what the loss of update `update` becomes, as text: nan, inf
over     memory is short for more images at once than this, at update `update`
stop     SIGTERM at this update
clock    the wall clock runs backwards
"""

import datetime
import json
import os
import signal
import sys
from pathlib import Path

from fmnist import cli

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
    from fmnist import backend, microbatch, progress, runs

    def shown(self, number, *arguments):
        if number == fault.get("stop"):
            os.kill(os.getpid(), signal.SIGTERM)
        show(self, number, *arguments)

    show, progress.Progress.update = progress.Progress.update, shown
    if "event" in fault or "count" in fault:
        sys.addaudithook(count)
    if "clock" in fault:
        runs.datetime = Backwards
    update = microbatch.Updater.__call__

    def updated(self, images, labels):
        logs = update(self, images, labels)
        if int(self.number) + 1 == fault["update"]:
            if "value" in fault:
                logs["loss"] = float(fault["value"])
            if "over" in fault and (self.model.micro_batch or len(images)) > fault["over"]:
                raise SHORT[backend.name()]()
        self.number += 1
        return logs

    if "update" in fault:
        microbatch.Updater.number = 0
        microbatch.Updater.__call__ = updated


def short_on_tensorflow():
    import tensorflow as tf

    return tf.errors.ResourceExhaustedError(None, None, "OOM when allocating tensor")


def short_on_jax():
    import jax

    return jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating 9 bytes")


SHORT = {"tensorflow": short_on_tensorflow, "jax": short_on_jax}


def main():
    from fmnist import progress

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
