"""What is shown of a training."""

from typing import Any

from fmnist.engine import keras, ops


class LabelledAccuracy(keras.metrics.SparseCategoricalAccuracy):
    """The accuracy of images that have one label; a label that is no class counts for nothing."""

    def update_state(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> Any:
        """Take in labels (n,) and logits (n, classes)."""
        labelled = ops.cast(y_true < y_pred.shape[-1], "float32")
        return super().update_state(y_true, y_pred, labelled)
