"""The command line: exit codes, the one line of an error, and JSON that a script can read.

Most commands run in this process, which loads the engine once; those whose process itself is the
matter (signals, imports, pipes) run in their own.
"""

import csv
import io
import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import pytest
import typer
from commands import call, own_process, refused
from idx import write_idx_set

import fmnist
from fmnist import files
from fmnist.cli.main import COMMANDS as GROUPS
from fmnist.cli.main import app
from fmnist.recipes.recipe import Recipe
from fmnist.recipes.shipped import RECIPES, changes_of
from fmnist.recipes.text import plain
from fmnist.runs.run import Run

COMMANDS = [
    "train",
    "evaluate",
    "verify",
    "export",
    "predict",
    "serve",
    "sweep",
    "ensemble",
    "audit",
    "compare",
    "report",
    "data",
    "recipes",
    "summary",
    "runs",
    "runs show",
    "runs delete",
    "doctor",
]
SMALL = [
    *("--set", "model.filters=4,4"),
    *("--set", "model.dense_units=8"),
    *("--set", "precision=float32"),
    *("--set", "epochs=1"),
    *("--set", "batch_size=64"),
]


@pytest.fixture(scope="module", autouse=True)
def elsewhere(tmp_path_factory):
    """An empty folder to run in, and no data but what a test names."""
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("FMNIST_DATA", raising=False)
        patch.chdir(tmp_path_factory.mktemp("elsewhere"))
        yield


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_idx_set(tmp_path_factory.mktemp("data") / "blocks", train=480)


@pytest.fixture(scope="module")
def trained(tmp_path_factory, folder):
    """A finished run, as its folder and what the command said."""
    path = tmp_path_factory.mktemp("runs") / "first"
    done = call("train", "reference", *SMALL, "--data", folder, "--run", path, "--json")
    assert done.code == 0, done.err
    return path, done


# help, versions, exit codes


@pytest.mark.parametrize("command", ["", *COMMANDS])
def test_every_command_has_help_with_every_option_explained(command):
    done = call(*command.split(), "--help")
    assert (done.code, done.err) == (0, "")
    assert done.out.startswith("Usage: fmnist")
    entries = re.findall(r"^  (?:-h, )?(--[\w-]+)(.*(?:\n {4,}.*)*)", done.out, re.MULTILINE)
    assert entries
    for name, text in entries:
        assert len(re.findall(r"[a-z]{2,}", text)) >= 3, f"{name} is not explained"
    if command:
        assert "--json" in done.out


@pytest.mark.parametrize("command", ["", *COMMANDS])
def test_help_is_whole_in_80_columns(command, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    done = call(*command.split(), "-h")
    assert done == call(*command.split(), "--help")
    _, *lines = done.out.splitlines()
    assert max(map(len, lines)) <= 80
    for line in lines:
        assert "…" not in line
        assert "..." not in line


def test_every_command_is_summed_up_in_a_line(monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    group = typer.main.get_command(app)
    commands = group.commands | group.commands["runs"].commands
    listed = dict(re.findall(r"^  (\w+) +(.*)$", call("-h").out, re.MULTILINE))
    listed |= re.findall(r"^  (\w+) +(.*)$", call("runs", "-h").out, re.MULTILINE)
    for name, command in commands.items():
        first = command.help.splitlines()[0]
        assert re.fullmatch(r"[A-Z][^.]{0,43}\.", first), f"{name}: {first}"
        assert listed[name] == first


def test_help_lists_every_command_in_one_group():
    sections = re.findall(r"^(\S.*):\n((?:  .*\n)+)", call("--help").out, re.MULTILINE)
    groups = {title: re.findall(r"^  (\w+)", lines, re.MULTILINE) for title, lines in sections[1:]}
    assert list(groups) == list(GROUPS)
    listed = [name for names in groups.values() for name in names]
    assert sorted(listed) == sorted({name.split()[0] for name in COMMANDS})


def test_python_m_fmnist_helps_and_its_completion_can_be_installed(tmp_path):
    """Completion as bash asks for it, and as the file that bash reads."""
    environment = os.environ | {"HOME": str(tmp_path)}

    def said(command, **more):
        return subprocess.run(
            ["bash", "-c", f"{shlex.quote(sys.executable)} -m fmnist {command}; exit $?"],
            capture_output=True,
            text=True,
            timeout=60,
            env=environment | more,
        )

    assert said("-h").stdout.startswith("Usage: fmnist [OPTIONS] COMMAND")
    words = {"COMP_WORDS": "fmnist ev", "COMP_CWORD": "1"}
    assert said("", _FMNIST_COMPLETE="complete_bash", **words).stdout == "evaluate\n"
    script = said("--show-completion").stdout
    assert "_FMNIST_COMPLETE=complete_bash" in script
    done = said("--install-completion")
    assert done.returncode == 0, done.stderr
    assert (tmp_path / ".bash_completions" / "fmnist.sh").read_text().strip() == script.strip()


def test_help_states_all_exit_codes():
    stated = call("--help").out
    for error in fmnist.FmnistError.__subclasses__():
        if error.__module__ == "fmnist.errors":
            assert f" {error.exit_code} " in stated
    assert "130" in stated


def test_no_command_shows_help():
    done = call()
    assert done.code == 2
    assert "Usage: fmnist" in done.out + done.err


def test_version():
    assert call("--version") == (0, f"fmnist {fmnist.__version__}\n", "")


@pytest.mark.parametrize(
    "arguments", [["tran"], ["train", "--bogus"], ["train", "--micro-batch", "x"], ["evaluate"]]
)
def test_what_the_parser_does_not_know_is_exit_2(arguments):
    done = call(*arguments)
    assert (done.code, done.out) == (2, "")
    assert "Error: " in done.err
    assert "Traceback" not in done.err


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["train", "quik"], "did you mean quick"),
        (["train", ""], "unknown recipe ''; known: quick"),
        (["train", "reference", "--set", "epoch=3"], "did you mean epochs"),
        (["train", "reference", "--set", "epochs"], "NAME=VALUE"),
        (
            ["train", "reference", "--set", "epochs=many"],
            "expected a whole number, received 'many'",
        ),
        (["train", "reference", "--fit-on", "test"], "unknown fit_on 'test'"),
        (["train", "reference", "--memory", "much"], "such as 4GB"),
        (["train", "reference", "--memory", "0GB"], "such as 4GB"),
        (["train", "--resume", "x", "--set", "epochs=3"], "leave out the other options"),
        (["train", "--resume", "x", "--run", "y"], "leave out the other options"),
        (["train", "--resume", "x", "--log", "tensorboard"], "leave out the other options"),
        (["train", "quick", "--log", "elsewhere"], "expected one of tensorboard, mlflow"),
        (["sweep", "epochs=0", "--over", "momentum=0.1/0.2"], "epochs: expected"),
        (["sweep", "quick", "epochs=0", "--over", "momentum=0.1/0.2"], "epochs: expected"),
        (["sweep", "quick", "--log", "elsewhere"], "expected one of tensorboard, mlflow"),
        (["runs", "--csv", "--json"], "leave out one"),
        (["audit", "quick", "--folds", "1"], "expected 2 to 100, received 1"),
        (["audit", "quick", "--set", "fit_on=all"], "each model must leave out its fold"),
        (["audit", "--resume", "x", "--folds", "3"], "leave out the other options"),
        (["evaluate", "x", "--split", "train"], "expected val or test, received 'train'"),
        (["recipes", "quik"], "did you mean quick"),
        (["recipes", "--set", "epochs=3"], "expected the name of a recipe"),
        (["recipes", "missing.json"], "expected a recipe.json"),
        (["summary", "reference", "--set", "model.filters=0"], "1 to 8192"),
    ],
)
def test_a_wrong_argument_is_one_line_and_exit_2(arguments, expected):
    assert expected in refused(call(*arguments), 2)


