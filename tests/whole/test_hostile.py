"""Recipes, run folders, checkpoints and weights that a stranger may have written.

Whatever is in them, they are read or refused by an error of one line; nothing else is raised, and
no memory is taken on their word.
"""

import contextlib
import gzip
import io
import json
import os
import re
import resource
import shutil
import struct
import zipfile

import numpy as np
import pytest
from commands import call, refused
from hostile import altered, error_of
from hypothesis import example, given
from hypothesis import strategies as st
from idx import write_idx, write_idx_set
from samples import ENV, LINE, SCORE, made_run

from fmnist import files
from fmnist.cli.one_run import run_row, show_run
from fmnist.cli.runs import show_runs
from fmnist.errors import FmnistError, RunError, UsageError
from fmnist.recipes.recipe import Recipe
from fmnist.recipes.shipped import RECIPES, recipe
from fmnist.runs.checkpoints import Checkpoints
from fmnist.runs.run import Run
from fmnist.scoring.evaluate import load_model


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    return made_run(tmp_path_factory.mktemp("runs") / "run", ENV)


@pytest.fixture
def run(made, tmp_path):
    shutil.copytree(made.path, tmp_path / "run")
    return Run(tmp_path / "run")


def show(run):
    """All that the commands print about a run."""
    with contextlib.redirect_stdout(io.StringIO()):
        show_runs([run_row(run)])
        show_run(run)


