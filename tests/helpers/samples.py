"""What several tests make runs of."""

SOURCE = "5" * 64  # the hash of a data set
ENV = {
    "backend": "tensorflow",
    "versions": {"tensorflow": "2"},
    "device": "cpu",
    "threads": 2,
    "precision": "float32",
    "parameters": 10,
    "micro_batch": 7,
    "mean": 0.5,
    "deviation": 0.3,
    "shape": [12, 12, 1],
    "classes": ["a", "b", "c"],
    "data": {"name": "made up", "hash": SOURCE, "n": 30, "val_index_hash": "6" * 64},
}
SCORE = {
    "split": "val",
    "n": 4,
    "correct": 2,
    "accuracy": 0.5,
    "interval": [0.2, 0.8],
    "loss": 1.0,
    "expected_calibration_error": 0.1,
    "confusion": [[1, 1], [1, 1]],
    "views": "flip",
    "per_class": [{"class": c, "precision": 0.5, "recall": 0.5, "f1": 0.5, "n": 2} for c in "ab"],
    "images_per_second": 9.0,
    "times_opened": None,
}
LINE = {"epoch": 1, "update": 9, "loss": 1.5, "accuracy": 0.5, "val_accuracy": 0.4, "seconds": 2.0}


def made_run(folder, env):
    """A finished run of a small network that nobody trained, with a checkpoint left in it."""
    from fmnist.engine import networks
    from fmnist.recipes.shipped import recipe
    from fmnist.runs.run import Run

    chosen = recipe("quick", **{"model.filters": "2,3", "model.pool_after": "1,2"})
    run = Run.create(folder, chosen, env)
    model = networks.build(chosen, (12, 12, 1), 3)
    arrays = {v.path: v.numpy() for v in model.variables}
    run.checkpoints.save(4, arrays, {"seconds": 1.0, "scoring_seconds": 0.5})
    run.checkpoints.save(8, arrays, {"seconds": 2.0, "scoring_seconds": 0.5})
    run.append_metrics(LINE)
    run.save_score("val", SCORE)
    about = {"mean": 0.5, "deviation": 0.3, "shape": [12, 12, 1], "classes": ["a", "b", "c"]}
    run.save_weights(arrays, about)
    return run
