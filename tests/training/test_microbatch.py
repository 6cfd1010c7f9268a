"""The update in micro-batches against a plain full-batch step that shares none of its code."""

import gc
import zipfile

import numpy as np
import pytest
import updates

from fmnist.engine import augment, backend, keras, networks, ops, optimizers
from fmnist.engine.layers import BatchNorm, MaxPooling2D
from fmnist.engine.learning_rate import WarmupSchedule
from fmnist.errors import UsageError
from fmnist.recipes.shipped import recipe
from fmnist.training.micro_batch import choose_micro_batch, planned_peak
from fmnist.training.task import cross_entropy
from fmnist.training.update import Updater, micro_batched

pytestmark = pytest.mark.engines
LONG = pytest.mark.long_on_jax
RANDOM = np.random.RandomState(0)
IMAGES = RANDOM.randint(0, 256, (5, 50, 12, 12, 1), dtype=np.uint8)  # five updates of 50 images
LABELS = RANDOM.randint(0, 10, (5, 50)).astype("int32")
# The last logical batch is a short one.
SIZES = [50, 50, 50, 50, 23]
MEAN, DEVIATION = 0.5, 0.29
AVERAGE = 0.8  # decay of the moving average of the weights, which Keras' optimisers keep


def small(**changes):
    changes = {
        "model.filters": (4, 6),
        "model.pool_after": (1,),
        "model.dense_units": 8,
        "crop": 2,
        "model.dropout": 0.4,
        "precision": "float32",
        "seed": 3,
        "warmup": 0.3,
        "weight_decay": 0.1,
        "learning_rate": 0.02,
        **changes,
    }
    return recipe("reference", **changes)


def build(chosen):
    return networks.build(chosen, (12, 12, 1), 10)


def gradients(model, x, y, loss):
    """Mean loss and gradients over a whole batch, straight from the engine."""
    if backend.name() == "tensorflow":
        import tensorflow as tf

        with tf.GradientTape() as tape:
            value = tf.reduce_mean(loss(y, model(x, training=True)))
        grads = tape.gradient(value, model.trainable_variables)
        return float(value), [g.numpy() for g in grads]
    import jax

    def function(trainable):
        others = [v.value for v in model.non_trainable_variables]
        return ops.mean(loss(y, model.stateless_call(trainable, others, x, training=True)[0]))

    value, grads = jax.value_and_grad(function)([v.value for v in model.trainable_variables])
    return float(value), [np.asarray(g) for g in grads]


def plain_training(chosen, updates):
    """SGD with Nesterov momentum, decoupled decay, schedule and average, written out in NumPy."""
    model = build(chosen)
    speed = [np.zeros(v.shape, "float32") for v in model.trainable_variables]
    average = None
    losses = []
    for update in range(updates):
        done = (update + 0.5) / updates
        warm = chosen.warmup
        rate = chosen.learning_rate * (done / warm if done < warm else (1 - done) / (1 - warm))
        n = SIZES[update]
        x = augment.standardise(IMAGES[update, :n], MEAN, DEVIATION)
        with augment.step(chosen.seed, update, np.arange(n, dtype="int32")):
            loss, grads = gradients(model, x, LABELS[update, :n], cross_entropy(0.1))
        losses.append(loss * n)
        for i, (variable, g) in enumerate(zip(model.trainable_variables, grads, strict=True)):
            value = ops.convert_to_numpy(variable)
            if variable.name == "kernel":
                value = value - rate * chosen.weight_decay * value
            speed[i] = 0.9 * speed[i] - rate * g
            variable.assign(value + 0.9 * speed[i] - rate * g)
        now = [ops.convert_to_numpy(v) for v in model.trainable_variables]
        average = (
            now
            if average is None
            else [AVERAGE * a + (1 - AVERAGE) * b for a, b in zip(average, now, strict=True)]
        )
    return now, average, sum(losses) / sum(SIZES)


def nesterov(chosen, updates):
    """An optimiser whose update `plain_training` writes out, by the recipe's schedule and decay."""
    optimizer = keras.optimizers.SGD(
        WarmupSchedule(chosen.learning_rate, updates, chosen.warmup),
        momentum=0.9,
        nesterov=True,
        weight_decay=chosen.weight_decay,
    )
    optimizer.exclude_from_weight_decay(var_names=["bias"])
    return optimizer


