"""Data parallel over devices, processes and machines, by JAX's multi-controller runtime.

Every process runs the same program on the same data. The state of training lies on every device,
each micro-batch is divided among the devices of all processes, and XLA sums over them whatever is a
sum over images: gradients, batch statistics, metrics. So the result is that of one process but for
rounding. Process 0 alone writes and prints.

`keras.distribution` would make every variable an array of all processes, with which none can then
compute alone, be it to score or to save. Here only the state inside the update step is one.
"""

import contextlib
import functools
import json
import os
import re
import sys
import time
import traceback
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fmnist.engine import backend
from fmnist.errors import FmnistError, UsageError
from fmnist.signals import Interrupted

if backend.name() == "jax":
    import jax
    from jax.experimental import multihost_utils
    from jax.sharding import Mesh, NamedSharding, PartitionSpec


HEARTBEAT_SECONDS = 30  # a process that is silent for so long counts as dead
START_SECONDS = 300  # for which a process waits until all the others are there
AGREE_EVERY = 8  # updates from one look at whether any process was told to stop to the next
# How JAX words the failure of a collective operation, after which there is no going on.
_LOST = r"(UNKNOWN|UNAVAILABLE|ABORTED|INTERNAL|CANCELLED|DEADLINE_EXCEEDED|FAILED_PRECONDITION):"
_active = False


def initialise(
    coordinator: str | None = None, processes: int | None = None, process: int | None = None
) -> bool:
    """Connect to the other processes; returns whether this is process 0, which writes and prints.

    Call it once in each process, before the engine's first computation.

    Args:
        coordinator: HOST:PORT of process 0, on which it then listens.
        processes, process: the number of processes, and the number of this one, from 0.

    Without arguments they come from the environment of SLURM, Open MPI, Kubernetes or a TPU pod
    (see `jax.distributed.initialize`). Without such an environment this process uses all devices of
    the machine, if there are several. Raises UsageError for invalid arguments or a single device,
    FmnistError where the processes cannot connect.
    """
    global _active
    given = [value is not None for value in (coordinator, processes, process)]
    if backend.name() != "jax":
        raise UsageError(
            f"--distributed: expected JAX, received {backend.name()}; set KERAS_BACKEND=jax"
        )
    if any(given) and not all(given):
        raise UsageError(
            "--coordinator, --num-processes and --process-id: expected all three or none"
        )
    if processes is not None and not 0 <= (process or 0) < processes:
        raise UsageError(f"--process-id: expected 0 to {processes - 1}, received {process}")
    if coordinator is not None and not re.fullmatch(r".+:\d{1,5}", coordinator):
        raise UsageError(f"--coordinator: expected HOST:PORT, received {coordinator!r}")
    if jax.distributed.is_initialized():
        raise UsageError("--distributed: this process is connected already; call initialise once")
    # Stopping by signal is ours; JAX's own handler would take SIGTERM away.
    jax.config.update("jax_enable_preemption_service", False)  # type: ignore[no-untyped-call]
    jax.config.update("jax_cpu_collectives_implementation", "gloo")  # type: ignore[no-untyped-call]
    try:
        jax.distributed.initialize(
            coordinator,
            processes,
            process,
            cluster_detection_method="deactivate" if all(given) else None,
            initialization_timeout=START_SECONDS,
            heartbeat_timeout_seconds=HEARTBEAT_SECONDS,
        )
    except ValueError as error:
        if "should be defined" not in str(error) and "must be defined" not in str(error):
            raise
        if len(jax.devices()) == 1:
            raise UsageError(
                "--distributed: expected SLURM, mpirun or Kubernetes, or several devices, found "
                "none; give --coordinator HOST:PORT --num-processes N --process-id I"
            ) from None
    except RuntimeError as error:
        raise FmnistError(
            f"--distributed: the processes could not connect ({_first_line(error)})"
        ) from None
    _active = True
    return first()


