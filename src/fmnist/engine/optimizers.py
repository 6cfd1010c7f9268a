"""A recipe's optimiser, for Keras on either backend."""

import math
from typing import Any

import keras
from keras import ops

from fmnist.engine.learning_rate import WarmupSchedule
from fmnist.recipes.recipe import Recipe


class OneReplica:
    """For optimisers of one replica on TensorFlow, which then have no gradients to add up.

    Keras adds them up in any case, through a gradient of its own that TensorFlow registers for
    good, and with it the update's graph: each training in a process kept 8 MB.
    """

    def _all_reduce_sum_gradients(self, grads_and_vars: Any) -> Any:
        return grads_and_vars


class AdamW(OneReplica, keras.optimizers.AdamW):
    """Keras' AdamW (Loshchilov & Hutter 2019)."""


class Muon(OneReplica, keras.optimizers.Muon):
    """Muon (Jordan et al. 2024) for convolutions too: each kernel as a matrix (fan-in, filters).

    Keras' own gives every variable that is not a matrix, so every convolution, to its AdamW half.
    Here AdamW gets biases, norms, convolutions of one input channel or one filter a channel, layers
    of `exclude_layers` (the head) and matrices of more than `largest` elements, on which the
    iteration would cost more than the gradient. With `keep_norm` each orthogonalised kernel is
    scaled back to the norm of He's initialisation, √(2·filters), after its update, as airbench does
    (Jordan 2024): under a batch norm the scale has no effect but on the size of steps.
    """

    def __init__(self, *, largest: int = 2**22, keep_norm: bool = False, **options: Any) -> None:
        super().__init__(**options)
        self.largest, self.keep_norm = largest, keep_norm

    def _should_use_adamw(self, variable: Any) -> bool:
        shape = variable.shape
        if len(shape) not in (2, 4) or math.prod(shape) > self.largest:
            return True
        if len(shape) == 4 and 1 in shape[2:]:  # the last: one filter a channel
            return True
        return any(name in variable.path for name in self.exclude_layers)

    def _muon_update_step(self, gradient: Any, variable: Any, lr: Any, m: Any) -> None:
        gradient = ops.reshape(gradient, variable.shape)  # some layers give one of unknown shape
        self.assign(m, m * self.momentum + gradient)
        direction = gradient + self.momentum * m if self.nesterov else m
        matrix = ops.reshape(direction, (-1, variable.shape[-1]))
        step = self.lr_adjust(lr * self.zeropower_via_newtonschulz5(matrix, self.ns_steps))
        value = variable - ops.reshape(step, variable.shape)
        if self.keep_norm:
            value *= math.sqrt(2 * variable.shape[-1]) / ops.norm(ops.reshape(value, (-1,)))
        self.assign(variable, value)


def build(recipe: Recipe, updates: int, head: str = "") -> keras.optimizers.Optimizer:
    """The recipe's optimiser for a run of `updates` updates; `head` names the last layer.

    Weight decay is decoupled and spares whatever is not a kernel (biases, scales and offsets of
    norms).
    """
    common: dict[str, Any] = {
        "learning_rate": WarmupSchedule(recipe.learning_rate, updates, recipe.warmup),
        "global_clipnorm": recipe.clip_norm or None,
        "name": recipe.optimizer,  # Keras would number them, and checkpoints go by names
    }
    optimizer: keras.optimizers.Optimizer
    if recipe.optimizer == "muon":
        # The AdamW half takes steps of its own size; three iterations do where momentum is short.
        optimizer = Muon(
            momentum=recipe.momentum,
            ns_steps=3,
            rms_rate=None,
            keep_norm=recipe.batch_statistics,
            adam_lr_ratio=recipe.adam_ratio,
            weight_decay=recipe.weight_decay or None,
            adam_weight_decay=recipe.weight_decay,
            adam_beta_2=0.95,
            exclude_layers=[head],
            **common,
        )
    else:
        # 0.95 forgets faster than the usual 0.999, which lags behind in runs of few updates.
        optimizer = AdamW(weight_decay=recipe.weight_decay, beta_2=0.95, **common)
    optimizer.exclude_from_weight_decay(var_names=["bias", "gamma", "beta"])
    return optimizer