def test_bad_data_is_one_line_and_exit_3(tmp_path, folder):
    assert "no folder" in refused(call("data", "--data", tmp_path / "none"), 3)
    broken = write_idx_set(tmp_path / "broken")
    victim = next(broken.glob("train-images*"))
    victim.write_bytes(victim.read_bytes()[:100])
    for command in (["data"], ["train", "reference", *SMALL]):
        assert victim.name in refused(call(*command, "--data", broken), 3)
    assert not Path("runs").exists(), "no run folder is left behind"


@pytest.mark.parametrize("command", [["evaluate"], ["train", "--resume"], ["runs", "show"]])
def test_what_is_no_run_is_one_line_and_exit_5(command, tmp_path):
    assert "expected a run folder" in refused(call(*command, tmp_path / "none"), 5)


def test_audit_makes_a_folder_once_and_says_what_it_found(folder, tmp_path):
    out = tmp_path / "audit"
    found = call(
        "audit", "reference", *SMALL, "--folds", 2, "--data", folder, "--out", out, "--json"
    ).json
    assert found["labels"]["n"] == 480
    assert found["duplicates"]["n"] == 540
    assert "exists already" in refused(call("audit", "--out", out), 5)
    done = call("audit", "--resume", out)
    assert done.code == 0, done.err
    assert str(out / "index.html") in done.out.splitlines()
    summary = f"AUDIT: {found['labels']['suspicious']} of 480 labels suspicious"
    assert done.out.splitlines()[-1].startswith(summary)
    assert "expected an audit folder" in refused(call("audit", "--resume", tmp_path), 5)


def test_an_unfinished_run_is_not_scored(tmp_path):
    run = Run.create(tmp_path / "run", Recipe(name="reference"), {})
    assert "has no weights yet" in refused(call("evaluate", run.path), 5)


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["summary", "reference", "--set", "model.filters=8,0"], "from 1 to 8192"),
        (["train", "reference", "--set", "model.pool_after=7"], "the number of convolutions"),
        (
            [
                "summary",
                "reference",
                "--set",
                "model.filters=4,4,4,4,4",
                "--set",
                "model.pool_after=1,2,3,4,5",
            ],
            "at least 32 pixels a side",
        ),
        (
            ["train", "reference", "--data", "DATA", "--set", "crop=40"],
            "less than the image's side",
        ),
    ],
)
def test_an_impossible_recipe_is_refused_before_keras_is_loaded(arguments, expected, folder):
    code = (
        "import sys\n"
        "from fmnist.cli.main import main\n"
        "try: main()\n"
        "finally: print({'keras', 'tensorflow', 'jax'} & set(sys.modules))"
    )
    arguments = [str(folder) if part == "DATA" else part for part in arguments]
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments], capture_output=True, text=True, timeout=600
    )
    assert (done.returncode, done.stdout) == (2, "set()\n")
    assert expected in done.stderr
    assert done.stderr.count("\n") == 1


def test_another_engine_than_the_two_is_refused():
    done = subprocess.run(
        [sys.executable, "-m", "fmnist", "summary", "reference"],
        capture_output=True,
        text=True,
        timeout=600,
        env=os.environ | {"KERAS_BACKEND": "torch"},
    )
    assert (done.returncode, done.stdout) == (2, "")
    expected = "error: KERAS_BACKEND: expected tensorflow or jax, received 'torch'"
    assert done.stderr.startswith(expected)
    assert done.stderr.count("\n") == 1


# what needs no training


