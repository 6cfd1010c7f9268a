"""README and docs/: their Python runs, and the commands, files, links and figures in them exist."""

import json
import re
import runpy
import statistics
from pathlib import Path

import pytest
import typer
from idx import write_idx_set

from fmnist.cli.main import app
from fmnist.engine.architecture import describe

ROOT = next(path for path in Path(__file__).parents if (path / "pyproject.toml").is_file())
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
TEXTS = {str(path.relative_to(ROOT)): path.read_text(encoding="utf-8") for path in PAGES}
BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", flags=re.DOTALL | re.MULTILINE)
PYTHON = [
    (page, code)
    for page, text in TEXTS.items()
    for language, code in BLOCK.findall(text)
    if language == "python"
]
# A row of a table of recipes.
ROW = re.compile(
    r"^\| `(?P<recipe>[\w-]+)`[^|]*\| (?P<parameters>[\d,]+) \| \*\*(?P<accuracy>[\d.]+) %\*\*"
    r"(?: ± (?P<spread>[\d.]+))?, (?P<seeds>\d+) seeds? \| (?P<seconds>[\d,]+), [^|]+\| "
    r"`(?P<record>records/[^`]+)` \|$",
    flags=re.MULTILINE,
)
each_page = pytest.mark.parametrize("page", TEXTS)


def commands(text: str) -> list[str]:
    """Every `fmnist …` of a page: the lines of shell blocks, and what stands in backticks."""
    shell = "\n".join(code for language, code in BLOCK.findall(text) if language == "sh")
    lines = shell.replace("\\\n", " ").splitlines()
    lines += re.findall(r"`([^`\n]+)`", BLOCK.sub("", text))
    found = (re.search(r"(?:^|\s|/)fmnist (?=[a-z]|--)([^#]+)", line) for line in lines)
    return [match[1].strip() for match in found if match]


def test_the_readme_fits_on_few_screens():
    assert len(TEXTS["README.md"].splitlines()) <= 120


@pytest.mark.parametrize(("page", "code"), PYTHON, ids=[page for page, _ in PYTHON])
def test_python_blocks_run(page, code, tmp_path, monkeypatch):
    """On a small set in place of Fashion-MNIST."""
    monkeypatch.setenv("FMNIST_DATA", str(write_idx_set(tmp_path / "set", train=360)))
    monkeypatch.chdir(tmp_path)
    names = {}
    exec(compile(code, page, "exec"), names)
    made = {path.name for path in tmp_path.iterdir()}
    if "probabilities" in names:
        assert names["probabilities"].shape == (len(names["images"]), 10)
    elif "build" in names:  # a file for --network
        assert describe(names["build"], (28, 28, 1), 10).batch_statistics
    elif "x" in names:
        assert f"# {names['data']}\n" in code
    else:
        assert made & {"runs", "log.csv"}


def test_there_is_python_to_run():
    assert [page for page, _ in PYTHON].count("README.md") == 1
    assert len(PYTHON) >= 4


@each_page
def test_every_command_and_option_named_exists(page):
    group = typer.main.get_command(app)
    for line in commands(TEXTS[page]):
        words = line.split()
        if words[0].startswith("--"):  # an option of `fmnist` itself
            continue
        command = group.commands[words[0]]
        if len(words) > 1 and words[1] in getattr(command, "commands", {}):
            command = command.commands[words[1]]
        known = {name for parameter in command.params for name in parameter.opts} | {"--help"}
        assert {w for w in words if w.startswith("--")} <= known, line


def test_commands_are_found_where_they_stand():
    text = "`fmnist a --b` `x`\n```sh\nK=1 .venv/bin/fmnist c \\\n    --d # fmnist e\n```\n"
    assert [line.split() for line in commands(text)] == [["c", "--d"], ["a", "--b"]]
    assert len(commands(TEXTS["README.md"])) >= 15


def test_the_readme_has_a_row_for_each_command():
    named = {line.split()[0] for line in commands(TEXTS["README.md"])}
    assert named >= set(typer.main.get_command(app).commands)


@each_page
def test_every_file_and_target_named_exists(page):
    text = TEXTS[page]
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for target in re.findall(r"(?:^|`)make ([a-z]+)", text, flags=re.MULTILINE):
        assert f"\n{target}:" in makefile, target
    for path in re.findall(r"(?:tools|benchmarks)/\w+\.py", text):
        assert (ROOT / path).is_file(), path
    for path in re.findall(r"`((?:src|records|docs|notebooks|web-build)/[^`\s<>]*)`", text):
        assert (ROOT / path).exists(), path
    for module in re.findall(r"python -m (fmnist[\w.]*)", text):
        path = ROOT / "src" / module.replace(".", "/")
        assert path.is_dir() or path.with_suffix(".py").is_file(), module


@each_page
def test_every_link_leads_somewhere(page):
    text = BLOCK.sub("", TEXTS[page])
    for target in re.findall(r"\]\(([^)\s]+)\)", text) + re.findall(r'src="([^"]+)"', text):
        if "://" in target:
            continue
        file, _, anchor = target.partition("#")
        path = (ROOT / page).parent / file
        assert path.is_file(), target
        if anchor:
            headings = re.findall(r"^#+ (.+)$", path.read_text(encoding="utf-8"), re.MULTILINE)
            assert anchor in {re.sub(r"\W+", "-", h.lower()).strip("-") for h in headings}, target


@pytest.mark.parametrize(("page", "rows"), [("README.md", 4), ("docs/results.md", 7)])
def test_the_figures_of_a_table_of_recipes_are_in_its_records(page, rows):
    quoted = list(ROW.finditer(TEXTS[page]))
    assert len(quoted) == rows
    for row in quoted:
        text = (ROOT / row["record"] / "results.jsonl").read_text(encoding="utf-8")
        lines = [json.loads(line) for line in text.splitlines()]
        accuracies = [100 * line["accuracy"] for line in lines]
        spread = f"{statistics.stdev(accuracies):.2f}" if len(lines) > 1 else None
        assert row["accuracy"] == f"{statistics.mean(accuracies):.2f}"
        assert row["spread"] == spread
        assert row["seeds"] == str(len(lines))
        assert row["parameters"] == f"{lines[0]['parameters']:,}"
        assert row["seconds"] == f"{statistics.median(line['seconds'] for line in lines):,.0f}"


def test_the_page_of_commands_has_them_all():
    """tools/site.py makes it for `make docs`."""
    page = runpy.run_path(str(ROOT / "tools" / "site.py"))["page"]()
    group = typer.main.get_command(app)
    for name, command in group.commands.items():
        assert f"\n## fmnist {name}\n" in page
        for parameter in command.params:
            assert all(option in page for option in parameter.opts if option.startswith("--"))
    assert "\n### fmnist runs show\n" in page
