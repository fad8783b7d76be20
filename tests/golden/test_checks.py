"""The checks of the whole tree, as tests: one command runs them all."""

import subprocess
import sys

import pytest
from kit import ROOT

CHECKS = {
    "ruff check": [sys.executable, "-m", "ruff", "check", "."],
    "ruff format": [sys.executable, "-m", "ruff", "format", "--check", "."],
    "mypy --strict": [sys.executable, "-m", "mypy"],
    "import-linter": [
        sys.executable,
        "-c",
        "from importlinter.cli import lint_imports_command; lint_imports_command()",
    ],
}


SLOW = pytest.param("mypy --strict", marks=pytest.mark.slow)


@pytest.mark.parametrize("name", [SLOW if name == "mypy --strict" else name for name in CHECKS])
def test_check(name):
    done = subprocess.run(CHECKS[name], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
