"""Pages of HTML from this package's templates, in which whatever a name says is escaped."""

from pathlib import Path
from typing import TYPE_CHECKING

from fmnist.reports.pictures import png_uri

if TYPE_CHECKING:
    from jinja2 import Environment


def environment(*folders: Path) -> "Environment":
    """How the templates of this package and of other folders are filled.

    What is missing in one is an error.
    """
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    filled = Environment(
        loader=FileSystemLoader([*folders, Path(__file__).parent]),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    filled.filters["percent"] = lambda share, digits=2: f"{100 * share:.{digits}f}"
    filled.filters["signed"] = lambda points: f"{points:+.2f}".replace("-", "−")
    filled.filters["png"] = png_uri
    return filled
