"""One optimiser update out of as many micro-batches as the memory asks for.

`micro_batched(model, 16)` returns the same network (layers and weights shared) whose every update
goes through its batch 16 images at a time and then applies the gradient of the loss over the whole
batch, once: the sum of the micro-batches' gradients, each weighted by its share of the images. For
a model without batch statistics the division changes nothing but rounding, also with a short last
micro-batch, and the schedule, weight decay, moving average and counters advance once an update.

Keras' own `gradient_accumulation_steps` weighs a short micro-batch like a full one, advances the
schedule and the moving average every micro-batch, carries leftovers into the next epoch and drops
the last window (measured on 3.15.1).
"""

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fmnist.engine import augment, backend, distributed, keras
from fmnist.engine.layers import BatchNorm
from fmnist.errors import UsageError

if backend.name() == "tensorflow":
    import tensorflow as tf
else:
    import jax
    import jax.numpy as jnp


def micro_batched(
    model: keras.Model, micro_batch: int | None = None, *, seed: int = 0
) -> "MicroBatched":
    """The same network with updates in micro-batches, for `compile` and `fit` as usual.

    Args:
        model: a functional or sequential model that has its input shape.
        micro_batch: images on the device at once; None: the whole batch.
        seed: seed of fmnist's random layers. A draw also depends on the update's number and the
            image's place in the batch. (The caller, or `fit`, orders the images.)

    The loss must be a mean over the images, as Keras' losses are by default, so that the
    micro-batches' shares add up to it. `save` writes the plain network without the optimiser, so
    that `keras.saving.load_model` reads it. Batch normalisation is over a micro-batch, of which a
    UserWarning tells.

    Raises UsageError for a micro-batch below 1, and for a model without inputs or with several
    outputs. Training raises it for a loss that is not a mean over the images.
    """
    if micro_batch is not None and (normed := batch_layer(model)):
        warnings.warn(
            f"layer {normed.name} ({type(normed).__name__}) works on each micro-batch, so that an "
            "update is not that of the whole batch; layer and group normalisation are exact",
            stacklevel=2,
        )
    return wrap(model, micro_batch, seed=seed)


def batch_layer(model: keras.Model) -> keras.layers.Layer | None:
    """A layer of a model that looks at the whole batch, or changes with each micro-batch."""
    kinds = (keras.layers.BatchNormalization, keras.layers.SpectralNormalization, BatchNorm)
    return next((each for each in model._flatten_layers() if isinstance(each, kinds)), None)


def wrap(model: keras.Model, micro_batch: int | None, *, seed: int) -> "MicroBatched":
    """As `micro_batched`, without its warning."""
    if micro_batch is not None and micro_batch < 1:
        raise UsageError(f"micro_batch: expected at least 1 image, received {micro_batch}")
    if not getattr(model, "inputs", None):
        raise UsageError("micro_batched: expected a functional or built sequential model")
    if len(model.outputs) != 1:
        raise UsageError(
            f"micro_batched: expected a model of one output, received {len(model.outputs)}"
        )
    wrapped = MicroBatched(inputs=model.inputs, outputs=model.outputs[0], name=model.name)
    wrapped.micro_batch, wrapped.seed = micro_batch, seed
    # XLA on TensorFlow takes no slices of a size known only at run time.
    wrapped.supports_jit = backend.name() != "tensorflow"
    return wrapped


class MicroBatched(keras.Model):
    """A functional model whose `train_step` is one update in micro-batches. See `micro_batched`."""

    micro_batch: int | None = None
    seed: int = 0
    # Makes the loss's targets from (images, labels). Runs inside `augment.step`, so teacher and
    # student see the same crops.
    teach: Callable[[Any, Any], Any] | None = None

    def save(self, *arguments: Any, **options: Any) -> None:
        """Save the plain network as Keras does, without the optimiser."""
        if backend.name() == "jax":
            self.jax_state_sync()  # `fit` keeps the state to itself until asked
        plain = keras.Model(self.inputs, self.outputs[0], name=self.name)
        plain.save(*arguments, **options)

    def train_step(self, *arguments: Any) -> Any:
        """One update as Keras asks for it: of (data) on TensorFlow, of (state, data) on JAX."""
        reduction = getattr(self.loss, "reduction", "mean")
        if reduction not in ("sum_over_batch_size", "mean"):
            raise UsageError(
                f"micro_batched: expected a loss that is a mean over the images, received "
                f"reduction={reduction!r}; leave the reduction at its default"
            )
        body = _update_on_tensorflow if backend.name() == "tensorflow" else _update_on_jax
        return body(self, *arguments)


