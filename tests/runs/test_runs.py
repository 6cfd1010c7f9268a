"""The run folder and the ledger under crashes, full disks, damage and company."""

import json
import os
import shutil
import signal
import struct
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from disk import files_limited_to
from hypothesis import given
from hypothesis import strategies as st
from samples import ENV, SCORE

from fmnist import files
from fmnist.errors import RunError
from fmnist.recipes.recipe import Recipe
from fmnist.runs.ledger import not_counted
from fmnist.runs.run import SCHEMA, Run, find_run, run_folders

RECIPE = Recipe(name="reference")
STATE = {"0000 kernel": np.arange(6, dtype=np.float32).reshape(2, 3), "0001 step": np.array(7)}


@pytest.fixture
def run(tmp_path):
    return Run.create(tmp_path / "runs" / "first", RECIPE, ENV)


def python(code, *arguments, **options):
    """A process of its own that runs `code`."""
    return subprocess.Popen(
        [sys.executable, "-c", code, *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        **options,
    )


def same(arrays, expected):
    """Whether two dicts of arrays are equal, types and shapes included."""
    return set(arrays) == set(expected) and all(
        arrays[k].dtype == v.dtype and arrays[k].shape == v.shape and (arrays[k] == v).all()
        for k, v in expected.items()
    )


# making and opening


def test_create_writes_what_was_given(run):
    assert run.recipe == RECIPE
    assert files.read_json(run.path / "recipe.json") == json.loads(json.dumps(RECIPE.to_json()))
    assert run.env["precision"] == "float32"
    assert run.env["schema"] == SCHEMA
    assert (run.name, run.finished, run.scores, run.metrics()) == ("first", False, {}, [])


def test_an_env_json_without_what_a_run_needs_is_named(run):
    files.write_json(run.path / "env.json", {"precision": "float32"})
    with pytest.raises(RunError, match=r"env\.json: expected backend, found none"):
        _ = run.env


def test_a_run_never_writes_into_an_existing_folder(run, tmp_path):
    before = {p.name: p.read_bytes() for p in run.path.iterdir()}
    with pytest.raises(RunError, match=f"exists already.*--resume {run.path}"):
        Run.create(run.path, Recipe(name="other"), {})
    assert {p.name: p.read_bytes() for p in run.path.iterdir()} == before

    someones = tmp_path / "thesis"
    someones.mkdir()
    (someones / "chapter.tex").write_text("words")
    (tmp_path / "file").write_text("")
    for taken in (someones, tmp_path / "file"):
        with pytest.raises(RunError, match="exists already"):
            Run.create(taken, RECIPE, {})
    assert [p.name for p in someones.iterdir()] == ["chapter.tex"]


def test_an_empty_folder_may_become_a_run(tmp_path):
    (tmp_path / "empty").mkdir()
    assert Run.create(tmp_path / "empty", RECIPE, {}).recipe == RECIPE


def test_what_a_kill_left_of_a_folder_may_become_a_run(tmp_path):
    """Not while its maker lives, and never with a file of someone's."""
    folder = tmp_path / "run"
    folder.mkdir()
    for name in ("lock", "env.json", ".recipe.json.7.tmp"):  # as `create` writes them
        (folder / name).touch()
        with files.held(folder / "lock", ""), pytest.raises(RunError, match="exists already"):
            Run.create(folder, RECIPE, ENV)
    (folder / "chapter.tex").write_text("words")
    with pytest.raises(RunError, match="exists already"):
        Run.create(folder, RECIPE, ENV)
    (folder / "chapter.tex").unlink()
    assert Run.create(folder, RECIPE, ENV).env["threads"] == 2


def test_a_folder_that_cannot_be_filled_is_gone(tmp_path):
    with files_limited_to(100), pytest.raises(RunError, match="could not be written"):
        Run.create(tmp_path / "run", RECIPE, ENV)
    assert not list(tmp_path.iterdir())


def test_a_folder_that_cannot_be_made_is_one_line(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(RunError, match="could not be made") as caught:
        Run.create(tmp_path / "file" / "run", RECIPE, {})
    assert "\n" not in str(caught.value)


def test_made_up_names_differ(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    made = [Run.create(None, RECIPE, {}) for _ in range(5)]
    assert len({r.path for r in made}) == 5
    assert {r.path.parent.name for r in made} == {"runs"}
    assert all("reference" in r.name for r in made)
    assert [r.name for r in run_folders()] == sorted(r.name for r in made)


def test_of_processes_that_make_a_folder_at_once_one_gets_it(tmp_path):
    code = """if True:
        import sys, time
        from fmnist.errors import RunError
        from fmnist.recipes.recipe import Recipe
        from fmnist.runs.run import Run
        while time.time() < float(sys.argv[2]): pass
        for i in range(50):
            try: print(Run.create(f"{sys.argv[1]}/{i}", Recipe(name="reference"), {}).path)
            except RunError as error: assert "exists already" in str(error)
        for i in range(10):
            print(Run.create(None, Recipe(name="reference"), {}).path)
        """
    start = time.time() + 1.5
    processes = [python(code, "asked", start, cwd=tmp_path) for _ in range(4)]
    made = [process.communicate(timeout=600)[0].splitlines() for process in processes]
    assert [process.returncode for process in processes] == [0] * 4
    paths = [path for lines in made for path in lines]
    assert len(paths) == len(set(paths)) == 50 + 4 * 10, "no two got one folder"


@pytest.mark.parametrize("name", ["missing", "empty", "halfway"])
def test_what_is_no_run_is_refused(tmp_path, name):
    (tmp_path / "empty").mkdir()
    (tmp_path / "halfway").mkdir()  # what a crash between the two files of `create` leaves
    (tmp_path / "halfway" / "env.json").write_text("{}")
    with pytest.raises(RunError, match="expected a run folder"):
        Run(tmp_path / name)
    assert run_folders(tmp_path) == []


@pytest.mark.parametrize("content", ["", '{"a": 1', "[1]", "null"])
def test_damaged_json_is_named(run, content):
    (run.path / "env.json").write_text(content)
    with pytest.raises(RunError, match=r"env\.json: expected a JSON object"):
        _ = run.env


# JSON lines

lines_of_text = st.lists(
    st.dictionaries(st.text(), st.text() | st.integers(-(2**53), 2**53) | st.booleans()), max_size=5
)


@given(lines_of_text)
def test_lines_come_back_as_they_were(tmp_path_factory, lines):
    path = tmp_path_factory.mktemp("lines") / "a.jsonl"
    for line in lines:
        files.append_line(path, line)
    assert files.read_lines(path) == lines


def test_a_name_that_is_no_unicode_is_kept(tmp_path):
    name = os.fsdecode(b"r\xff")
    files.append_line(tmp_path / "a.jsonl", {"run": name})
    files.write_json(tmp_path / "a.json", {"run": name})
    assert files.read_lines(tmp_path / "a.jsonl") == [{"run": name}]
    assert files.read_json(tmp_path / "a.json") == {"run": name}


def test_a_torn_last_line_costs_that_line_alone(tmp_path):
    whole = tmp_path / "whole.jsonl"
    for i in range(3):
        files.append_line(whole, {"epoch": i, "é": "\u2028"})
    content = whole.read_bytes()
    begin = content.rindex(b"\n", 0, -1) + 1
    for cut in range(begin, len(content)):
        torn = tmp_path / "torn.jsonl"
        torn.write_bytes(content[:cut])
        read = files.read_lines(torn)
        assert [line["epoch"] for line in read] in ([0, 1], [0, 1, 2])
        assert len(read) == 3 or cut < len(content) - 1  # only the newline may be missing
        files.append_line(torn, {"epoch": 9})
        assert files.read_lines(torn) == [*read, {"epoch": 9}]


def test_no_file_has_no_lines(tmp_path):
    assert files.read_lines(tmp_path / "none.jsonl") == []


def test_processes_that_append_at_once_lose_nothing(tmp_path):
    path = tmp_path / "ledger.jsonl"
    code = """if True:
        import sys, time
        from pathlib import Path
        from fmnist.files import append_line
        while time.time() < float(sys.argv[3]): pass
        for i in range(40):
            append_line(Path(sys.argv[1]), {"who": sys.argv[2], "i": i, "pad": "x" * 5000})
        """
    start = time.time() + 1.5
    processes = [python(code, path, who, start) for who in "abcd"]
    assert [process.wait(timeout=600) for process in processes] == [0] * 4
    for process in processes:
        process.communicate()
    lines = files.read_lines(path)
    assert len(path.read_bytes().splitlines()) == len(lines) == 160
    for who in "abcd":
        assert [line["i"] for line in lines if line["who"] == who] == list(range(40))


def test_an_append_on_a_full_disk_is_told_and_spoils_nothing(tmp_path):
    path = tmp_path / "ledger.jsonl"
    files.append_line(path, {"n": 1})
    with (
        files_limited_to(50),
        pytest.raises(RunError, match=r"ledger\.jsonl: could not be written"),
    ):
        files.append_line(path, {"n": 2, "pad": "x" * 100})
    assert files.read_lines(path) == [{"n": 1}]
    files.append_line(path, {"n": 3})
    assert files.read_lines(path) == [{"n": 1}, {"n": 3}]


def test_keep_metrics_drops_what_will_be_done_again(run):
    for update in (10, 20, 30):
        run.append_metrics({"update": update, "seconds": 1.0})
    run.keep_metrics(20)
    assert [line["update"] for line in run.metrics()] == [10, 20]


# whole files


def test_a_write_on_a_full_disk_leaves_the_old_file(run):
    run.save_score("val", SCORE)
    run.save_weights(STATE, {"form": "last"})
    run.save_logits("val", np.zeros((4, 2), np.float32), np.zeros(4, np.int32))
    before = {p.name: p.read_bytes() for p in run.path.iterdir()}
    noise = np.random.default_rng(0).normal(size=(1000, 10)).astype(np.float32)
    with files_limited_to(2000):
        with pytest.raises(RunError, match=r"score\.json: could not be written"):
            run.save_score("val", SCORE | {"pad": "x" * 3000})
        with pytest.raises(RunError, match=r"weights\.safetensors: could not be written"):
            run.save_weights({"a": noise}, {})
        with pytest.raises(RunError, match=r"val_logits\.npz: could not be written"):
            run.save_logits("val", noise, np.zeros(1000, np.int32))
    assert {p.name: p.read_bytes() for p in run.path.iterdir()} == before


def test_what_a_run_has_read_follows_its_own_changes_and_loses_no_others(run):
    assert (run.scores, run.env["threads"], run.env["micro_batch"]) == ({}, 2, 7)
    other = Run(run.path)  # as another process has it
    other.save_score("val", SCORE)
    other.change_env(threads=1)
    assert (run.scores, run.env["threads"]) == ({}, 2)
    run.save_score("test", SCORE)
    run.change_env(micro_batch=3)
    assert run.scores == {"val": SCORE, "test": SCORE}
    assert (run.env["threads"], run.env["micro_batch"]) == (1, 3)


def test_a_crash_while_writing_leaves_the_old_file(run):
    run.save_score("val", SCORE)
    code = """if True:
        import os, sys
        from pathlib import Path
        from fmnist.files import write_whole
        def write(path):
            path.write_text('{"val": {"accur')
            os._exit(9)
        write_whole(Path(sys.argv[1]) / "score.json", write)
        """
    process = python(code, run.path)
    assert process.wait(timeout=600) == 9
    process.communicate()
    assert run.scores == {"val": SCORE}
    run.save_score("test", SCORE)
    assert run.scores == {"val": SCORE, "test": SCORE}


def test_a_reader_finds_the_old_file_or_the_new(run):
    code = """if True:
        import json, sys
        from fmnist.runs.run import Run
        score = json.loads(sys.argv[2]) | {"pad": "x" * 300_000}
        for i in range(60):
            Run(sys.argv[1]).save_score("val", score | {"n": i})
        """
    run.save_score("val", SCORE | {"n": -1})
    process = python(code, run.path, json.dumps(SCORE))
    seen = set()
    while process.poll() is None:
        seen.add(Run(run.path).scores["val"]["n"])
    process.communicate()
    assert process.returncode == 0
    assert Run(run.path).scores["val"]["n"] == 59
    assert len(seen) > 5


def test_a_folder_that_vanished_is_told(run, tmp_path):
    run.path.rename(tmp_path / "moved")
    with pytest.raises(RunError, match="could not be written"):
        run.save_score("val", {})
    run.path.write_text("a file where the folder was")
    with pytest.raises(RunError, match="could not be written"):
        run.save_score("val", {})


def test_what_is_not_a_number_is_never_written_as_json(run):
    with pytest.raises(ValueError, match="JSON"):
        run.append_metrics({"loss": float("nan")})
    assert run.metrics() == []


# weights and logits


def test_weights_round_trip(run):
    assert not run.finished
    with pytest.raises(RunError, match=r"has no weights yet.*--resume"):
        run.load_weights()
    whole = np.arange(6, dtype=np.float32).reshape(2, 3)
    weights = {"whole": whole, "turned": whole.T, "empty": np.zeros((0, 3), np.float16)}
    weights |= {"one": np.array(7, np.float32)}
    about = {"classes": ["é", "b"], "shape": [2, 3, 1], "mean": 0, "deviation": 0.5}
    run.save_weights(weights, about)
    assert run.finished
    assert same(run.load_weights(), weights)
    shapes = {name: array.shape for name, array in weights.items()}
    assert same(run.load_weights(shapes), weights)
    assert run.about_weights() == about


def test_logits_round_trip(run):
    logits = np.random.default_rng(0).normal(size=(5, 3)).astype(np.float32)
    run.save_logits("val", logits, np.arange(5))
    with np.load(run.path / "val_logits.npz", allow_pickle=False) as file:
        assert (file["logits"] == logits).all()
        assert (file["labels"] == np.arange(5)).all()


def test_damaged_weights_are_refused(run):
    run.save_weights(STATE, {})
    content = run.weights_path.read_bytes()
    header = json.dumps({"a": {"dtype": "BF16", "shape": [2], "data_offsets": [0, 4]}}).encode()
    unknown = struct.pack("<Q", len(header)) + header + bytes(4)
    for damaged in (b"", content[:5], content[:-1], b"\xff" * len(content), unknown):
        run.weights_path.write_bytes(damaged)
        with pytest.raises(RunError, match=r"weights\.safetensors"):
            run.about_weights()


# checkpoints


def checkpoints(run):
    return sorted(p.name for p in (run.path / "checkpoint").iterdir())


def test_the_newest_two_checkpoints_are_kept(run):
    assert run.checkpoints.load() is None
    for update in (5, 10, 15):
        run.checkpoints.save(update, STATE, {"seconds": update / 2})
    assert checkpoints(run) == [
        f"{n:09}.{kind}" for n in (10, 15) for kind in ("json", "safetensors")
    ]
    arrays, about = run.checkpoints.load()
    assert same(arrays, STATE)
    assert (about["update"], about["seconds"]) == (15, 7.5)
    run.checkpoints.drop()
    assert run.checkpoints.load() is None


def test_a_damaged_checkpoint_falls_back_loudly_to_the_one_before(run):
    run.checkpoints.save(5, STATE, {"seconds": 2.5})
    run.checkpoints.save(10, {k: np.asarray(v + 1) for k, v in STATE.items()}, {"seconds": 5.0})
    flipped = 0
    for file in sorted((run.path / "checkpoint").glob("*10.*")):
        content = file.read_bytes()
        damages = [content[:n] for n in range(0, len(content), 7)]
        for bit in range(0, 8 * len(content), 5):
            damaged = bytearray(content)
            damaged[bit // 8] ^= 1 << bit % 8
            damages.append(bytes(damaged))
        for damage in [None, *damages]:
            file.write_bytes(damage) if damage is not None else file.unlink()
            said = []
            arrays, about = run.checkpoints.load(said.append)
            if about["update"] == 10:  # white space, or the schema, of the small manifest
                assert file.suffix == ".json"
                assert damage is None or arrays["0001 step"] == 8
            elif damage is not None or file.suffix == ".safetensors":
                assert (len(said), about["seconds"]) == (1, 2.5)
                assert said[0].startswith("checkpoint skipped: ")
                assert same(arrays, STATE)
                flipped += 1
        file.write_bytes(content)
    assert flipped > 300
    assert run.checkpoints.load(pytest.fail)[1]["update"] == 10


def test_no_whole_checkpoint_is_none(run):
    run.checkpoints.save(5, STATE, {})
    (run.path / "checkpoint" / "000000005.safetensors").write_bytes(b"")
    said = []
    assert run.checkpoints.load(said.append) is None
    assert len(said) == 1


def test_a_checkpoint_on_a_full_disk_leaves_the_last(run):
    run.checkpoints.save(5, STATE, {})
    with files_limited_to(2000), pytest.raises(RunError, match="could not be written"):
        run.checkpoints.save(10, {"a": np.zeros(4000)}, {})
    arrays, about = run.checkpoints.load(pytest.fail)
    assert about["update"] == 5
    assert same(arrays, STATE)


def test_a_checkpoint_folder_that_cannot_be_made_is_told(run):
    (run.path / "checkpoint").write_text("in the way")
    with pytest.raises(RunError, match="could not be made"):
        run.checkpoints.save(5, STATE, {})


# what they were trained by


@pytest.mark.parametrize(
    ("file", "change"),
    [
        ("recipe.json", {"seed": 1}),
        ("recipe.json", {"learning_rate": 0.5}),
        ("recipe.json", {"fit_on": "all"}),
        ("env.json", {"mean": 0.4}),
        ("env.json", {"micro_batch": 3}),
        ("env.json", {"precision": "bfloat16"}),
        ("env.json", {"threads": 1}),
        ("env.json", {"teachers": [{"run": "a", "weights": "0"}]}),
    ],
)
def test_another_recipe_or_environment_than_a_checkpoints_is_refused(run, file, change):
    run.checkpoints.save(5, STATE, {})
    kept = files.read_json(run.path / file)
    files.write_json(run.path / file, kept | change)
    with pytest.raises(RunError, match=f"expected the {file} that its checkpoint came from"):
        Run(run.path).checkpoints.load(pytest.fail, {"of another shape": (3,)})
    files.write_json(run.path / file, kept | {"command": ["fmnist"]} if "env" in file else kept)
    assert Run(run.path).checkpoints.load(pytest.fail)[1]["update"] == 5


def test_another_runs_checkpoint_is_refused(run):
    other = Run.create(run.path.parent / "other", RECIPE.changed(seed=3), ENV)
    other.checkpoints.save(5, STATE, {})
    shutil.copytree(other.checkpoints.folder, run.checkpoints.folder)
    with pytest.raises(RunError, match=r"expected the recipe\.json that its checkpoint"):
        run.checkpoints.load()


def test_a_micro_batch_that_was_halved_is_no_change_and_older_files_say_nothing(run):
    run.checkpoints.save(5, STATE, {})
    run.change_env(micro_batch=3, halved=[7])
    assert run.checkpoints.load(pytest.fail)[1]["update"] == 5
    _, about = run.checkpoints.load()
    file = run.checkpoints.folder / "000000005.safetensors"
    del about["origin"]
    files.save_arrays(file, STATE, {"about": json.dumps(about)})
    files.write_json(file.with_suffix(".json"), {"schema": 1, "sha256": files.sha256(file)})
    run.change_env(micro_batch=1)
    assert run.checkpoints.load(pytest.fail)[1]["update"] == 5


# the lock


def test_a_run_that_was_moved_away_writes_nothing_into_another(run, tmp_path):
    other = Run.create(tmp_path / "other", RECIPE, ENV)
    other.checkpoints.save(5, STATE, {})
    before = {p: p.read_bytes() for p in other.path.rglob("*") if p.is_file()}
    logits = np.zeros((3, 3), np.float32), np.zeros(3, np.int32)
    with run.locked():
        run.append_metrics({"update": 1, "seconds": 1.0})
        run.path.rename(tmp_path / "away")
        other.path.rename(run.path)
        for write in (
            lambda: run.append_metrics({"update": 2, "seconds": 2.0}),
            lambda: run.keep_metrics(1),
            lambda: run.save_score("val", SCORE),
            lambda: run.save_logits("val", *logits),
            lambda: run.save_weights(STATE, {}),
            lambda: run.change_env(threads=1),
            lambda: run.checkpoints.save(9, STATE, {}),
            run.checkpoints.drop,
        ):
            with pytest.raises(RunError, match="the run was moved away"):
                write()
    run.path.rename(other.path)
    assert {p: p.read_bytes() for p in other.path.rglob("*") if p.is_file()} == before


def test_a_score_is_only_written_to_the_run_whose_weights_it_is_of(run, tmp_path):
    run.save_weights({"kernel": np.zeros(3, "float32")}, {})
    shutil.copytree(run.path, tmp_path / "other")
    run.load_weights()
    run.save_score("val", SCORE)
    run.path.rename(tmp_path / "away")
    (tmp_path / "other").rename(run.path)
    for write in (lambda: run.save_score("test", SCORE), lambda: run.enter_in_ledger({})):
        with pytest.raises(RunError, match="the run was moved away"):
            write()
    assert Run(run.path).scores == {}
    assert not run.ledger.path.exists()


def test_a_run_is_trained_by_one_process_at_a_time(run):
    code = """if True:
        import sys
        from fmnist.runs.run import Run
        with Run(sys.argv[1]).locked():
            print("held", flush=True)
            sys.stdin.read()
        """
    process = python(code, run.path, stdin=subprocess.PIPE)
    assert process.stdout.readline() == "held\n"
    with pytest.raises(RunError, match="another process is training"), run.locked():
        pytest.fail("two hold the lock")
    process.send_signal(signal.SIGKILL)
    process.communicate(timeout=600)
    with run.locked():
        pass
    with run.locked():  # given back
        pass


# the ledger


def test_the_ledger_counts_by_weights(run, tmp_path):
    other = Run.create(run.path.parent / "second", RECIPE, {})
    for number, each in enumerate((run, other)):
        each.save_weights({"kernel": np.full(3, number, "float32")}, {})
    assert run.times_opened() == 0
    assert [run.enter_in_ledger({"n": 60, "correct": i}) for i in range(3)] == [1, 2, 3]
    assert other.enter_in_ledger({"n": 60, "correct": 1}) == 1
    assert (run.times_opened(), other.times_opened()) == (3, 1)
    assert run.ledger.path == other.ledger.path == run.path.parent / "ledger.jsonl"
    first = run.ledger.lines()[0]
    assert first.items() >= {"run": "first", "n": 60, "correct": 0}.items()
    assert first["when"].endswith("+00:00")
    twin = shutil.copytree(run.path, run.path.parent / "twin")
    assert Run(twin).times_opened() == 0, "equal weights are no score of its own"
    assert Run(twin).enter_in_ledger({}, "verification") == 0
    assert Run(twin).enter_in_ledger({}) == 4, "another name is no other model"
    assert run.times_opened() == 4
    run.save_score("test", SCORE | {"times_opened": 3})
    moved = Run(shutil.copytree(run.path, tmp_path / "elsewhere" / "moved"))
    assert moved.times_opened() == 3
    assert moved.enter_in_ledger({}) == 4


def test_the_ledger_counts_what_was_decided_on(run):
    """Verifications and files of the same weights stand apart, also in lines without a kind."""
    run.save_weights({"kernel": np.zeros(3, "float32")}, {})
    run.ledger.path.touch()
    assert run.ledger.lines() == []
    weights = files.sha256(run.weights_path)
    old = {"run": "first", "weights": weights, "form": "keras", "views": "one"}
    for line in (old, old, old | {"form": "onnx, float16"}, old | {"run": ".out.12.tmp"}):
        run.ledger.enter(line)
    assert run.scorings() == {"score": 1, "verification": 0, "export": 3}
    assert run.enter_in_ledger({}, "verification") == 1
    assert run.enter_in_ledger({"form": "onnx, int8"}, "export") == 1
    assert run.enter_in_ledger({"form": "keras", "views": "one"}) == 2
    assert run.enter_in_ledger({"form": "litert, int8"}, "export") == 2, "no old export's first"
    assert run.scorings() == {"score": 2, "verification": 1, "export": 5}
    assert not_counted(run.scorings()) == (
        "not counted: 1 verification and 5 scores of exported files"
    )


def test_a_run_has_its_name_from_wherever_it_is_opened(run, monkeypatch):
    run.save_weights({"kernel": np.zeros(3, "float32")}, {})
    run.enter_in_ledger({})
    monkeypatch.chdir(run.path)
    assert Run(".").name == "first"
    assert Run(".").times_opened() == 1


def test_a_pipe_or_link_in_a_files_place_is_refused(tmp_path):
    """The ledger and each lock: nothing is waited for, and nothing is written through a link."""
    for name, make in (
        ("pipe", os.mkfifo),
        ("link", lambda path: path.symlink_to(tmp_path / "elsewhere")),
    ):
        path = tmp_path / name
        make(path)
        for use in (
            lambda path: files.append_line(path, {"a": 1}),
            files.read_lines,
            lambda path: files.held(path, "held").__enter__(),
        ):
            with pytest.raises(RunError, match="expected a file, found something else"):
                use(path)
    assert not (tmp_path / "elsewhere").exists()


# names


def test_a_run_is_found_by_its_name_whatever_else_is_called_so(run, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for make in (Path.mkdir, Path.rmdir, Path.touch, Path.unlink):
        for name in ("first", "latest"):
            make(tmp_path / name)
        for name in ("first", "latest", "runs/first", run):
            assert find_run(name).name == "first"
    Run.create("first", RECIPE, ENV)
    assert find_run("first").path == Path("first")  # a run there comes first
