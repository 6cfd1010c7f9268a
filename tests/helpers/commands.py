"""The command line, in this process or in one of its own, and what it answered."""

import contextlib
import io
import json
import signal
import subprocess
import sys
from typing import NamedTuple

import pytest

from fmnist.cli.main import main


class Done(NamedTuple):
    code: int
    out: str
    err: str

    @property
    def json(self):
        """The one JSON value on stdout, and nothing else there."""
        assert self.code == 0, self.err
        assert self.out.count("\n") == 1
        return json.loads(self.out)


def call(*arguments):
    """`fmnist ARGUMENTS` in this process."""
    out, err = io.StringIO(), io.StringIO()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["fmnist", *map(str, arguments)])
        with (
            contextlib.redirect_stdout(out),
            contextlib.redirect_stderr(err),
            pytest.raises(SystemExit) as stop,
        ):
            main()
    return Done(stop.value.code or 0, out.getvalue(), err.getvalue())


def own_process(*arguments, **options):
    """`fmnist ARGUMENTS` in a process of its own."""
    return subprocess.Popen(
        [sys.executable, "-m", "fmnist", *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # A test runner in the background ignores Ctrl-C, and its children would too.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
        **options,
    )


def refused(done, code):
    """The error's one line, having checked that it is the only one."""
    assert (done.code, done.out) == (code, ""), done
    lines = done.err.splitlines()
    assert len(lines) == 1, done.err
    assert lines[0].startswith("error: ")
    return lines[0]
