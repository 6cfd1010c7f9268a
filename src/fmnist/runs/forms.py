"""The files of a run folder: which keys each has, and of which type."""

ENV = {
    "backend": str,
    "classes": [str],
    "deviation": float,
    "device": str,
    "mean": float,
    "data": {"hash": str, "n": int, "name": str, "val_index_hash": str},
    "micro_batch": int,
    "parameters": int,
    "precision": str,
    "shape": [int],
    "threads": int,
    "versions": {},
}
ENV_OPTIONAL = {
    "commit": str,
    "fmnist": str,
    "processes": int,
    "devices": int,
    "teachers": [{"run": str, "weights": str}],
    "members": [{"run": str, "weights": str}],
}
SCORE = {
    "split": str,
    "n": int,
    "correct": int,
    "accuracy": float,
    "interval": [float],
    "loss": float,
    "expected_calibration_error": float,
    "confusion": [[int]],
    "views": str,
    "per_class": [{"class": str, "precision": float, "recall": float, "f1": float, "n": int}],
    "images_per_second": float,
}
CHECKPOINT = {"update": int, "seconds": float, "scoring_seconds": float}
LIMITS = {"threads": 4096, "micro_batch": 65_536}  # of env.json; both are at least 1
METRICS = {"update": int, "seconds": float}
EPOCH = {"epoch": int, "loss": float, "accuracy": float}
