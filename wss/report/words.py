"""Counts and lists as English text."""

from __future__ import annotations

from collections.abc import Sequence


def counted(count: int, noun: str) -> str:
    """Return a count with its noun, such as ``1 decode step`` or ``4,096 requests``."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def joined(names: Sequence[str], most: int = 6) -> str:
    """Return *names* as a list in a sentence; beyond *most* names, the rest is counted."""
    if len(names) > most:
        names = [*names[: most - 1], f"{len(names) - most + 1} others"]
    return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)
