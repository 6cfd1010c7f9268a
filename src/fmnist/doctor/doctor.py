"""Checks this machine and installation, and gives a command that fixes each fault.

It loads no engine itself. Each is tried in its own process with a time limit, since an engine that
does not fit the machine may fail, crash or hang. It works in the base install too.
"""

import dataclasses
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from typing import Any

from packaging.utils import canonicalize_name

from fmnist.doctor.engines import check_backend
from fmnist.doctor.findings import Finding
from fmnist.doctor.gpus import check
from fmnist.doctor.machine import check_data, check_disk, check_memory, check_threads
from fmnist.doctor.packages import check_packages, check_python


def diagnose(seconds: float = 120, root: Path = Path("/")) -> list[Finding]:
    """Run all checks; an engine that does not answer within `seconds` counts as broken.

    `root` is the folder that holds the system's files.
    """
    installed: dict[str, str] = {
        canonicalize_name(each.name): each.version for each in metadata.distributions() if each.name
    }
    gpus, expects_gpu = check(installed, root)
    return [
        check_python(),
        *check_packages(installed),
        *gpus,
        *check_backend(installed, expects_gpu, seconds),
        check_threads(),
        check_memory(),
        check_disk(),
        check_data(),
    ]


def lines(findings: list[Finding]) -> Iterator[str]:
    """The findings as a plain table, with the command that fixes each below it."""
    wide = max(len(finding.about) for finding in findings)
    for finding in findings:
        level = finding.level.upper() if finding.level == "wrong" else finding.level
        yield f"{finding.about:{wide}}  {level:5}  {finding.found}"
        if finding.mend:
            yield f"{'':{wide}}         {finding.mend}"


def to_json(findings: list[Finding]) -> dict[str, Any]:
    """The findings for a script; `healthy` unless one of them is wrong."""
    return {
        "healthy": all(finding.level != "wrong" for finding in findings),
        "findings": [
            dataclasses.asdict(finding) | {"about": finding.about.strip()} for finding in findings
        ],
    }
