"""The learning-rate schedule."""

from typing import Any

import keras
import numpy as np
from keras import ops


class WarmupSchedule(keras.optimizers.schedules.LearningRateSchedule):
    """From 0 to `peak` over a share of the updates, then to 0, both in a straight line.

    The one-cycle policy (Smith & Topin 2017). Update number u, counted from 0, takes the curve's
    value at u + 1/2, so that the first update moves too.
    """

    def __init__(self, peak: float, updates: int, warmup: float) -> None:
        self.peak, self.updates, self.warmup = peak, updates, warmup

    def __call__(self, step: Any) -> Any:
        done = (ops.cast(step, "float32") + 0.5) / np.float32(self.updates)
        rise = done / np.float32(max(self.warmup, 1e-9))
        fallen = ops.clip((done - self.warmup) / np.float32(max(1 - self.warmup, 1e-9)), 0, 1)
        return self.peak * ops.where(done < self.warmup, rise, 1 - fallen)

    def get_config(self) -> dict[str, Any]:
        return {"peak": self.peak, "updates": self.updates, "warmup": self.warmup}
