"""What is to be trained: the part of a training that no micro-batch changes."""

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fmnist.data.splits import Split
from fmnist.engine import distributed, keras, networks, ops, optimizers
from fmnist.engine.metrics import LabelledAccuracy
from fmnist.errors import UsageError
from fmnist.recipes.recipe import Recipe
from fmnist.training import teachers
from fmnist.training.photos import Photos
from fmnist.training.update import Updater, wrap


def cross_entropy(smoothing: float, allowed: NDArray[np.bool_] | None = None) -> Any:
    """Cross-entropy of integer labels and logits, the target spread by `smoothing` over classes.

    With smoothing s and k classes the target is 1 - s + s/k for the label and s/k for the others
    (Szegedy et al. 2016).

    `allowed`, (sets, classes), is what the labels from k upwards mean: sets of classes, of which
    each may be right. Without smoothing the gradient for a set is that of -log of its summed
    probability. For the empty set the target is 1/k for each class (Hendrycks et al. 2019).
    """

    def choose(labels: Any, logits: Any) -> Any:
        classes = logits.shape[-1]
        if allowed is None:
            return ops.one_hot(labels, classes, dtype="float32")
        table = ops.convert_to_tensor(np.concatenate([np.eye(classes, dtype=bool), allowed]))
        # The model's own answer within the set: all of it for one class, uniform for none.
        rows = ops.take(table, ops.cast(labels, "int32"), axis=0)  # Keras makes floats of labels
        within = ops.where(rows, logits, -1e9)
        return ops.stop_gradient(ops.softmax(within))

    def loss(labels: Any, logits: Any) -> Any:
        logits = ops.cast(logits, "float32")
        chosen = choose(ops.reshape(labels, (-1,)), logits)
        target = (1 - smoothing) * chosen + smoothing / logits.shape[-1]
        return -ops.sum(target * ops.log_softmax(logits), axis=-1)

    return loss


class Task:
    """A recipe, the images to train it on, and its teachers.

    Args:
        recipe: what to train, and how.
        env: the content of `env.json`, or as much of it as training reads: precision, shape,
            classes, mean, deviation, and teachers where there are any.
        split: the images and labels to train on.
        val: what the epochs are scored on, unless the recipe is fitted on it.
        photos: more images to train on; what is right for them is a set of classes.

    `batch` is the images of an update, of which `updates_per_epoch` are an epoch.
    """

    def __init__(
        self,
        recipe: Recipe,
        env: dict[str, Any],
        split: Split,
        val: Split | None = None,
        photos: Photos | None = None,
    ) -> None:
        self.recipe, self.env = recipe.changed(precision=env["precision"]), env
        self.images, self.labels = split.images, split.labels
        self.val = val if recipe.fit_on == "train" else None
        self.mean, self.deviation = env["mean"], env["deviation"]
        self.classes = tuple(env["classes"])
        self.allowed: NDArray[np.bool_] | None = None
        if photos:
            self.allowed, which = np.unique(photos.allowed, axis=0, return_inverse=True)
            numbers = (len(self.classes) + which.reshape(-1)).astype(np.int32)
            self.images = np.concatenate([split.images, photos.images])
            self.labels = np.concatenate([split.labels, numbers])
        self.batch = min(recipe.batch_size, len(self.images))
        self.updates_per_epoch = math.ceil(len(self.images) / recipe.batch_size)
        self.updates = self.updates_per_epoch * recipe.epochs
        self.teach = teachers.load(env.get("teachers", []), self.recipe, self.mean, self.deviation)

    def build(self) -> keras.Model:
        """The model as training begins with it."""
        return networks.build(self.recipe, tuple(self.env["shape"]), len(self.classes))

    def compile(self, model: keras.Model, micro_batch: int) -> Updater:
        """The update step of a model from `build`, with micro-batches of this many images.

        Raises UsageError where the devices cannot share a micro-batch evenly.
        """
        size = min(micro_batch, self.batch)
        if size % distributed.devices():
            raise UsageError(
                f"--distributed: expected a batch, or micro-batch, that {distributed.devices()} "
                f"devices can share evenly, received {size}; take another number of "
                "processes, or --set batch_size="
            )
        undivided = size == self.batch
        wrapped = wrap(model, None if undivided else size, seed=self.recipe.seed)
        wrapped.teach = self.teach
        head = model.trainable_weights[-1].path.rpartition("/")[0]
        plain = keras.metrics.SparseCategoricalAccuracy
        accuracy = plain if self.allowed is None else LabelledAccuracy
        wrapped.compile(
            optimizer=optimizers.build(self.recipe, self.updates, head),
            loss=self._loss(),
            metrics=[accuracy(name="accuracy")],
        )
        return Updater(wrapped, self.images, self.labels, self.mean, self.deviation)

    def _loss(self) -> Any:
        hard = cross_entropy(self.recipe.label_smoothing, self.allowed)
        if not self.teach:
            return hard
        return teachers.loss(hard, self.recipe.distillation, self.recipe.temperature)