def our_training(chosen, micro_batch, updates, optimizer_of=optimizers.build):
    model = micro_batched(build(chosen), micro_batch, seed=chosen.seed)
    optimizer = optimizer_of(chosen, updates)
    optimizer.use_ema, optimizer.ema_momentum = True, AVERAGE
    model.compile(
        optimizer=optimizer,
        loss=cross_entropy(0.1),
        metrics=[keras.metrics.SparseCategoricalAccuracy(name="accuracy")],
    )
    images, labels = IMAGES.reshape(-1, 12, 12, 1), LABELS.reshape(-1)
    updater = Updater(model, images, labels, MEAN, DEVIATION)
    for update in range(updates):
        logs = updater(50 * update + np.arange(SIZES[update]))
    updater.variables()
    return model, logs


@pytest.mark.parametrize(
    "micro_batch", [None, 8, *(pytest.param(n, marks=LONG) for n in (50, 25, 17, 7, 1))]
)
def test_any_division_equals_plain_full_batches(micro_batch):
    """k in {1, 2, 3, 7, 8, 50}, most ragged; the last batch short; all that is random on."""
    chosen = small()
    weights, average, losses = plain_training(chosen, 5)
    model, logs = our_training(chosen, micro_batch, 5, nesterov)
    for variable, expected in zip(model.trainable_variables, weights, strict=True):
        np.testing.assert_allclose(ops.convert_to_numpy(variable), expected, atol=2e-6)
    model.optimizer.finalize_variable_values(model.trainable_variables)
    for variable, expected in zip(model.trainable_variables, average, strict=True):
        np.testing.assert_allclose(ops.convert_to_numpy(variable), expected, atol=2e-6)
    assert int(model.optimizer.iterations) == 5
    assert float(logs["loss"]) == pytest.approx(losses, rel=1e-5)


@pytest.mark.parametrize("optimizer", [pytest.param("adamw", marks=LONG), "muon"])
def test_divisions_agree_for_other_optimisers(optimizer):
    chosen = small(optimizer=optimizer, learning_rate=1e-3, clip_norm=0.5)
    whole, _ = our_training(chosen, None, 5)
    parts, _ = our_training(chosen, 7, 5)
    for a, b in zip(whole.variables, parts.variables, strict=True):
        np.testing.assert_allclose(ops.convert_to_numpy(a), ops.convert_to_numpy(b), atol=2e-5)


def regularised():
    return keras.Sequential(
        [
            keras.layers.Input((6,)),
            keras.layers.Dense(
                5,
                kernel_regularizer=keras.regularizers.L2(0.3),
                kernel_initializer=keras.initializers.HeNormal(seed=1),
            ),
            keras.layers.Dense(3, kernel_initializer=keras.initializers.HeNormal(seed=2)),
        ]
    )


def test_regularisers_count_once_and_sample_weights_as_in_keras():
    x = RANDOM.normal(size=(11, 6)).astype("float32")
    y = RANDOM.randint(0, 3, 11)
    weight = RANDOM.uniform(0, 2, 11).astype("float32")
    results = []
    for wrap in (lambda m: m, lambda m: micro_batched(m, 4)):
        model = wrap(regularised())
        model.compile(
            optimizer=keras.optimizers.SGD(0.1),
            loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        )
        model.fit(x, y, sample_weight=weight, batch_size=11, epochs=3, verbose=0, shuffle=False)
        results.append([ops.convert_to_numpy(v) for v in model.trainable_variables])
    for plain, ours in zip(*results, strict=True):
        np.testing.assert_allclose(ours, plain, atol=1e-6)