def test_recipes_lists_all_with_their_results():
    done = call("recipes")
    rows = [line.split() for line in done.out.splitlines()[1:]]
    listed = [row[0] for row in rows[: rows.index([])]]
    assert [*dict.fromkeys(listed)] == list(RECIPES)
    cards = call("recipes", "--json").json
    for name, make in RECIPES.items():
        about = {key: cards[name].pop(key) for key in ("card", "parameters", "results", "fields")}
        assert len(about["results"]) == listed.count(name)
        row = rows[listed.index(name)]
        assert row[1] == f"{about['parameters']:,}"
        assert row[2].startswith(f"{100 * about['results'][0]['accuracy']:.2f}")
        assert all(result["record"] in about["card"] for result in about["results"])
        assert all(field["meaning"] for field in about["fields"])
        assert cards[name] == json.loads(json.dumps(make().to_json()))


@pytest.mark.parametrize("name", RECIPES)
def test_recipes_prints_every_field_of_one(name):
    done = call("recipes", name)
    assert "?" not in done.out  # what `printable` makes of a line break
    assert done.code == 0
    for field, _, unit, meaning in RECIPES[name]().describe():
        (line,) = [x for x in done.out.splitlines() if x.startswith(f"{field}=")]
        assert meaning in line
        assert unit in line


def test_a_recipe_can_be_changed_kept_in_a_file_and_used(tmp_path):
    done = call(
        "recipes", "reference", "--set", "model.filters=8,16", "--set", "epochs=3", "--json"
    )
    assert done.json["model"]["filters"] == [8, 16]
    assert done.json["about"]["results"] == []  # none of this one
    file = tmp_path / "mine.json"
    file.write_text(done.out)
    assert call("recipes", file, "--json").json == done.json


def test_data_describes_and_draws(folder, tmp_path):
    about = call("data", "--data", folder, "--json").json
    assert {name: split["images"] for name, split in about["splits"].items()} == {
        "train": 440,
        "val": 40,
        "test": 60,
    }
    picture = tmp_path / "samples.png"
    done = call("data", "--data", folder, "--show", picture)
    assert done.code == 0
    assert picture.read_bytes().startswith(b"\x89PNG")
    for value in (*about["hashes"].values(), about["val_index_hash"], str(picture), "440", "60"):
        assert value in done.out


def test_runs_of_an_empty_folder(tmp_path):
    assert call("runs", "--in", tmp_path, "--json").json == []
    assert "no runs in" in call("runs", "--in", tmp_path).out


def test_ctrl_c_is_exit_130_without_a_traceback(tmp_path):
    pipe = tmp_path / "slow.json"
    os.mkfifo(pipe)
    process = own_process("recipes", pipe)
    with pipe.open("w"):  # opened as soon as the command reads it, which then waits for content
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=600)
    assert process.returncode == 130
    assert "Traceback" not in err
    assert out == ""


def test_a_reader_that_went_away_gives_no_traceback():
    process = own_process("recipes")
    process.stdout.close()
    err = process.stderr.read()
    assert process.wait(timeout=600) in (0, 1)
    process.stderr.close()
    assert err == ""


def test_a_terminal_without_the_characters_gets_others():
    done = subprocess.run(
        [sys.executable, "-m", "fmnist", "recipes", "reference"],
        capture_output=True,
        timeout=600,
        env=os.environ | {"PYTHONIOENCODING": "ascii"},
    )
    assert (done.returncode, done.stderr) == (0, b"")
    assert b"3?3" in done.stdout


# what needs a model


def test_summary_is_keras_table_and_json():
    settings = ["--set", "model.filters=4,4", "--set", "model.dense_units=8"]
    about = call("summary", "reference", *settings, "--json").json
    # 3×3 convolutions 1→4 and 4→4, one pooling, 14·14·4 → 8 → 10
    assert about["parameters"] == (9 * 4 + 4) + (9 * 16 + 4) + (784 * 8 + 8) + (80 + 10)
    assert sum(layer["parameters"] for layer in about["layers"]) == about["parameters"]
    assert about["layers"][-1]["shape"] == [10]
    done = call("summary", "reference", *settings)
    assert done.code == 0
    for layer in about["layers"]:
        assert layer["name"] in done.out
    assert f"{about['parameters']:,}" in done.out


def test_train_takes_a_network_of_the_users_own_and_then_its_recipe_alone(folder, tmp_path):
    net = tmp_path / "net.py"
    net.write_text(
        "import keras\n"
        "from keras import layers\n"
        "def build(shape, classes):\n"
        "    head = layers.Dense(classes)\n"
        "    return keras.Sequential([layers.AveragePooling2D(4), layers.Flatten(), head])\n"
    )
    common = ("--data", folder, "--epochs", 1, "--json")
    done = call("train", "reference", "--network", net, *common, "--run", tmp_path / "run")
    assert done.code == 0, done.err
    net.unlink()
    done = call("train", tmp_path / "run" / "recipe.json", *common, "--run", tmp_path / "again")
    assert done.code == 0, done.err
    first, second = (Run(tmp_path / name) for name in ("run", "again"))
    assert first.env["parameters"] == 49 * 10 + 10
    for name, values in first.load_weights().items():
        np.testing.assert_array_equal(values, second.load_weights()[name])
    for words, said in (
        (("--network", net), "expected a Python file with build"),
        (("--network", folder), "expected a Python file with build"),
        (("--network", __file__, "--set", "model.stem=haar"), "leave out --set model.stem"),
        (("--network", __file__, "--resume", tmp_path / "run"), "leave out the other options"),
    ):
        done = call("train", *words)
        assert (done.code, said in done.err) == (2, True), done.err


def test_train_leaves_a_whole_run(trained, folder):
    path, done = trained
    about, run = done.json, Run(path)
    assert Path(about["run"]) == path
    assert about["scores"] == run.scores
    assert set(run.scores) == {"val"}
    assert run.finished
    assert run.recipe_json["model"].items() >= {"name": "plain", "filters": [4, 4]}.items()
    assert {"commit", "dirty", "versions", "device", "precision", "micro_batch"} <= set(run.env)
    assert run.env["data"]["n"] == 440
    assert run.env["command"][1:3] == ["train", "reference"]
    assert not (path / "checkpoint").exists()
    assert not run.ledger.path.exists(), "nobody opened test"
    assert "epoch 1/1" in done.err, "progress is on stderr"


