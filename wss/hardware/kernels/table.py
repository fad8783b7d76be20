"""Measured kernel times on a grid, which take the place of formulas; interpolation is linear in every axis.

Between grid points the time is the weighted sum of the corners of the cell. A grid may be ragged: a missing corner is
left out, and the weights of the others are scaled to sum to 1. Beyond the last point of an axis the last cell is
continued, but never below the time at its edge. Below the first point, the first point's time holds.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import product

import numpy as np

from wss.errors import KernelError, did_you_mean
from wss.records import BoolArray, FloatArray, IntArray

# What the axes a, b, c and d of an operation are; every axis is a whole number.
AXES: dict[str, tuple[str, ...]] = {
    "attention": ("prefill tokens", "KV tokens before them", "decodes", "mean KV tokens of the decodes"),
    "moe": ("tokens", "distinct experts"),
    "head": ("sequences",),
    "sampler": ("sequences",),
    "all_reduce": ("bytes of the whole",),
    "all_gather": ("bytes of the whole",),
    "reduce_scatter": ("bytes of the whole",),
    "dispatch": ("tokens of a rank",),
    "combine": ("tokens of a rank",),
}
DENSE = "dense."  # begins the name of a dense part, such as "dense.qkv_proj", with the axis tokens
LARGEST_GRID = 2**62  # of the product of the numbers of grid values of all axes


def axes_of(op: str) -> tuple[str, ...] | None:
    """Return what the axes of *op* are; None if there is no such operation."""
    return ("tokens",) if op.startswith(DENSE) and len(op) > len(DENSE) else AXES.get(op)


@dataclass(frozen=True, eq=False)
class Grid:
    """The points of one operation.

    Attributes
    ----------
    axes
        The values of each axis, rising.
    keys
        The place of each point in the whole grid, as one number, rising, [points].
    seconds
        The time of each point, [points].
    """

    axes: tuple[FloatArray, ...]
    keys: IntArray
    seconds: FloatArray

    @classmethod
    def of(cls, points: FloatArray, seconds: FloatArray) -> Grid:
        """Return the grid of *points*, [points, axes], and their *seconds*, [points].

        Raises ValueError if a point occurs twice, or the axes have too many values.
        """
        found = [np.unique(column, return_inverse=True) for column in points.T]
        axes, places = tuple(axis for axis, _ in found), tuple(place for _, place in found)
        sizes = [len(axis) for axis in axes]
        if np.prod([float(size) for size in sizes]) > LARGEST_GRID:
            raise ValueError("its axes have too many different values; give points on a grid")
        keys = np.asarray(np.ravel_multi_index(places, sizes), np.int64)
        order = np.argsort(keys, kind="stable")
        keys = keys[order]
        if (twice := keys[1:] == keys[:-1]).any():
            point = points[order[1:][twice][0]]
            raise ValueError(f"it has the point {', '.join(f'{x:g}' for x in point)} twice; keep one")
        return cls(axes, keys, seconds[order])

    def at(self, points: FloatArray) -> tuple[FloatArray, BoolArray, BoolArray]:
        """Return the seconds at *points*, [points, axes]; which are beyond the grid, and which in a gap, [points].

        In a gap, no corner of the cell was measured: the time is that of the nearest point by steps of the grid.
        """
        edge = np.array([[axis[0], axis[-1]] for axis in self.axes])
        inside = np.clip(points, edge[:, 0], edge[:, 1])
        beyond = np.asarray((points > edge[:, 1]).any(axis=1))
        seconds, weight, _ = self._weighted(inside)
        gap = np.asarray(weight <= 0)
        if gap.any():
            seconds[gap] = self._nearest(inside[gap])
        if beyond.any():
            further, _, complete = self._weighted(np.maximum(points[beyond], edge[:, 0]))
            seconds[beyond] = np.where(complete, np.maximum(further, seconds[beyond]), seconds[beyond])
        return seconds, beyond, gap

    def _weighted(self, points: FloatArray) -> tuple[FloatArray, FloatArray, BoolArray]:
        """Return the weighted sum of corners; the weight of those that exist, [points]; whether all do, [points]."""
        low, share = self._cells(points)
        total, weight, whole = np.zeros(len(points)), np.zeros(len(points)), np.ones(len(points), np.bool_)
        for corner in product((0, 1), repeat=len(self.axes)):
            part = np.prod(np.where(corner, share, 1 - share), axis=1)
            place = [
                np.minimum(low[:, i] + up, len(axis) - 1)
                for i, (axis, up) in enumerate(zip(self.axes, corner, strict=True))
            ]
            seconds, exists = self._points(place)
            total += np.where(exists, part * seconds, 0.0)
            weight += np.where(exists, part, 0.0)
            whole &= exists | (part == 0)
        return np.divide(total, weight, out=np.zeros(len(points)), where=weight > 0), weight, whole

    def _cells(self, points: FloatArray) -> tuple[IntArray, FloatArray]:
        """Return the lower corner of each point's cell, and the share of its upper one, both [points, axes]."""
        low, share = np.zeros(points.shape, np.int64), np.zeros(points.shape)
        for i, axis in enumerate(self.axes):
            if len(axis) > 1:
                low[:, i] = np.clip(np.searchsorted(axis, points[:, i], side="right") - 1, 0, len(axis) - 2)
                start = axis[low[:, i]]
                share[:, i] = (points[:, i] - start) / (axis[low[:, i] + 1] - start)
        return low, share

    def _points(self, place: list[IntArray]) -> tuple[FloatArray, BoolArray]:
        """Return the seconds at grid places, one array an axis, and whether they were measured."""
        keys = np.ravel_multi_index(place, [len(axis) for axis in self.axes])
        found = np.minimum(np.searchsorted(self.keys, keys), len(self.keys) - 1)
        return self.seconds[found], self.keys[found] == keys

    def _nearest(self, points: FloatArray) -> FloatArray:
        """Return the time of the nearest grid point by steps of the grid, of several the longest, [points]."""
        low, share = self._cells(points)
        places = np.stack(np.unravel_index(self.keys, [len(axis) for axis in self.axes]), axis=1)
        found = np.zeros(len(points))
        for i, at in enumerate(low + share):
            steps = np.abs(places - at).sum(axis=1)
            found[i] = self.seconds[steps <= steps.min() + 1e-9].max()
        return found


@dataclass(frozen=True, eq=False, kw_only=True)
class KernelTable:
    """Measured kernels of one GPU: a grid for each operation; *source* and *licence* say where they are from."""

    gpu: str
    source: str
    licence: str
    grids: Mapping[str, Grid]

    def seconds(self, op: str, points: FloatArray) -> tuple[FloatArray, tuple[str, ...]]:
        """Return the time of *op* at *points*, [points, axes], in seconds, [points]; and notes on guesses.

        Raises KernelError if the table has no such operation.
        """
        if op not in self.grids:
            raise KernelError(f"kernels: the table has no {op!r}; {did_you_mean(op, self.grids)}")
        seconds, beyond, gap = self.grids[op].at(np.asarray(points, np.float64))
        notes = []
        if beyond.any():
            notes.append(f"kernels: {op} is looked up beyond the table; its last cell is continued")
        if gap.any():
            notes.append(f"kernels: {op} is looked up in a gap of the table; the nearest point's time is taken")
        return seconds, tuple(notes)
