"""The largest micro-batch that fits the memory."""

from collections.abc import Callable

from fmnist.errors import UsageError


def largest_micro_batch(
    peak_of: Callable[[int], int | None], batch: int, room: int, asked: int | None = None
) -> tuple[int, dict[int, int]]:
    """The largest micro-batch whose updates stay within `room` bytes of resident memory.

    `peak_of(m)` measures updates with micro-batch m, in bytes, or None where they did not survive.
    Activations grow in proportion to the images, so two small sizes give the line that the rest
    follows; a tenth of what is left stays as margin. If one is `asked` for, only that is measured.
    Returns the micro-batch and the peaks.

    Raises UsageError where not even the smallest fits.
    """
    peaks: dict[int, int] = {}
    sizes = {min(asked, batch)} if asked else {min(8, batch), min(32, batch)}
    for size in sorted(sizes):
        measured = peak_of(size)
        if measured is None or measured > room:
            if not peaks:
                needed = "more" if measured is None else f"{measured / 1e9:.2f} GB"
                raise UsageError(
                    f"memory: expected updates with a micro-batch of {size} to fit the "
                    f"{room / 1e9:.2f} GB that data and saving leave, they took {needed}; "
                    "allow more memory, give --micro-batch, or choose a smaller model"
                )
            break
        peaks[size] = measured
    (small, low), (large, high) = min(peaks.items()), max(peaks.items())
    slope = max((high - low) / max(large - small, 1), 1)
    fits = min(batch, large + int(0.9 * (room - high) / slope)) if large > small else small
    # Equal parts waste least: as few as can be, then the size that they need.
    return -(-batch // -(-batch // fits)), peaks