def test_a_teacher_is_learnt_from_and_named(trained, folder, tmp_path):
    path, _ = trained
    taught, again = tmp_path / "taught", ["--data", folder, "--json"]
    done = call("train", "reference", *SMALL, "--teacher", path, "--run", taught, *again)
    assert done.json["scores"]["val"]["n"] == 40
    losses = [Run(run).metrics()[0]["loss"] for run in (path, taught)]
    assert losses[0] != losses[1]
    assert f"teacher: {path.resolve()}" in call("runs", "show", taught).out
    error = refused(call("train", "--teacher", tmp_path / "gone", "--data", folder), 5)
    assert "gone: expected a run folder" in error
    error = refused(call("train", "--resume", taught, "--teacher", path), 2)
    assert "leave out the other options" in error


def test_evaluate_reproduces_the_recorded_score_exactly(trained, folder):
    path, _ = trained
    recorded = Run(path).scores["val"]
    score = call("evaluate", path, "--json").json
    for name in ("n", "correct", "accuracy", "interval", "confusion", "per_class", "views"):
        assert score[name] == recorded[name], name
    assert score["loss"] == pytest.approx(recorded["loss"], rel=1e-5)
    with np.load(path / "val_logits.npz", allow_pickle=False) as kept:
        assert (kept["logits"].argmax(axis=1) == kept["labels"]).sum() == score["correct"]
    done = call("evaluate", path)
    assert done.code == 0
    accuracy = re.search(r"^VAL ACCURACY: (.*)%.*n=40, 95% CI", done.out, re.MULTILINE)
    assert float(accuracy[1]) == pytest.approx(100 * score["accuracy"], abs=0.005)
    assert not Run(path).ledger.path.exists()


def copied(run, folder, **env):
    """A copy of a run under another name, some of its `env.json` changed."""
    path = folder / "runs" / "copy"
    path.parent.mkdir()
    subprocess.run(["cp", "-r", run, path], check=True)
    Run(path).change_env(**env)
    return path


def contents(folder):
    """Every file's bytes."""
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_run_verifies_to_the_image_and_stays_as_it_is(trained, tmp_path):
    path = copied(trained[0], tmp_path)
    score = call("evaluate", path, "--split", "test", "--json").json
    before = contents(path)
    (result,) = call("verify", path, "--json").json
    assert (result["passed"], result["same_machine"]) == (True, True)
    assert [(c["split"], c["n"]) for c in result["checks"]] == [("val", 40), ("test", 60)]
    assert all((c["changed"], c["exact"], c["allowed"]) == (0, True, 0) for c in result["checks"])
    assert result["checks"][1]["correct"] == score["correct"]
    assert any(line.startswith("model.filters") for line in result["differences"]["recipe"])
    assert contents(path) == before
    shown, (row,) = call("runs", "show", path), call("runs", "--in", path.parent, "--json").json
    assert (row["times_opened"], Run(path).times_opened()) == (1, 1)
    assert "test opened 1×; not counted: 1 verification\n" in shown.out
    done = call("verify", path)
    assert done.code == 0, done.err
    assert f"{path}: verified, val" in done.out


def test_other_weights_do_not_verify(trained, tmp_path):
    run = Run(copied(trained[0], tmp_path))
    arrays, about = run.load_weights(), run.about_weights()
    head = next(name for name in arrays if arrays[name].shape[-1:] == (len(about["classes"]),))
    run.save_weights(arrays | {head: -arrays[head]}, about)
    done = call("verify", run.path)
    assert done.code == 1
    assert "NOT VERIFIED" in done.out
    assert done.err.startswith("error: the recorded scores were not reproduced: ")


def test_a_claim_that_was_raised_does_not_verify(trained, tmp_path):
    run = Run(copied(trained[0], tmp_path))
    score = run.scores["val"]
    run.save_score("val", score | {"correct": score["correct"] + 1})
    assert call("verify", run.path).code == 1


def test_without_logits_on_another_machine_it_is_the_confusion(trained, tmp_path):
    """A record leaves logits out, and 0.2 % of 40 answers is none."""
    run = Run(copied(trained[0], tmp_path, device="cpu: another, 2 threads"))
    (run.path / "val_logits.npz").unlink()
    (result,) = call("verify", run.path, "--json").json
    (check,) = result["checks"]
    assert (result["same_machine"], check["exact"], check["changed"]) == (False, False, 0)
    assert "device cpu: another, 2 threads, now " in result["differences"]["environment"][-1]
    score = run.scores["val"]
    i, j = next((i, j) for i, row in enumerate(score["confusion"]) for j, n in enumerate(row) if n)
    score["confusion"][i][j] -= 1
    score["confusion"][i][j - 1] += 1
    run.save_score("val", score)
    done = call("verify", run.path)
    assert done.code == 1
    assert "answers changed: at least 1 " in done.out


def test_a_run_of_another_number_of_threads_verifies_as_on_another_machine(trained, tmp_path):
    """TensorFlow, once it has begun to compute, keeps the number of its threads."""
    path = copied(trained[0], tmp_path, threads=Run(trained[0]).env["threads"] + 1)
    run = Run(path)
    run.save_weights(run.load_weights(), run.about_weights() | {"origin": run.origin})
    (result,) = call("verify", path, "--json").json
    assert (result["passed"], result["same_machine"]) == (True, False)
    assert re.match(r"threads \d+, now \d+$", result["differences"]["environment"][-1])


