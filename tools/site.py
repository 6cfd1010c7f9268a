"""What `make docs` adds to docs/: the page of commands, made from the commands themselves.

    python tools/site.py        # prints the page

MkDocs calls the functions whose names begin with `on_`. Every page is looked through at the end:
none may load a script, a style or a font from another place.
"""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import typer

from fmnist.cli.main import app

HEAD = """# Commands

Every command with its options, as `fmnist COMMAND --help` prints them. The option `--json` makes a
command print JSON and nothing else. Errors are one line on standard error.
"""
# An element that makes a browser fetch something from another host.
FOREIGN = re.compile(
    r"<(?:script|img|iframe|source)\b[^>]*\bsrc=[\"']?(?:https?:)?//"
    r"|<link\b(?![^>]*rel=[\"']?canonical)[^>]*\bhref=[\"']?(?:https?:)?//"
)


def commands(group: Any, words: str = "fmnist") -> Iterator[tuple[str, Any]]:
    """Each command and its words, groups first."""
    for name, command in group.commands.items():
        yield f"{words} {name}", command
        if hasattr(command, "commands"):
            yield from commands(command, f"{words} {name}")


def section(words: str, command: Any) -> str:
    """A command's heading and its help, as an 80-column terminal shows it."""
    context = typer.Context(command, info_name=words, terminal_width=80)
    level = "#" * words.count(" ")
    return f"\n#{level} {words}\n\n```text\n{command.get_help(context)}\n```\n"


def page() -> str:
    """The whole page as Markdown."""
    group: Any = typer.main.get_command(app)
    epilog = " ".join((group.epilog or "").split())
    return HEAD + f"\n{epilog}\n" + "".join(section(*each) for each in commands(group))


def on_files(files: Any, config: Any) -> Any:
    """Put the page among those of docs/."""
    from mkdocs.structure.files import File

    files.append(File.generated(config, "commands.md", content=page()))
    return files


def on_post_build(config: Any) -> None:
    """Refuse a site that asks another host for anything."""
    from mkdocs.exceptions import PluginError

    site = Path(config["site_dir"])
    for path in sorted(site.rglob("*.html")):
        if found := FOREIGN.search(path.read_text(encoding="utf-8")):
            raise PluginError(f"{path.relative_to(site)}: loads from elsewhere: {found[0]}")


if __name__ == "__main__":
    print(page())
