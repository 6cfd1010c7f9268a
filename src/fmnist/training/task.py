"""What is to be trained: the part of a training that no micro-batch changes."""

import math
from typing import Any

from fmnist.data.splits import Split
from fmnist.engine import distributed, keras, networks, ops, optimizers
from fmnist.errors import UsageError
from fmnist.recipes.recipe import Recipe
from fmnist.training import teachers
from fmnist.training.update import Updater, wrap


def cross_entropy(smoothing: float) -> Any:
    """Cross-entropy of integer labels and logits, the target spread by `smoothing` over classes.

    With smoothing s and k classes the target is 1 - s + s/k for the label and s/k for the others
    (Szegedy et al. 2016).
    """

    def loss(labels: Any, logits: Any) -> Any:
        logits = ops.cast(logits, "float32")
        chosen = ops.one_hot(ops.reshape(labels, (-1,)), logits.shape[-1], dtype="float32")
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

    `batch` is the images of an update, of which `updates_per_epoch` are an epoch.
    """

    def __init__(
        self, recipe: Recipe, env: dict[str, Any], split: Split, val: Split | None = None
    ) -> None:
        self.recipe, self.env = recipe.changed(precision=env["precision"]), env
        self.images, self.labels = split.images, split.labels
        self.val = val if recipe.fit_on == "train" else None
        self.mean, self.deviation = env["mean"], env["deviation"]
        self.classes = tuple(env["classes"])
        self.batch = min(recipe.batch_size, len(split))
        self.updates_per_epoch = math.ceil(len(split) / recipe.batch_size)
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
        wrapped.compile(
            optimizer=optimizers.build(self.recipe, self.updates, head),
            loss=self._loss(),
            metrics=[keras.metrics.SparseCategoricalAccuracy(name="accuracy")],
        )
        return Updater(wrapped, self.images, self.labels, self.mean, self.deviation)

    def _loss(self) -> Any:
        hard = cross_entropy(self.recipe.label_smoothing)
        if not self.teach:
            return hard
        return teachers.loss(hard, self.recipe.distillation, self.recipe.temperature)