def memory():
    """The process's peak so far, in bytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


# fuzzing


@given(altered(recipe("quick").to_json()) | altered(recipe("reference").to_json()))
def test_any_recipe_json_is_a_recipe_or_refused(tmp_path_factory, value):
    path = tmp_path_factory.mktemp("recipe") / "recipe.json"
    path.write_text(json.dumps(value))

    def read():
        found = recipe(str(path))
        assert Recipe.from_json(found.to_json()) == found

    assert "\n" not in error_of(read, UsageError)


@given(
    st.sampled_from(["recipe.json", "env.json", "score.json", "metrics.jsonl"]).flatmap(
        lambda name: st.tuples(
            st.just(name),
            altered(
                {
                    "recipe.json": recipe("quick").to_json(),
                    "env.json": ENV,
                    "score.json": {"val": SCORE},
                    "metrics.jsonl": LINE,
                }[name]
            ),
        )
    )
)
@example(("score.json", {"val": SCORE | {"views": "none such"}}))
@example(("score.json", {"val": SCORE | {"confusion": [[1]]}}))
@example(("score.json", {"val": SCORE | {"interval": [0.1]}}))
@example(("score.json", {"test": SCORE | {"times_opened": "often"}}))
@example(("recipe.json", recipe("quick").to_json() | {"name": "../../up"}))
def test_any_run_folder_is_shown_or_refused(made, tmp_path_factory, altered):
    name, value = altered
    folder = tmp_path_factory.mktemp("altered") / "run"
    shutil.copytree(made.path, folder)
    (folder / name).write_text(json.dumps(value))
    assert "\n" not in error_of(lambda: show(Run(folder)), FmnistError)


@given(st.integers(0), st.binary(min_size=1, max_size=4), st.sampled_from(["json", "safetensors"]))
def test_any_manifest_is_read_or_passed_over(made, tmp_path_factory, place, content, kind):
    folder = tmp_path_factory.mktemp("altered") / "run"
    shutil.copytree(made.path, folder)
    file = folder / "checkpoint" / f"000000008.{kind}"
    whole = bytearray(file.read_bytes())
    place %= len(whole)
    unchanged = whole[place : place + len(content)] == content
    whole[place : place + len(content)] = content
    file.write_bytes(whole)
    said = []
    _, about = Run(folder).checkpoints.load(said.append)
    # Between JSON's signs a byte may change without a change in what is said.
    assert about["update"] == (4 if said else 8)
    assert said or unchanged or kind == "json"


@given(st.binary(max_size=60) | st.text().map(str.encode))
@example(b'{"a": 1, "a": 2}')
@example(b'{"a": NaN}')
@example(b'{"a": -Infinity}')
@example(b"[" * 100_000)
@example(b'{"a":' * 100_000)
@example(b'{"a": ' + b"9" * 10_000 + b"}")
def test_any_bytes_are_an_object_or_refused(content):
    said = error_of(lambda: files.parse_json(content, "file"), RunError)
    assert not said or said.startswith("file: expected a JSON object")


# one by one


@pytest.mark.parametrize(
    ("content", "why"),
    [
        ('{"schema": 1, "schema": 1}', "a key appears twice"),
        ('{"epochs": NaN}', "NaN is no"),
        ("[]", "found list"),
        ("{", "Expecting"),
        ("[" * 10_000, "JSON object"),
    ],
)
def test_json_that_is_ambiguous_is_refused(tmp_path, content, why):
    path = tmp_path / "recipe.json"
    path.write_text(content)
    with pytest.raises(UsageError, match=why):
        recipe(str(path))


@pytest.mark.parametrize("name", ["recipe.json", "env.json", "score.json", "metrics.jsonl"])
def test_a_gigabyte_of_json_costs_no_memory(run, name):
    before = memory()
    with (run.path / name).open("r+b") as file:
        file.truncate(2**30 + 1)
    with pytest.raises(FmnistError, match="of at most"):
        show(run)
    assert memory() - before < 50 * 2**20


def test_a_recipe_too_large_is_refused_before_memory_is_taken(run, tmp_path):
    before = memory()
    for filters in ([10**12], [8192] * 64):
        value = recipe("quick").to_json()
        value["model"] |= {"filters": filters, "pool_after": [1]}
        files.write_json(run.path / "recipe.json", value)
        with pytest.raises(UsageError, match=r"from 1 to 8192|parameters"):
            load_model(run)
    assert memory() - before < 200 * 2**20


def huge(shape):
    """A safetensors file of zeros that takes no room on disk, as a function that writes it."""

    def write(path):
        about = json.dumps(
            {
                "mean": 0.5,
                "deviation": 0.3,
                "shape": [12, 12, 1],
                "classes": ["a", "b", "c"],
                "update": 8,
            }
        )
        size = 4 * int(np.prod(shape))
        entry = {"dtype": "F32", "shape": shape, "data_offsets": [0, size]}
        header = json.dumps({"__metadata__": {"about": about}, "conv2d/kernel": entry}).encode()
        header += b" " * (-len(header) % 8)
        path.write_bytes(struct.pack("<Q", len(header)) + header)
        os.truncate(path, 8 + len(header) + size)

    return write


def test_weights_of_another_model_are_refused_before_they_are_read(run):
    before = memory()
    huge([3, 3, 1, 10**8])(run.weights_path)
    with pytest.raises(RunError, match=r"recipe\.json's model, .* found "):
        load_model(run)
    assert memory() - before < 100 * 2**20


def test_weights_that_promise_what_is_not_there_are_refused(run):
    header = b'{"conv2d/kernel":{"dtype":"F32","shape":[1000000000],"data_offsets":[0,4000000000]}}'
    for content in (
        struct.pack("<Q", 2**62) + b"{",
        struct.pack("<Q", len(header)) + header,
        b"\x80\x04.",
    ):
        run.weights_path.write_bytes(content)
        with pytest.raises(RunError, match=r"weights\.safetensors"):
            load_model(run)


def test_a_checkpoint_of_another_model_is_passed_over(run):
    said = []
    assert run.checkpoints.load(said.append, {"other": (3,)}) is None
    assert len(said) == 2
    assert "expected the arrays of recipe.json's model" in said[0]


@pytest.mark.parametrize(
    "changed",
    [
        {"shape": [12, 12]},
        {"shape": [10**9, 10**9, 1]},
        {"shape": [0, 0, 1]},
        {"deviation": 0},
        {"classes": "abc"},
        {"classes": [1, 2, 3]},
        {"mean": "0.5"},
    ],
)
def test_weights_that_describe_themselves_oddly_are_refused(run, changed):
    about, arrays = run.about_weights(), run.load_weights()
    run.save_weights(arrays, about | changed)
    with pytest.raises(FmnistError):
        load_model(run)


def test_links_out_of_the_folder_are_refused(run, tmp_path):
    secret = tmp_path / "secret"
    secret.write_text("{}")
    for name in ("score.json", "checkpoint/000000009.json"):
        (run.path / name).unlink(missing_ok=True)
        (run.path / name).symlink_to(secret)
        with pytest.raises(RunError, match="a link out of the folder"):
            Run(run.path)
        (run.path / name).unlink()
    (run.path / "again.json").symlink_to("env.json")
    assert Run(run.path).env == ENV | {"schema": 1}


# through the command line, where each is one line and an exit code


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A run of two updates, finished, that has kept its checkpoints; and its data."""
    place = tmp_path_factory.mktemp("trained")
    data = write_idx_set(place / "data", train=60, test=20, height=12, width=12, classes=3)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Checkpoints, "drop", lambda self: None)
        done = call(
            "train",
            "quick",
            "--set",
            "model.filters=2,3",
            "--set",
            "model.pool_after=1,2",
            "--set",
            "epochs=2",
            "--data",
            data,
            "--run",
            place / "run",
            "--checkpoint-updates",
            "1",
        )
    assert done.code == 0, done.err
    return Run(place / "run"), data


@pytest.fixture
def theirs(trained, tmp_path):
    """A copy of it."""
    shutil.copytree(trained[0].path, tmp_path / "theirs")
    return Run(tmp_path / "theirs")