def test_fit_with_callbacks_and_a_short_last_batch():
    """The schedule and the counters advance once an update under `fit`, callbacks are called."""
    chosen = small()
    x = ops.convert_to_numpy(augment.standardise(IMAGES.reshape(-1, 12, 12, 1), MEAN, DEVIATION))
    y = LABELS.reshape(-1)
    model = micro_batched(build(chosen), 16, seed=1)
    rates = []
    schedule = keras.optimizers.schedules.PolynomialDecay(0.1, 6, 0.01)
    model.compile(
        optimizer=keras.optimizers.SGD(schedule),
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
    )

    def note_rate(batch, logs):
        if backend.name() == "jax":  # where fit keeps the state to itself until asked
            model.jax_state_sync()
        rates.append(float(model.optimizer.learning_rate))

    note = keras.callbacks.LambdaCallback(on_train_batch_end=note_rate)
    history = model.fit(x, y, batch_size=100, epochs=2, callbacks=[note], verbose=0)
    assert int(model.optimizer.iterations) == 6  # 100 + 100 + 50 images, twice
    assert rates == pytest.approx([0.1 - 0.015 * k for k in range(1, 7)])
    assert set(history.history) == {"loss", "accuracy"}
    assert model.evaluate(x, y, verbose=0, return_dict=True)["accuracy"] > 0
    assert model.predict(x[:7], verbose=0).shape == (7, 10)


def test_loss_scaling_of_an_optimiser_changes_nothing():
    x, y = RANDOM.normal(size=(11, 6)).astype("float32"), RANDOM.randint(0, 3, 11)
    results = []
    for factor in (None, 1024):
        model = micro_batched(regularised(), 4)
        model.compile(
            optimizer=keras.optimizers.SGD(0.1, loss_scale_factor=factor),
            loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        )
        history = model.fit(x, y, batch_size=11, epochs=2, verbose=0, shuffle=False).history
        results.append([history["loss"], *map(ops.convert_to_numpy, model.trainable_variables)])
    for plain, scaled in zip(*results, strict=True):
        np.testing.assert_allclose(scaled, plain, rtol=1e-4, atol=1e-6)


def test_a_loss_that_is_no_mean_is_refused():
    model = micro_batched(regularised(), 4)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True, reduction="sum")
    model.compile(optimizer="sgd", loss=loss)
    with pytest.raises(UsageError, match="mean over the images"):
        model.fit(np.zeros((8, 6)), np.zeros(8), verbose=0)


def test_weights_are_shared_with_the_model_given():
    model = build(small())
    wrapped = micro_batched(model, 4)
    assert [id(v) for v in wrapped.variables] == [id(v) for v in model.variables]


@LONG
def test_a_callback_saves_the_plain_network(tmp_path):
    """Another program with Keras reads it."""
    image = keras.Input((6,))
    hidden = keras.layers.Dense(4, activation="relu")(image)
    model = micro_batched(keras.Model(image, keras.layers.Dense(3)(hidden)), 4)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(optimizer="sgd", loss=loss)
    x, file = RANDOM.normal(size=(10, 6)).astype("float32"), tmp_path / "model.keras"
    checkpoint = keras.callbacks.ModelCheckpoint(str(file), save_freq=1)
    model.fit(x, np.zeros(10), callbacks=[checkpoint], verbose=0)
    assert "MicroBatched" not in zipfile.ZipFile(file).read("config.json").decode()
    read = keras.saving.load_model(file, custom_objects={})
    np.testing.assert_array_equal(read.predict(x, verbose=0), model.predict(x, verbose=0))


def test_what_looks_at_the_batch_is_warned_of_once():
    """The whole batch at once is exact for it too."""
    for norm in (
        keras.layers.BatchNormalization(),
        BatchNorm(),
        keras.Sequential([keras.layers.BatchNormalization()]),
    ):
        model = keras.Sequential([keras.Input((6,)), norm, keras.layers.Dense(2)])
        micro_batched(model)
        with pytest.warns(UserWarning, match="not that of the whole batch") as told:
            micro_batched(model, 4)
        assert len(told) == 1
    plain = keras.layers.LayerNormalization()
    micro_batched(keras.Sequential([keras.Input((6,)), plain, keras.layers.Dense(2)]), 4)