def test_what_cannot_be_compared_is_not_verified(trained, folder, tmp_path):
    path = copied(trained[0], tmp_path)
    other = write_idx_set(tmp_path / "other", train=490)
    assert "the data is not the same" in refused(call("verify", path, "--data", other), 5)
    (path / "score.json").unlink()
    assert "found none" in refused(call("verify", path), 5)
    assert not (path.parent / "ledger.jsonl").exists()


@pytest.mark.parametrize("storage", ["float32", "float16", "int8"])
def test_an_export_is_a_run_of_the_score_that_it_states(trained, folder, tmp_path, storage):
    run = Run(trained[0])
    out = tmp_path / "out" / storage
    arguments = ("export", run.path, "--storage", storage, "--out", out, "--data", folder)
    (made,) = call(*arguments, "--json").json
    exported = Run(out)
    assert (made["split"], made["n"], made["before"]) == ("val", 40, run.scores["val"]["accuracy"])
    assert made["accuracy"] == exported.scores["val"]["accuracy"]
    assert made["size"] == exported.weights_path.stat().st_size
    score = call("evaluate", out, "--data", folder, "--json").json
    assert score["accuracy"] == made["accuracy"]
    assert call("verify", out, "--data", folder).code == 0
    was, arrays = run.load_weights(), exported.load_weights()
    assert set(was) == set(arrays)
    bytes_each = {"float32": 4, "float16": 2, "int8": 1}[storage]
    stored = sum(array.size for array in was.values())
    assert 0 <= made["size"] - stored * bytes_each < 2048 < made["size"]  # names and scales
    for name, array in arrays.items():
        if storage == "int8" and array.ndim > 1:
            step = np.abs(was[name]).max(axis=tuple(range(array.ndim - 1))) / 127
            assert (np.abs(array - was[name]) <= step * 0.5001).all(), name
            assert np.abs(array - was[name]).max() > 0, name
        else:
            kept = was[name].astype("float16") if storage == "float16" else was[name]
            assert (array == kept).all(), name
    assert not (out / "lock").exists()
    assert "exists already" in refused(call(*arguments), 2)


def test_an_export_in_parts_is_joined_as_the_error_says(trained, folder, tmp_path):
    whole, out = tmp_path / "whole", tmp_path / "with space"
    arguments = ("export", trained[0], "--data", folder)
    assert call(*arguments, "--out", whole).code == 0
    done = call(*arguments, "--out", out, "--part-size", "1KiB")
    assert done.code == 0, done.err
    parts = sorted(path for path in out.glob("weights.safetensors.*"))
    assert f" in {len(parts)} parts; val" in done.out
    assert len(parts) > 2
    assert {part.stat().st_size for part in parts[:-1]} == {1024}
    about = files.read_json(out / "weights.json")
    assert [p["sha256"] for p in about["parts"]] == [files.sha256(part) for part in parts]
    line = refused(call("evaluate", out, "--data", folder), 5)
    subprocess.run(line.partition("join them by: ")[2], shell=True, check=True)
    assert files.sha256(out / "weights.safetensors") == about["sha256"]
    assert files.sha256(whole / "weights.safetensors") == about["sha256"]
    assert call("evaluate", out, "--data", folder).code == 0


def test_what_cannot_be_exported_leaves_nothing(trained, folder, tmp_path, monkeypatch):
    from fmnist.exports import outcome

    out = tmp_path / "out"
    arguments = ("export", trained[0], "--data", folder, "--out", out)
    for wrong, expected in (
        (("--storage", "float8"), "expected one of float32, float16, int8"),
        (("--part-size", "9B"), "part size: expected at least"),
        (("--part-size", "much"), "--part-size: expected a size"),
        (("--storage", "int8", "--storage", "float16"), "--out: names one folder"),
    ):
        assert expected in refused(call(*arguments, *wrong), 2)
    monkeypatch.setattr(outcome, "ALLOWED", -1)
    monkeypatch.setattr(outcome, "FEW", -(10**6))
    assert "nothing was exported" in refused(call(*arguments), 1)
    run = Run(copied(trained[0], tmp_path))
    arrays, about = run.load_weights(), run.about_weights()
    name = next(iter(arrays))
    run.save_weights(arrays | {name: arrays[name] + np.float32(1e6)}, about)
    done = call("export", run.path, "--data", folder, "--out", out)
    assert "larger than 65,504" in refused(done, 1)
    (run.path / "val_logits.npz").unlink()
    assert "was not scored" in refused(call("export", run.path, "--data", folder, "--out", out), 5)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["runs"]


def test_an_export_for_elsewhere_is_a_file_with_its_card(trained, folder, tmp_path):
    arguments = ("export", trained[0], "--data", folder, "--format", "onnx", "--out", tmp_path)
    (made,) = call(*arguments, "--json").json
    assert (made["format"], made["parts"], made["split"]) == ("onnx", ["model.onnx"], "val")
    assert {path.name for path in tmp_path.iterdir()} == {"model.onnx", "card.json", "card.html"}
    assert "or --replace it" in refused(call(*arguments), 2)
    done = call(*arguments, "--replace", "--storage", "int8")
    assert done.code == 0, done.err
    assert re.search(r"onnx, int8, .* MB; val .* answers changed.*; temperature \d", done.out)
    assert "val images of its own" in refused(
        call(*arguments, "--replace", "--calibrate", trained[0]), 2
    )