def first() -> bool:
    """Whether this process is the one that writes and prints."""
    return not _active or jax.process_index() == 0


def processes() -> int:
    """How many processes train together."""
    return jax.process_count() if _active else 1


def devices() -> int:
    """The number of devices that share a batch."""
    return _mesh().size if _active else 1


@functools.cache
def _mesh() -> Any:
    """The devices in training: all of all processes, or the engine's first."""
    return Mesh(np.array(jax.devices() if _active else jax.devices()[:1]), ("batch",))


def sharding(*axes: str) -> Any:
    """The sharding of an array that every device holds whole, or divided over `axes`."""
    return NamedSharding(_mesh(), PartitionSpec(*axes))  # type: ignore[no-untyped-call]


def give_to_all(array: Any) -> Any:
    """An array, the same in all processes, on every device; where it lies already it is no copy."""
    whole = sharding()
    parts = [jax.device_put(array, device) for device in whole.addressable_devices]
    return jax.make_array_from_single_device_arrays(array.shape, whole, parts)


def divide(array: Any) -> Any:
    """Inside a compiled function: the array, its first axis divided among the devices.

    Where that does not come out even, as it may for the last batch of an epoch, each does it all.
    """
    if array is None or devices() == 1:
        return array
    axes = () if array.shape[0] % devices() else ("batch",)
    return jax.lax.with_sharding_constraint(array, sharding(*axes))  # type: ignore[no-untyped-call]


def share(value: Any) -> Any:
    """What process 0 has as `value`, which JSON can hold, in every process."""
    if processes() == 1:
        return value
    text = json.dumps(value).encode() if first() else b""
    (size,) = share_arrays([np.array(len(text), np.int32)])
    content = np.frombuffer(text.ljust(int(size)), np.uint8)[: int(size)]
    return json.loads(share_arrays([content])[0].tobytes())


def share_arrays(arrays: list[NDArray[Any]]) -> list[NDArray[Any]]:
    """The arrays of process 0 in every process; the others' need only have their shapes."""
    if processes() == 1:
        return arrays
    return [np.asarray(a) for a in multihost_utils.broadcast_one_to_all(arrays)]


def agree(flag: bool, update: int) -> bool:
    """Whether `flag` is set in any process; of several all ask it after the same updates."""
    if processes() == 1:
        return flag
    if update % AGREE_EVERY:
        return False
    return bool(multihost_utils.process_allgather(np.array(flag)).any())


@contextlib.contextmanager
def watched(how_to_go_on: str) -> Iterator[None]:
    """In this block the failure of a collective operation raises a FmnistError of one line.

    On a processor a process that is gone breaks the others' connections at once. On an accelerator
    they may wait for it; then JAX ends them itself after HEARTBEAT_SECONDS.
    """
    try:
        yield
    except (ValueError, RuntimeError) as error:
        if processes() == 1 or not re.match(_LOST, str(error)):
            raise
        raise FmnistError(
            f"another process of this training has ended or is unreachable; go on by: "
            f"{how_to_go_on} --distributed, with any number of processes ({_first_line(error)})"
        ) from None


def leave(error: Exception) -> None:
    """Where there are several processes, end this one after an error, at once.

    At a usual exit JAX would wait for the others, which wait for this one. Each says why it ends,
    but for a stop, which is the same for all.
    """
    if processes() == 1:
        return
    line = f"error: {error}"
    if not isinstance(error, FmnistError):
        line = "".join(traceback.format_exception(error)).rstrip()
    if first() or not isinstance(error, Interrupted):
        print(f"process {jax.process_index()}: {line}", file=sys.stderr, flush=True)
    sys.stdout.flush()
    if first():
        time.sleep(2)  # JAX aborts whoever is left when process 0 is gone
    os._exit(error.exit_code if isinstance(error, FmnistError) else 1)


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or ["no message"])[0][:200]
