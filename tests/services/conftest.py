"""Fixtures for services: programs that are a few lines of Python."""

import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from trading_pipelines.services.processes import Program

HEAD = """
import os, pathlib, signal, subprocess, sys, time
pathlib.Path({started!r} + ".new").write_text(str(os.getpid()))
pathlib.Path({started!r} + ".new").rename({started!r})
"""
MakeProgram = Callable[..., Program]


@pytest.fixture
def make_program(tmp_path: Path) -> MakeProgram:
    """Build a program whose body is given; it announces itself in a file of its name once it runs."""

    def make(name: str, body: str, grace_seconds: float = 10.0) -> Program:
        started = tmp_path / f"{name}.started"
        head = HEAD.format(started=str(started))
        return Program(name, (sys.executable, "-c", head + body), started.exists, grace_seconds)

    return make