def test_refuses_what_cannot_be():
    with pytest.raises(UsageError, match="at least 1"):
        micro_batched(build(small()), 0)

    one = keras.layers.Input((6,))
    two = keras.Model(one, [keras.layers.Dense(2)(one), keras.layers.Dense(3)(one)])
    with pytest.raises(UsageError, match="one output, received 2"):
        micro_batched(two, 4)

    class Subclassed(keras.Model):
        pass

    with pytest.raises(UsageError, match="functional"):
        micro_batched(Subclassed(), 4)


def test_pooling_and_batch_norm_have_the_gradients_of_keras():
    random = np.random.RandomState(1)
    x, y = random.normal(9, 2, (16, 13, 12, 2)).astype("float32"), random.randint(0, 3, 16)
    found = []
    for pool, norm in (
        (MaxPooling2D(2), BatchNorm()),
        (keras.layers.MaxPooling2D(2), keras.layers.BatchNormalization()),
    ):
        model = keras.Sequential(
            [
                keras.layers.Input(x.shape[1:]),
                keras.layers.Conv2D(6, 3, kernel_initializer=keras.initializers.HeNormal(seed=1)),
                pool,
                norm,
                keras.layers.ReLU(),
                keras.layers.Flatten(),
                keras.layers.Dense(3, kernel_initializer=keras.initializers.HeNormal(seed=2)),
            ]
        )
        norm.gamma.assign(np.linspace(0.5, 2, 6))
        norm.beta.assign(np.linspace(-1, 1, 6))
        found.append(gradients(model, x, y, cross_entropy(0.1))[1])
    for ours, theirs in zip(*found, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=2e-5)


@pytest.mark.skipif(backend.name() != "jax", reason="TensorFlow has one memory")
def test_state_and_images_lie_on_the_device_once():
    import jax

    def held():
        return sum(array.nbytes for array in jax.live_arrays())

    trainer = updates.begin("reference")
    gc.collect()  # what tests before this one left
    before = held()
    state = sum(int(np.asarray(v.value).nbytes) for v in trainer.updater.variables())
    planned_peak(trainer.task, trainer.model, 8)  # a trial leaves nothing behind
    assert held() == before
    for update in range(5):  # into the second epoch
        float(trainer.step(update)["loss"])
    assert before <= held() < before + state / 10


@pytest.mark.skipif(backend.name() != "jax", reason="is what XLA compiles")
def test_what_is_compiled_serves_every_seed():
    programs, losses = [], []
    for seed in (1, 2):
        model = micro_batched(build(small()), seed=seed)
        model.compile(optimizer=optimizers.build(small(), 5), loss=cross_entropy(0.1))
        updater = Updater(model, IMAGES[0], LABELS[0], MEAN, DEVIATION)
        programs.append(updater.lowered(50).as_text())
        updater(np.arange(50))
        losses.append(float(updater(np.arange(50))["loss"]))
    assert programs[0] == programs[1]
    assert losses[0] != losses[1]  # other dropout and other crops of the same images


@pytest.mark.skipif(backend.name() != "jax", reason="is XLA's plan")
def test_planned_bytes_hold_state_images_and_activations(monkeypatch):
    trainer = updates.begin("reference")
    held = sum(int(np.asarray(v.value).nbytes) for v in trainer.updater.variables())
    held += trainer.task.images.nbytes + trainer.task.labels.nbytes
    plans = {size: planned_peak(trainer.task, trainer.model, size) for size in (8, 16, 32)}
    each = (plans[32] - plans[8]) / 24
    # Backward wants what the convolutions gave: 6 channels of 14×14 and 8 of 7×7, float32.
    least = 4 * (6 * 14 * 14 + 8 * 7 * 7)
    assert least < each < 20 * least
    assert held < plans[8] < held + 8 * each + 10**6
    # An accelerator that has room for 16 images at once, a fifth aside.
    monkeypatch.setattr(backend, "accelerator_memory", lambda: (int(plans[16] / 0.8) + 1, None))
    trainer.task.env["parameters"] = 10**9  # so that the guess says to look
    size, probe = choose_micro_batch(trainer.task, trainer.model, None, None)
    assert 8 <= size <= 16
    assert probe["8"] == plans[8]
    assert planned_peak(trainer.task, trainer.model, size) <= plans[16]
