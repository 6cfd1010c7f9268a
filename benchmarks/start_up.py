"""How long the commands take to answer: whole processes, median and fastest of several.

    python benchmarks/start_up.py [--repeats 11]

The commands are interleaved, so that a busy moment of the machine touches them all.
"""

import argparse
import statistics
import subprocess
import sys
import time

COMMANDS = {
    "python -c pass": [sys.executable, "-c", "pass"],
    "fmnist --help": [sys.executable, "-m", "fmnist", "--help"],
    "fmnist recipes": [sys.executable, "-m", "fmnist", "recipes"],
    "fmnist runs": [sys.executable, "-m", "fmnist", "runs"],
    "import tensorflow, keras": [sys.executable, "-c", "import fmnist.engine.backend"],
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=11)
    repeats = parser.parse_args().repeats
    times: dict[str, list[float]] = {name: [] for name in COMMANDS}
    for _ in range(repeats):
        for name, command in COMMANDS.items():
            begin = time.perf_counter()
            subprocess.run(command, check=True, capture_output=True)
            times[name].append(time.perf_counter() - begin)
    print(f"{'command':<26} {'median':>8} {'fastest':>8}   (n={repeats}, seconds)")
    for name, values in times.items():
        print(f"{name:<26} {statistics.median(values):>8.3f} {min(values):>8.3f}")


if __name__ == "__main__":
    main()
