"""Settings of all tests."""

import os

import pytest
from hypothesis import settings

settings.register_profile("here", deadline=None, max_examples=50)
settings.register_profile("ci", deadline=None, max_examples=50, derandomize=True)
settings.load_profile("ci" if os.environ.get("CI") else "here")

# What compiles most, and what takes longest, begins first: a file that begins last would leave the other cores idle.
# A function that two workers compile at once is compiled twice, so that neighbours here need different ones.
FIRST = (
    "test_testing",
    "test_kills",
    "test_artifact",
    "test_docs",
    "test_unread",
    "test_sweep",
    "test_cli",
    "test_report",
)


def pytest_collection_modifyitems(items):
    """Put the files that should begin first first, and mark each test with the name of its folder."""
    for item in items:
        item.add_marker(item.path.parent.name)
    items.sort(key=lambda item: FIRST.index(item.path.stem) if item.path.stem in FIRST else len(FIRST))


LEFT_OUT = pytest.StashKey[list[str]]()


def pytest_configure(config):
    """Keep the names of the slow tests that this run leaves out."""
    config.stash[LEFT_OUT] = []


def pytest_deselected(items):
    """Note the tests that the marker expression leaves out."""
    for item in items:
        item.config.stash[LEFT_OUT].append(item.path.stem)


def pytest_sessionfinish(session):
    """Hand the names on from a worker of pytest-xdist."""
    if hasattr(session.config, "workeroutput"):
        session.config.workeroutput["left_out"] = session.config.stash[LEFT_OUT]


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node):
    """Take the names from a worker; each worker collects all tests."""
    node.config.stash[LEFT_OUT] = getattr(node, "workeroutput", {}).get("left_out", [])


def pytest_terminal_summary(terminalreporter, config):
    """Say what a default run left out."""
    left_out = config.stash[LEFT_OUT]
    if left_out and config.getoption("markexpr") == "not slow":
        files = ", ".join(sorted(set(left_out)))
        line = f"Left out: {len(left_out)} slow tests ({files}). To run them: python -m pytest -m slow"
        terminalreporter.write_line(line)