def commands(run, place):
    """What reads a stranger's run folder, by name."""
    folder, run = run.env["data"]["folder"], run.path
    return {
        "show": ("runs", "show", run),
        "evaluate": ("evaluate", run),
        "verify": ("verify", run),
        "compare": ("compare", run, run),
        "export": ("export", run, "--out", place / "export"),
        "resume": ("train", "--resume", run),
        "delete": ("runs", "delete", run, "--yes"),
        "teacher": (
            "train",
            "quick",
            "--teacher",
            run,
            "--data",
            folder,
            "--run",
            place / "student",
        ),
    }


def rewrite(name, **changed):
    """A function that changes values of a run's JSON file."""

    def write(run):
        files.write_json(run.path / name, files.read_json(run.path / name) | changed)

    return write


def overwrite(name, content):
    """A function that replaces a run's file."""
    return lambda run: (run.path / name).write_bytes(content)


def logits(**arrays):
    """A function that replaces a run's logits or labels."""

    def write(run):
        with np.load(run.path / "val_logits.npz") as file:
            kept = dict(file)
        np.savez(run.path / "val_logits.npz", **(kept | arrays))

    return write


def archive(header, size=0):
    """A function that writes logits of a header, and `size` zeros packed after it."""

    def write(run):
        with zipfile.ZipFile(
            run.path / "val_logits.npz", "w", zipfile.ZIP_DEFLATED, True, 1
        ) as file:
            for name in ("logits.npy", "labels.npy"):
                with file.open(name, "w", force_zip64=True) as part:
                    part.write(b"\x93NUMPY\x01\x00" + struct.pack("<H", 118))
                    part.write(header.encode().ljust(117) + b"\n")
                    for _ in range(size >> 24):
                        part.write(bytes(1 << 24))

    return write


def npy(shape):
    return f"{{'descr': '<f4', 'fortran_order': False, 'shape': {shape}, }}"


def env_with(text):
    """A function that puts text at the front of env.json's object."""
    return lambda run: (run.path / "env.json").write_text(
        (run.path / "env.json").read_text().replace("{", "{" + text, 1)
    )


def pipe(run):
    (run.path / "env.json").unlink()
    os.mkfifo(run.path / "env.json")


def double(run):
    arrays = {name: array.astype(np.float64) for name, array in run.load_weights().items()}
    run.save_weights(arrays, run.about_weights())


def no_numbers(run):
    arrays = {name: np.full_like(array, np.nan) for name, array in run.load_weights().items()}
    run.save_weights(arrays, run.about_weights())


def sparse(run):
    huge([3, 3, 1, 10**7])(run.weights_path)


def longer(run):
    """A checkpoint of more updates than the recipe has."""
    arrays, about = run.checkpoints.load()
    run.checkpoints.save(99, arrays, {k: v for k, v in about.items() if k != "update"})


READING = ("show", "evaluate", "verify", "compare", "export", "resume")
SCORING = ("evaluate", "verify", "export", "teacher")


@pytest.mark.parametrize(
    ("harm", "names", "expected"),
    [
        (env_with('"schema": 1, '), READING, "a key appears twice"),
        (env_with('"a": NaN, '), READING, "NaN is not allowed in JSON"),
        (env_with('"a": 1e999, '), READING, "a number is too large"),
        (pipe, ("show", "delete"), "found a pipe or device"),
        (rewrite("env.json", threads=10**6), READING, "threads: expected 1 to 4,096, found"),
        (rewrite("env.json", micro_batch=0), READING, "micro_batch: expected 1 to"),
        (rewrite("env.json", versions={"keras": [3]}), READING, "versions: expected text"),
        (rewrite("env.json", commit=[1]), READING, "commit: expected text"),
        (rewrite("env.json", device="\x1b[2J"), READING, "found control characters"),
        (rewrite("env.json", classes=["a", "b", "c\nd"]), READING, "found control characters"),
        (rewrite("env.json", shape=[12]), READING, "expected the data's image shape"),
        (rewrite("env.json", deviation=0), READING, "deviation above 0, found 0.5"),
        (rewrite("env.json", mean=-1), READING, "mean and deviation of pixels from 0 to 1"),
        (rewrite("env.json", teachers=[None]), READING, "teachers: expected an object, found None"),
        (rewrite("env.json", classes=["a", "b"]), ("resume",), "expected the data's image shape"),
        (rewrite("score.json", **{"../../up": SCORE}), ("show", "verify"), "found '../../up'"),
        (overwrite("metrics.jsonl", b"{}\n" * 250_001), ("show",), "at most 250,000 lines"),
        (longer, ("resume",), "expected a checkpoint of at most 2 updates"),
        (double, SCORING, "expected values of F32, F16, found F64"),
        (no_numbers, ("evaluate", "verify", "export"), "expected weights that give finite logits"),
        (sparse, SCORING, "expected the arrays of recipe.json's model"),
        (logits(labels=np.full(3, 3)), ("compare", "export"), "expected labels from 0 to 2"),
        (logits(labels=np.full(3, -1)), ("compare", "export"), "expected labels from 0 to 2"),
        (logits(labels=np.array(1)), ("compare", "export"), "expected "),
        (logits(logits=np.full((3, 3), "a")), ("compare", "export"), "expected finite float32"),
        (logits(logits=np.array([{}], object)), ("compare", "export"), "allow_pickle=False"),
        (archive(npy("(1000000000000, 3)")), ("compare", "export"), "expected logits and labels"),
        (archive(npy("(1000000, 300)"), 513 << 20), ("compare", "export"), "bytes unpacked"),
        (archive("__import__('os').abort()"), ("compare", "export"), "expected logits and labels"),
    ],
)
def test_a_hostile_run_folder_is_one_line_for_each_command(
    theirs, trained, tmp_path, harm, names, expected
):
    asked = commands(theirs, tmp_path)
    harm(theirs)
    before = memory()
    for name in names:
        if name == "resume":
            theirs.weights_path.unlink(missing_ok=True)
        arguments = asked[name]
        if name == "evaluate":
            arguments += ("--split", "test")
        if name in ("evaluate", "verify", "export", "resume"):
            arguments += ("--data", trained[1])
        said = call(*arguments)
        assert said.code == 5, (name, said)
        assert expected in said.err.splitlines()[-1], (name, said.err)
        assert sum(line.startswith("error: ") for line in said.err.splitlines()) == 1
    assert memory() - before < 200 * 2**20
    assert not theirs.ledger.path.exists()
    assert not (tmp_path / "export").exists()
    assert not (tmp_path / "student").exists()


