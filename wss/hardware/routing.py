"""Which way a transfer goes: XY routing on the mesh, X first.

Dimension order makes the channel-dependency graph acyclic, so the network cannot deadlock (Dally and Seitz, 1987).
"""

from __future__ import annotations

from wss.hardware.topology import Coordinate


def xy(source: Coordinate, target: Coordinate) -> list[Coordinate]:
    """Return the dies on the way from *source* to *target*, both included: along X first, then along Y."""
    x, y = source
    path = [source]
    while x != target[0]:
        x += 1 if target[0] > x else -1
        path.append((x, y))
    while y != target[1]:
        y += 1 if target[1] > y else -1
        path.append((x, y))
    return path
