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