def test_compare_begins_with_a_sentence_and_opens_no_test(trained, folder, tmp_path):
    first, other = trained[0], tmp_path / "other"
    done = call("train", "reference", *SMALL, "--set", "seed=1", "--data", folder, "--run", other)
    assert done.code == 0, done.err
    done = call("compare", first, other)
    assert done.code == 0, done.err
    names = f"{first.name}|other"
    said = rf"({names}) (is ahead of|is better than|and) ({names}) .*chance|right equally often"
    assert re.match(said, done.out.splitlines()[0]), done.out
    assert "only the first is right on" in done.out
    group = call("compare", first, f"both={first},{other}")
    counts = re.findall(r"right on (\S+) images, only the second on (\S+) \(", group.out)
    rows = [line.split()[-2:] for line in group.out.split("only second\n")[1].splitlines()[:10]]
    assert {len(count.partition(".")[2]) for pair in [*counts, *rows] for count in pair} == {1}
    values = call("compare", first, f"both={first},{other}", "--json").json
    assert [s["name"] for s in values["subjects"]] == [first.name, "both"]
    assert values["n"] == 40
    assert values["pairs"][0]["method"].startswith("t test")
    line = refused(call("compare", first, other, "--split", "test"), 5)
    assert "--split test" in line
    refused(call("compare", first), 2)
    assert not (first.parent / "ledger.jsonl").exists()


def test_report_writes_a_page_and_opens_no_test(trained, tmp_path, monkeypatch):
    path, _ = trained
    monkeypatch.chdir(tmp_path)
    done = call("report", path, "--images", "3, 0")
    assert (done.code, done.out) == (0, f"report: {Path('reports') / 'first.html'}\n"), done.err
    page = (tmp_path / "reports" / "first.html").read_text(encoding="utf-8")
    assert page.count('alt="which regions of it mattered"') == 2
    other = shutil.copytree(path, tmp_path / "other")
    made = call("report", path, other, "--out", "pages/two.html", "--json").json
    assert Path(made["report"]).is_file()
    assert [each["run"] for each in made["runs"]] == ["first", "other"]
    assert "expected different runs" in refused(call("report", path, path), 2)
    odd = tmp_path / "lr=0.1,a"
    subprocess.run(["cp", "-r", path, odd], check=True)
    assert call("compare", odd, path, "--json").json["subjects"][0]["name"] == odd.name
    again = call("report", f"twins={path},{other}", odd, "--json").json
    assert Path(again["report"]) == Path("reports") / "twins-and-1-more.html"
    for images in ("1,x", "-1", "1,", "99999"):
        assert "--images" in refused(call("report", path, f"--images={images}"), 2)
    refused(call("report", path, other, "--images", "1"), 2)
    refused(call("report", path, "--split", "train"), 2)
    refused(call("report", path, "--out", tmp_path / "reports"), 2)
    assert call("report", path, "--images", "3").code == 0, "an earlier report is replaced"
    line = refused(call("report", path, "--split", "test"), 5)
    assert f"evaluate {path} --split test" in line


def test_each_scoring_of_test_is_counted(trained, tmp_path):
    path = tmp_path / "runs" / "copy"
    path.parent.mkdir()
    subprocess.run(["cp", "-r", trained[0], path], check=True)
    for times in (1, 2):
        score = call("evaluate", path, "--split", "test", "--json").json
        assert (score["n"], score["times_opened"]) == (60, times)
    done = call("evaluate", path, "--split", "test")
    headline = done.out.splitlines()[-1]
    assert re.fullmatch(
        r"ACCURACY: \d+\.\d\d% \(n=60, 95% CI \d+\.\d\d–\d+\.\d\d; test opened 3×\)", headline
    )
    entries = files.read_lines(path.parent / "ledger.jsonl")
    expected = ("copy", 60, score["correct"])
    assert [(entry["run"], entry["n"], entry["correct"]) for entry in entries] == [expected] * 3
    assert call("runs", "show", path, "--json").json["times_opened"] == 3
    (row,) = call("runs", "--in", path.parent, "--json").json
    assert (row["times_opened"], row["test"]["times_opened"]) == (3, 3)
    assert " 3× " in call("runs", "--in", path.parent).out


def test_before_the_first_run_there_is_nothing_to_table(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    done = call("runs")
    assert (done.code, done.err) == (0, "")
    assert done.out == "no runs in runs yet; `fmnist train` makes one\n"
    assert "expected a folder of runs" in refused(call("runs", "--in", tmp_path / "none"), 5)


def test_what_nobody_expected_is_one_line_that_names_a_log(trained, tmp_path, monkeypatch):
    """A fault put into the command, since none is known."""
    from fmnist.cli import runs

    def broken(run):
        raise ZeroDivisionError("division by zero\x1b[2J")

    monkeypatch.setattr(runs, "run_row", broken)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    error = refused(call("runs", "--in", trained[0].parent), 1)
    assert "ZeroDivisionError: division by zero?[2J; this is a fault in fmnist" in error
    (log,) = tmp_path.glob("fmnist-*.log")
    assert str(log) in error
    text = log.read_text(encoding="utf-8")
    assert text.startswith("fmnist runs --in ")
    assert "Traceback" in text
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "none"))
    assert "please report it" in refused(call("runs", "--in", trained[0].parent), 1)


@pytest.mark.parametrize(
    "words",
    [
        ("quick", "epochs=0"),
        ("epochs=0",),
        ("quick", "--epochs", "0"),
        ("--epochs", "0", "--set", "flip=no"),
        ("seed=1", "epochs=0", "--seed", "2"),
    ],
)
def test_the_usual_fields_have_short_words(words):
    """Each reaches the recipe, which refuses it, so that nothing is trained."""
    assert "epochs: expected 1 to" in refused(call("train", *words), 2)


def test_a_seed_has_an_option_of_its_own(folder, tmp_path):
    words = ("model.filters=4,4", "model.dense_units=8", "--epochs", 1, "--seed", 5, "--quiet")
    done = call("train", "reference", *words, "--data", folder, "--run", tmp_path / "run", "--json")
    assert done.code == 0, done.err
    chosen = Run(tmp_path / "run").recipe
    assert (chosen.seed, chosen.epochs) == (5, 1)