def _update_on_tensorflow(model: MicroBatched, data: Any) -> Any:
    """One update, in place, from (x, y) or (x, y, sample_weight); returns the logs."""
    x, y, weight = keras.utils.unpack_x_y_sample_weight(data)
    n = tf.shape(y)[0]
    variables = model.trainable_variables

    def micro(start: Any, stop: Any) -> Any:
        part = keras.tree.map_structure(
            lambda t: None if t is None else t[start:stop], (x, y, weight)
        )
        with augment.step(model.seed, model.optimizer.iterations, tf.range(start, stop)):
            target = model.teach(*part[:2]) if model.teach else part[1]
            with tf.GradientTape() as tape:
                y_pred = model(part[0], training=True)
                loss = model.compute_loss(part[0], target, y_pred, part[2], training=True)
                # The shares add up to 1, so the mean loss and the regularisers both count once.
                loss *= tf.cast(stop - start, loss.dtype) / tf.cast(n, loss.dtype)
                scaled = model.optimizer.scale_loss(loss)
        gradients = [tf.convert_to_tensor(g) for g in tape.gradient(scaled, variables)]
        return loss, y_pred, gradients

    def add(start: Any, loss: Any, outputs: Any, sums: Any) -> Any:
        stop = tf.minimum(start + model.micro_batch, n)
        part_loss, y_pred, gradients = micro(start, stop)
        outputs = outputs.write(start // model.micro_batch, tf.cast(y_pred, tf.float32))
        sums = [total + part for total, part in zip(sums, gradients, strict=True)]
        return stop, loss + tf.cast(part_loss, tf.float32), outputs, sums

    static = keras.tree.flatten(x)[0].shape[0]
    if model.micro_batch is None or (static is not None and static <= model.micro_batch):
        loss, y_pred, gradients = micro(0, n)
    else:
        outputs = tf.TensorArray(
            tf.float32,
            size=0,
            dynamic_size=True,
            infer_shape=False,
            element_shape=tf.TensorShape([None, *model.output_shape[1:]]),
        )
        zeros = [tf.zeros_like(v.value) for v in variables]
        _, loss, outputs, gradients = tf.while_loop(
            lambda start, *_: start < n,
            add,
            (tf.constant(0), tf.constant(0.0), outputs, zeros),
            parallel_iterations=1,
        )
        y_pred = outputs.concat()
        y_pred.set_shape([y.shape[0], *model.output_shape[1:]])
    model.optimizer.apply(gradients, variables)
    model._loss_tracker.update_state(loss, sample_weight=n)
    return model.compute_metrics(x, y, y_pred, weight)


def _update_on_jax(model: MicroBatched, state: Any, data: Any, seed: Any = None) -> Any:
    """One update as a pure function: (logs, state) from (state, data) and the draws' seed."""
    trainable, non_trainable, optimizer, metrics = state
    x, y, weight = keras.utils.unpack_x_y_sample_weight(data)
    n = keras.tree.flatten(x)[0].shape[0]
    size = min(model.micro_batch or n, n)
    count = model.optimizer.iterations
    update = optimizer[next(i for i, v in enumerate(model.optimizer.variables) if v is count)]
    seed = model.seed if seed is None else seed
    differentiate = jax.value_and_grad(model.compute_loss_and_updates, has_aux=True)

    def micro(carry: Any, part: Any) -> Any:
        sums, total, non_trainable = carry
        positions, x, y, weight = keras.tree.map_structure(distributed.divide, part)
        with augment.step(seed, update, positions):
            target = model.teach(x, y) if model.teach else y
            (_, (loss, y_pred, non_trainable, _)), gradients = differentiate(
                trainable,
                non_trainable,
                metrics,
                x,
                target,
                weight,
                training=True,
                optimizer_variables=optimizer,
            )
        # The shares add up to 1, so the mean loss and the regularisers both count once.
        share = positions.shape[0] / n
        sums = [a + b * share for a, b in zip(sums, gradients, strict=True)]
        return (sums, total + loss * share, non_trainable), y_pred

    def parts(first: int, last: int, *lead: int) -> Any:
        def cut(t: Any) -> Any:
            return None if t is None else t[first:last].reshape(*lead, *t.shape[1:])

        return keras.tree.map_structure(cut, (jnp.arange(n), x, y, weight))

    carry = ([jnp.zeros_like(v) for v in trainable], jnp.float32(0), non_trainable)
    full = n // size
    if full > 1:
        carry, y_pred = jax.lax.scan(micro, carry, parts(0, full * size, full, size))
        y_pred = y_pred.reshape(full * size, *y_pred.shape[2:])
    else:
        carry, y_pred = micro(carry, parts(0, size, size))
    if n % size:
        carry, last = micro(carry, parts(full * size, n, n % size))
        y_pred = jnp.concatenate([y_pred, last])
    gradients, loss, non_trainable = carry
    trainable, optimizer = model.optimizer.stateless_apply(optimizer, gradients, trainable)
    logs, metrics = model._update_metrics_variables(metrics, loss, x, y, y_pred, weight)
    return logs, (trainable, non_trainable, optimizer, metrics)


class Updater:
    """A compiled model with its state and images, ready for one update after the other.

    Args:
        model: compiled with optimiser, loss and metrics.
        images, labels: to train on, uint8 (n, h, w, 1) and integers (n,).
        mean, deviation: of the training images' pixel / 255, taken out before the model proper.

    On JAX images and state lie on the device, so an update gets only the images' indices.
    """

    def __init__(
        self,
        model: MicroBatched,
        images: NDArray[np.uint8],
        labels: NDArray[Any],
        mean: float,
        deviation: float,
    ) -> None:
        self.model = model
        model.optimizer.build(model.trainable_variables)
        # Metrics make their variables at their first call.
        y = keras.ops.zeros((1,), "int32")
        model.compute_metrics(None, y, keras.ops.zeros((1, *model.output_shape[1:])))
        model.reset_metrics()

        if backend.name() == "tensorflow":
            self._images, self._labels = images, labels

            def update(images: Any, labels: Any) -> Any:
                return model.train_step((augment.standardise(images, mean, deviation), labels))

            # An epoch's last batch is a short one.
            batch = ((None, *images.shape[1:]), images.dtype)
            step = backend.traced_once(update, batch, ((None,), labels.dtype))

        else:
            self._images, self._labels = map(distributed.give_to_all, (images, labels))
            # An argument, so that what is compiled serves every seed.
            self._seed = np.uint32(model.seed)

            def pure(state: Any, images: Any, labels: Any, index: Any, seed: Any) -> Any:
                x, y = (jnp.take(each, index, axis=0, mode="clip") for each in (images, labels))
                return model.train_step(state, (augment.standardise(x, mean, deviation), y), seed)

            step = jax.jit(pure, donate_argnums=0, out_shardings=distributed.sharding())
        self._step = step
        self._state: Any = None

    def __call__(self, index: NDArray[np.integer]) -> dict[str, Any]:
        """Do one update on the images at `index`; returns the running means of loss and metrics.

        On JAX this may return before the update is done; reading a mean then waits for it.
        """
        if backend.name() == "tensorflow":
            return dict(self._step(self._images[index], self._labels[index]))
        if self._state is None:
            # Not copies: the step gives its arguments' memory to its results, so that the variables
            # have no values until `variables` hands them the new ones.
            self._state = tuple(
                [distributed.give_to_all(v.value) for v in group] for group in self._groups()
            )
        logs, self._state = self._step(
            self._state, self._images, self._labels, np.asarray(index, np.int32), self._seed
        )
        return dict(logs)

    def lowered(self, count: int) -> Any:
        """The step for `count` images as XLA gets it to compile (JAX)."""

        def like(shape: Any, dtype: Any) -> Any:
            return jax.ShapeDtypeStruct(shape, dtype)  # type: ignore[no-untyped-call]

        state = tuple([like(v.shape, v.dtype) for v in group] for group in self._groups())
        index = like((count,), np.int32)
        return self._step.lower(state, self._images, self._labels, index, self._seed)

    def planned_bytes(self, count: int) -> int:
        """XLA's plan of the memory for an update of `count` images, with all images (JAX).

        The step is compiled and not run. Work space of convolution libraries is not counted.
        """
        plan = self.lowered(count).compile().memory_analysis()
        return int(
            plan.argument_size_in_bytes
            + plan.output_size_in_bytes
            - plan.alias_size_in_bytes
            + plan.temp_size_in_bytes
        )

    def variables(self) -> list[keras.Variable]:
        """Everything that changes in training, brought up to date: weights to metric sums."""
        if self._state is not None:
            for group, values in zip(self._groups(), self._state, strict=True):
                for variable, value in zip(group, values, strict=True):
                    # Each device holds it whole; Keras' variables live on the first.
                    variable.assign(value.addressable_data(0))
            self._state = None
        return [variable for group in self._groups() for variable in group]

    def reset_metrics(self) -> None:
        """Reset the running means, as at the start of an epoch."""
        self.variables()
        self.model.reset_metrics()

    def _groups(self) -> tuple[list[keras.Variable], ...]:
        model = self.model
        return (
            model.trainable_variables,
            model.non_trainable_variables,
            model.optimizer.variables,
            model.metrics_variables,
        )