def test_hostile_recipes_are_one_line(tmp_path):
    path, whole = tmp_path / "recipe.json", recipe("quick").to_json()
    before = memory()
    for changed, expected in (
        ({"name": "../../up"}, "name: expected up to 99 letters"),
        ({"model": whole["model"] | {"filters": [10**12]}}, "from 1 to 8192"),
        ({"epochs": 10**400}, "expected a recipe.json|epochs"),
        ({"a\nb": 1}, "unknown recipe field"),
    ):
        path.write_text(json.dumps(whole | changed))
        line = refused(call("train", path), 2)
        assert re.search(expected, line), line
    with path.open("r+b") as file:
        file.truncate(10**9)
    assert "of at most" in refused(call("train", path), 2)
    assert memory() - before < 50 * 2**20


def test_hostile_data_is_one_line(trained, tmp_path):
    data = tmp_path / "data"
    shutil.copytree(trained[1], data)
    (data / "classes.txt").write_text("a\nb\nc\x1b[2J")
    assert "without control characters" in refused(call("data", "--data", data), 3)
    (data / "classes.txt").unlink()
    bomb = data / "t10k-images-idx3-ubyte.gz"
    bomb.write_bytes(gzip.compress(bytes(200 << 20), 1))
    before = memory()
    assert str(bomb) in refused(call("data", "--data", data), 3)
    assert memory() - before < 50 * 2**20
    write_idx(bomb, np.zeros((20, 12, 12), np.uint8))
    assert call("data", "--data", data).code == 0


def test_a_name_with_a_line_break_is_one_line(tmp_path):
    name = tmp_path / "runs\n\x1b[2J"
    assert "runs??[2J" in refused(call("runs", "show", name), 5)


def test_nothing_outside_is_deleted(theirs, tmp_path):
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "thesis").write_text("words")
    shutil.rmtree(theirs.path / "checkpoint")
    (theirs.path / "checkpoint").symlink_to(outside)
    refused(call("runs", "delete", theirs.path, "--yes"), 5)
    (theirs.path / "checkpoint").unlink()
    (theirs.path / "deep").mkdir()
    (theirs.path / "deep" / "link").symlink_to(outside)  # deeper down it is not followed
    assert call("runs", "delete", theirs.path, "--yes").code == 0
    assert not theirs.path.exists()
    assert (outside / "thesis").read_text() == "words"


def test_no_module_unpickles_or_loads_a_strangers_model():
    import ast
    from pathlib import Path

    import fmnist

    for path in Path(fmnist.__file__).parent.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import | ast.ImportFrom):
                names = {a.name for a in node.names} | {getattr(node, "module", None)}
                assert not names & {"pickle", "marshal", "shelve", "dill", "joblib"}, path
            if isinstance(node, ast.Attribute):
                assert node.attr not in {"load_model_from_file", "from_config"}, path
            if isinstance(node, ast.keyword) and node.arg == "allow_pickle":
                assert ast.unparse(node.value) == "False", path


def test_every_shipped_recipe_is_within_the_bounds():
    for name in RECIPES:
        recipe(name).check_shape((28, 28, 1), 10)