def test_the_latest_run_has_a_name(trained, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert "expected a run folder" in refused(call("runs", "show", "latest"), 5)
    for name, created in (("b", "2026-01-02"), ("a", "2026-01-03"), ("c", "2026-01-01")):
        shutil.copytree(trained[0], tmp_path / "runs" / name)
        Run(tmp_path / "runs" / name).change_env(created=created)
    assert call("runs", "show", "latest", "--json").json["run"] == "a"
    listed = [row["run"] for row in call("runs", "list", "--json").json]
    assert listed == ["a", "b", "c"] == [row["run"] for row in call("runs", "--json").json]


def test_runs_tables_and_shows(trained):
    path, done = trained
    (row,) = call("runs", "--in", path.parent, "--json").json
    assert (row["run"], row["recipe"], row["finished"]) == ("first", "reference", True)
    assert row["val"]["accuracy"] == done.json["scores"]["val"]["accuracy"]
    (line,) = csv.DictReader(io.StringIO(call("runs", "--in", path.parent, "--csv").out))
    assert (line["run"], line["state"], line["changes"]) == (
        *("first", "finished"),
        " ".join(f"{name}={plain(value)}" for name, value in changes_of(Run(path).recipe).items()),
    )
    for name, value in row["val"].items():
        if f"val_{name}" in line:
            assert float(line[f"val_{name}"]) == value
    assert (line["val_n"], line["test_accuracy"]) == (str(row["val"]["n"]), "")
    table = call("runs", "--in", path.parent).out
    for value in (
        "first",
        "reference",
        f"{row['parameters']:,}",
        f"{100 * row['val']['accuracy']:.2f}±",
    ):
        assert value in table
    shown = call("runs", "show", path, "--json").json
    run = Run(path)
    assert shown["recipe"] == run.recipe_json
    assert shown["env"] == run.env
    assert shown["metrics"] == run.metrics()
    text = call("runs", "show", path)
    assert text.code == 0
    assert "model.filters=4,4" in text.out
    assert row["device"] in text.out


def test_runs_are_sorted_and_filtered(trained, tmp_path):
    for name, parameters, accuracy in (("a", 300, 0.5), ("b", 100, 0.9), ("c", 200, None)):
        subprocess.run(["cp", "-r", trained[0], tmp_path / name], check=True)
        recipe, env, score = (tmp_path / name / f"{f}.json" for f in ("recipe", "env", "score"))
        of = {"name": {"b": "seed", "c": "quick"}.get(name, "reference")}
        recipe.write_text(json.dumps(json.loads(recipe.read_text()) | of))
        env.write_text(json.dumps(json.loads(env.read_text()) | {"parameters": parameters}))
        scores = json.loads(score.read_text())
        scores["val"]["accuracy"] = accuracy
        score.write_text(json.dumps(scores if accuracy else {}))

    def names(*options):
        return "".join(r["run"] for r in call("runs", "--in", tmp_path, *options, "--json").json)

    assert [names(), names("--sort", "parameters"), names("--sort", "val")] == ["abc", "bca", "bac"]
    assert [names("--recipe", "quick"), names("--parameters", "150..")] == ["c", "ac"]
    assert [names("--recipe", name) for name in ("reference", "seed")] == ["ab", "ab"]
    assert [names("--parameters", "..200"), names("--parameters", "101..299")] == ["bc", "c"]
    assert [names("--parameters", "0.15k..1M"), names("--parameters", "1k..")] == ["ac", ""]
    done = call("runs", "--in", tmp_path, "--parameters", "..5")
    assert done.out == f"none of the 3 runs in {tmp_path} matches\n"
    for option, value in (("--sort", "size"), ("--parameters", "5"), ("--parameters", "a..b")):
        assert f"received '{value}'" in refused(call("runs", "--in", tmp_path, option, value), 2)


def test_runs_of_another_version_are_still_read(trained, tmp_path):
    """One whose recipe has a field that is no more is listed and shown, and not rebuilt."""
    old = tmp_path / "old"
    shutil.copytree(trained[0], old)
    recipe = json.loads((old / "recipe.json").read_text())
    files.write_json(old / "recipe.json", recipe | {"ema": 0.999})
    (row,) = call("runs", "--in", tmp_path, "--json").json
    (now,) = call("runs", "--in", trained[0].parent, "--json").json
    assert {k: row[k] for k in ("val", "parameters", "recipe")} == {
        k: now[k] for k in ("val", "parameters", "recipe")
    }
    assert "ema" in row["changes"]["of_another_version"]
    shown = call("runs", "show", old)
    assert shown.code == 0
    assert "unknown recipe field 'ema'" in shown.out
    done = call("evaluate", old)
    assert (done.code, "ema" in done.err) == (2, True)


def test_runs_delete_asks_and_keeps_evidence(trained, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    one, two, scored, recorded = (tmp_path / "runs" / n for n in ("one", "two", "scored", "rec"))
    for path in (one, two, scored, recorded):
        path.parent.mkdir(exist_ok=True)
        subprocess.run(["cp", "-r", trained[0], path], check=True)
        weights = path / "weights.safetensors"
        weights.write_bytes(weights.read_bytes() + path.name.encode())  # weights of its own
    Run(scored).enter_in_ledger({"split": "test"})
    record = tmp_path / "records" / "r" / "results.jsonl"
    record.parent.mkdir(parents=True)
    sha = files.sha256(recorded / "weights.safetensors")
    record.write_text(json.dumps({"weights_sha256": sha}) + "\n")

    itself = record.parent / "run"
    subprocess.run(["cp", "-r", trained[0], itself], check=True)
    (itself / "results.jsonl").touch()
    assert "expected --yes" in refused(call("runs", "delete", "one"), 2)
    for named, where in (
        (scored, "ledger.jsonl"),
        (recorded, "r/results.jsonl"),
        (itself, "run/results.jsonl"),
    ):
        message = refused(call("runs", "delete", "one", named, "--yes"), 5)
        assert where in message
        assert named.exists()
    (tmp_path / "runs" / "link").symlink_to(two)
    assert "a link" in refused(call("runs", "delete", "link", "--yes"), 5)
    with Run(two).locked():
        assert "another process" in refused(call("runs", "delete", "two", "--yes"), 5)
    assert one.exists()
    assert two.exists()
    assert call("runs", "delete", "one", "runs/one", "--yes").out == "deleted runs/one\n"
    assert call("runs", "delete", "two", "--yes", "--json").json == {"deleted": ["runs/two"]}
    ledger = Run(scored).ledger.path
    lines = ledger.read_bytes()
    for named in (recorded, itself):
        message = refused(call("runs", "delete", "scored", named, "--yes", "--force"), 5)
        assert "results.jsonl" in message
    assert call("runs", "delete", "scored", "--yes", "--force").out == "deleted runs/scored\n"
    assert ledger.read_bytes() == lines
    left = {p.name for p in (tmp_path / "runs").iterdir()}
    assert left == {"rec", "link", "ledger.jsonl"}


def test_an_unfinished_runs_message_names_what_finishes_it(trained, tmp_path):
    path = tmp_path / "run"
    subprocess.run(["cp", "-r", trained[0], path], check=True)
    for name in ("weights.safetensors", "val_logits.npz", "score.json"):
        (path / name).unlink()
    for words in (["compare", path, trained[0]], ["report", path], ["evaluate", path]):
        assert f"train --resume {path}" in refused(call(*words), 5), words


def test_one_damaged_run_hides_no_other(trained, tmp_path):
    for name in ("good", "broken"):
        subprocess.run(["cp", "-r", trained[0], tmp_path / name], check=True)
    (tmp_path / "broken" / "env.json").write_text("{")
    done = call("runs", "--in", tmp_path, "--json")
    assert [row["run"] for row in done.json] == ["good"]
    assert "broken" in done.err
    assert "env.json" in refused(call("runs", "show", tmp_path / "broken"), 5)


def test_a_run_is_not_overwritten(trained, folder):
    path, _ = trained
    before = {p: p.read_bytes() for p in path.iterdir() if p.is_file()}
    done = call("train", "reference", *SMALL, "--data", folder, "--run", path, "--quiet")
    assert "exists already" in refused(done, 5)
    assert "is finished" in refused(call("train", "--resume", path, "--quiet"), 5)
    assert {p: p.read_bytes() for p in path.iterdir() if p.is_file()} == before


def test_other_data_is_refused(trained, tmp_path):
    path = tmp_path / "run"
    subprocess.run(["cp", "-r", trained[0], path], check=True)
    before = Run(path).scores
    other = write_idx_set(tmp_path / "other", seed=1)
    line = refused(call("evaluate", path, "--split", "test", "--data", other), 2)
    assert "expected the data that it was trained on" in line
    assert Run(path).times_opened() == 0
    assert Run(path).scores == before


def test_trained_on_all_a_run_has_no_val_score(tmp_path, folder):
    path = tmp_path / "run"
    done = call(
        "train",
        "reference",
        *SMALL,
        "--data",
        folder,
        "--run",
        path,
        "--fit-on",
        "all",
        "--quiet",
        "--test",
    )
    assert (done.code, done.err) == (0, "")
    assert re.search(r"^ACCURACY: .*n=60.*test opened 1×", done.out, re.MULTILINE)
    assert "val accuracy" not in done.out
    assert Run(path).env["data"]["n"] == 480
    assert set(Run(path).scores) == {"test"}
    assert "trained on the validation images too" in refused(call("evaluate", path), 2)


def test_a_loss_that_is_no_number_is_exit_4(tmp_path, folder):
    done = call(
        "train",
        "reference",
        *SMALL,
        "--data",
        folder,
        "--run",
        tmp_path / "run",
        "--quiet",
        "--set",
        "weight_decay=10",
        "--set",
        "learning_rate=1000",
        "--set",
        "warmup=0",
        "--set",
        "epochs=9",
        "--set",
        "batch_size=8",
    )
    line = refused(done, 4)
    assert re.match(r"error: update \d+: expected a finite loss", line)
    assert str(tmp_path / "run") in line
    assert not Run(tmp_path / "run").finished


def test_ctrl_c_keeps_a_checkpoint_and_its_advice_finishes_the_run(tmp_path, folder):
    path = tmp_path / "stopped"
    process = own_process(
        *("train", "reference", *SMALL, "--set", "epochs=10", "--set", "batch_size=8"),
        *("--data", folder, "--run", path),
    )
    said = []
    for line in process.stderr:
        said.append(line)
        if line.startswith("epoch 1/10"):
            break
    process.send_signal(signal.SIGINT)
    out, rest = process.communicate(timeout=600)
    assert process.returncode == 130, [*said, rest]
    assert out == ""
    assert "Traceback" not in rest
    last = rest.splitlines()[-1]
    stopped = re.match(r"stopped after update (\d+) of 550; go on by: fmnist (.*)", last)
    assert stopped, rest
    update = int(stopped[1])
    assert 55 <= update < 550
    assert (path / "checkpoint" / f"{update:09}.safetensors").exists()
    assert not Run(path).finished
    assert "unfinished" in call("runs", "--in", tmp_path).out

    done = call(*shlex.split(stopped[2]), "--json")
    run = Run(path)
    assert f"going on after update {update} of 550" in done.err
    assert done.json["scores"]["val"]["n"] == 40
    assert [m["epoch"] for m in run.metrics() if "epoch" in m] == list(range(1, 11))
    assert run.finished
    assert not (path / "checkpoint").exists()
