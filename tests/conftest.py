"""Settings of all tests."""

import os

from hypothesis import settings

settings.register_profile("here", deadline=None)
settings.register_profile("ci", deadline=None, derandomize=True)
settings.load_profile("ci" if os.environ.get("CI") else "here")

LONG = (
    "test_sweep",
    "test_docs",
    "test_synth",
    "test_engine_properties",
    "test_testing",
    "test_balanced",
    "test_artifact",
)


def pytest_collection_modifyitems(items):
    """Let the files that take longest begin first: one that begins last would leave the other cores idle."""
    items.sort(key=lambda item: LONG.index(item.path.stem) if item.path.stem in LONG else len(LONG))
