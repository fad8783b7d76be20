"""The resources of a wafer, and the tables of which transfer uses which of them, in which order.

Resources are indexed: HBM of die 0, 1, ..., then link 0, 1, ..., then LLC of die 0, 1, ... Each has two accounts, for
the bytes that it carries: for an HBM, bytes read and bytes written; for a link, data and requests; for an LLC, bytes
read and an unused one.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from wss.arrays import records
from wss.hardware.wafer import Wafer
from wss.records import BoolArray, FloatArray, IntArray, Plan, Traffic

# A stage of a transfer: the resource that it uses, bytes per byte of the transfer, whether they go to the second
# account, whether they are requests, for which a circuit holds nothing, and seconds from its end until the next stage.
STAGE = np.dtype(
    [
        ("resource", np.int64),
        ("share", np.float64),
        ("second", np.bool_),
        ("request", np.bool_),
        ("after", np.float64),
    ],
    align=True,
)
# A row of a table: the number of its stages, seconds before the first, and all seconds in which no resource is used.
ROW = np.dtype([("length", np.int64), ("before", np.float64), ("latency", np.float64)])


class Accounts(NamedTuple):
    """What each resource has carried, [resources] each: bytes of its first and of its second account, busy seconds."""

    moved: FloatArray
    also_moved: FloatArray
    busy: FloatArray


@dataclass(frozen=True, eq=False)
class Resources:
    """What transfers share.

    Attributes
    ----------
    capacity
        B/s of each resource, [resources].
    num_dies
        Number of dies with an HBM and an LLC; 0 if only links are modelled.
    links
        Source and target of each link, [links, 2].
    """

    capacity: FloatArray
    num_dies: int
    links: IntArray

    @classmethod
    def from_wafer(cls, wafer: Wafer) -> Resources:
        """Return the resources of *wafer*."""
        dies, die = wafer.num_dies, wafer.spec.die
        memories = np.full(dies, die.hbm.bandwidth), wafer.link_bandwidth, np.full(dies, die.llc.bandwidth)
        return cls(np.concatenate(memories), dies, wafer.links)

    @property
    def is_link(self) -> BoolArray:
        """Which resources are links, [resources]."""
        is_link = np.zeros(len(self.capacity), np.bool_)
        is_link[self.num_dies : self.num_dies + len(self.links)] = True
        return is_link

    def traffic(self, accounts: Accounts) -> Traffic:
        """Return the bytes and busy seconds of all resources by kind."""
        dies, ends = self.num_dies, self.num_dies + len(self.links)
        return Traffic(
            hbm_read=accounts.moved[:dies],
            hbm_written=accounts.also_moved[:dies],
            llc_read=accounts.moved[ends:],
            link_data=accounts.moved[dies:ends],
            link_request=accounts.also_moved[dies:ends],
            link_busy=accounts.busy[dies:ends],
        )


class TransferTable(NamedTuple):
    """The stages that a transfer passes in order, one row per kind of transfer.

    Attributes
    ----------
    stages
        `STAGE` records, [rows, longest].
    rows
        `ROW` records, [rows].
    """

    stages: npt.NDArray[Any]
    rows: npt.NDArray[Any]

    def longest(self, resources: Resources, nbytes: FloatArray, latency: float | None = None) -> float:
        """Return an upper bound of the seconds of transfers of *nbytes*, [transfers], one after another.

        *resources* are those of the table; *latency* is the largest of a transfer, s; None: the largest in the table.
        """
        most = self.rows["latency"].max(initial=0.0) if latency is None else latency
        per_byte = self.stages.shape[1] / resources.capacity.min(initial=np.inf)
        return float(nbytes.sum() * per_byte + len(nbytes) * most)


def build_table(rows: int, longest: int) -> TransferTable:
    """Return a table of zeros."""
    return TransferTable(records((rows, longest), STAGE), records(rows, ROW))


def link_table(resources: Resources, paths: IntArray, latency: FloatArray, link_latency: FloatArray) -> TransferTable:
    """Return the table of transfers over links alone, one row each.

    Parameters
    ----------
    resources
        The resources of the network.
    paths
        Links of each transfer, first link first, padded with -1, [transfers, longest].
    latency, link_latency
        Seconds over all links of each transfer, [transfers]; seconds over each link, [links].
    """
    used = paths >= 0
    table = build_table(len(paths), max(1, paths.shape[1]))
    stages = table.stages[:, : paths.shape[1]]
    stages["resource"], stages["share"] = np.where(used, resources.num_dies + paths, 0), used
    stages["after"] = np.where(used, link_latency[paths], 0.0) if len(link_latency) else 0.0
    table.rows["length"], table.rows["latency"] = used.sum(axis=1), latency
    return table


class ReadTable:
    """The table of all reads of weights on a wafer; a row is filled when a read first uses it.

    A read of n bytes takes, in this order: the links to its source, for n times request/granule bytes of requests; the
    HBM of the source, or its LLC; the links from there, and, if it is kept as a copy, the HBM of its own die.
    """

    def __init__(self, wafer: Wafer) -> None:
        hbm, llc = wafer.spec.die.hbm, wafer.spec.die.llc
        self.resources = Resources.from_wafer(wafer)
        self._wafer = wafer
        one_way = np.where(wafer.routes >= 0, wafer.link_latency[wafer.routes], 0.0).sum(axis=2)
        self._access = llc.miss + hbm.latency, llc.hit
        self._latency = np.stack([llc.miss + hbm.latency + one_way, llc.hit + one_way]) + one_way.T
        dies = wafer.num_dies
        self._num_rows = 0
        self._rows: IntArray = np.full((2, 2, dies, dies), -1, np.int64)  # [hit, copy, source, die]
        self._table = build_table(64, 2 + 2 * wafer.routes.shape[2])

    @property
    def table(self) -> TransferTable:
        """The table; valid until the next call of `row`."""
        return self._table

    def longest(self, nbytes: FloatArray) -> float:
        """Return an upper bound of the seconds of reads of *nbytes*, [reads], one after another."""
        return self._table.longest(self.resources, nbytes, float(self._latency.max()))

    def row(self, source: int, die: int, copy: bool, hit: bool) -> int:
        """Return the row of a read from *source*, from its LLC if *hit*, to *die*, into the die's HBM if *copy*."""
        row = int(self._rows[int(hit), int(copy), source, die])
        if row < 0:
            row = self._num_rows
            self._rows[int(hit), int(copy), source, die] = row
            self._num_rows += 1
            if row == len(self._table.rows):
                larger = build_table(2 * row, self._table.stages.shape[1])
                for new, old in zip(larger, self._table, strict=True):
                    new[:row] = old
                self._table = larger
            self._fill(row, source, die, copy, hit)
        return row

    def rows(self, plan: Plan, hit: bool) -> IntArray:
        """Return the rows of the reads of *plan*, from LLCs if *hit*, [tasks]."""
        rows: IntArray = self._rows[int(hit), plan.copy.astype(np.int64), plan.source, plan.die]
        for task in np.flatnonzero(rows < 0).tolist():
            rows[task] = self.row(int(plan.source[task]), int(plan.die[task]), bool(plan.copy[task]), hit)
        return rows

    def _fill(self, row: int, source: int, die: int, copy: bool, hit: bool) -> None:
        stages, before = self._stages(source, die, copy, hit)
        self._table.stages[row, : len(stages)] = stages
        self._table.rows[row] = (len(stages), before, self._latency[int(hit), source, die])

    def _stages(self, source: int, die: int, copy: bool, hit: bool) -> tuple[list[Any], float]:
        """Return the stages of a read, and the seconds before the first one."""
        wafer, data, stages = self._wafer, (False, False), list[Any]()
        before, access = 0.0, self._access[int(hit)]
        for link in wafer.routes[die, source].tolist():
            if link < 0:
                break
            share, latency = float(wafer.link_request[link]), float(wafer.link_latency[link])
            if share > 0:
                stages.append((wafer.num_dies + link, share, True, True, latency))
            else:
                before += latency
        if stages:
            stages[-1] = (*stages[-1][:-1], stages[-1][-1] + access)
        else:
            before += access
        stages.append((len(self.resources.capacity) - wafer.num_dies + source if hit else source, 1.0, *data, 0.0))
        for link in wafer.routes[source, die].tolist():
            if link >= 0:
                stages.append((wafer.num_dies + link, 1.0, *data, float(wafer.link_latency[link])))
        if copy:
            stages.append((die, 1.0, True, False, 0.0))
        return stages, before
