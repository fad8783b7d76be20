"""The resources of a wafer, and the tables of which transfer uses which of them, in which order.

Resources are indexed: HBM of die 0, 1, ..., then link 0, 1, ..., then LLC of die 0, 1, ... Each has two accounts, for
the bytes that it carries: for an HBM, bytes read and bytes written; for a link, data and requests; for an LLC, bytes
read and an unused one.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from wss.hardware.wafer import Wafer
from wss.records import BoolArray, FloatArray, IntArray, Plan, Traffic


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

    def traffic(self, moved: FloatArray, busy: FloatArray) -> Traffic:
        """Split the bytes of each account, [accounts], and the busy seconds of each resource by kind, as copies."""
        dies, ends = self.num_dies, self.num_dies + len(self.links)
        first, second = moved[: len(busy)], moved[len(busy) :]
        return Traffic(
            hbm_read=first[:dies].copy(),
            hbm_written=second[:dies].copy(),
            llc_read=first[ends:].copy(),
            link_data=first[dies:ends].copy(),
            link_request=second[dies:ends].copy(),
            link_busy=busy[dies:ends].copy(),
        )


Stage = tuple[int, float, int, float]  # resource, share, account, s until the next stage


class TransferTable(NamedTuple):
    """The stages that a transfer passes in order, one row per kind of transfer.

    Attributes
    ----------
    resource, share, account, after
        Of each stage: the resource it uses, bytes per byte of the transfer, the account of these bytes, and seconds
        from its end until the next stage begins, [rows, longest].
    length
        Number of stages, [rows].
    before
        Seconds before the first stage, [rows].
    latency
        All seconds in which no resource is used, [rows].
    """

    resource: IntArray
    share: FloatArray
    account: IntArray
    after: FloatArray
    length: IntArray
    before: FloatArray
    latency: FloatArray


def build_table(rows: int, longest: int) -> TransferTable:
    """Return a table of zeros."""
    shape = (rows, longest)
    stages = (np.zeros(shape, kind) for kind in (np.int64, np.float64, np.int64, np.float64))
    return TransferTable(*stages, np.zeros(rows, np.int64), np.zeros(rows), np.zeros(rows))


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
    width = slice(0, paths.shape[1])
    table.resource[:, width] = table.account[:, width] = np.where(used, resources.num_dies + paths, 0)
    table.share[:, width] = used
    table.after[:, width] = np.where(used, link_latency[paths], 0.0) if len(link_latency) else 0.0
    return table._replace(length=used.sum(axis=1), latency=latency)


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

    def row(self, source: int, die: int, copy: bool, hit: bool) -> int:
        """Return the row of a read from *source*, from its LLC if *hit*, to *die*, into the die's HBM if *copy*."""
        row = int(self._rows[int(hit), int(copy), source, die])
        if row < 0:
            row = self._num_rows
            self._rows[int(hit), int(copy), source, die] = row
            self._num_rows += 1
            if row == len(self._table.length):
                self._table = TransferTable(*(np.concatenate([each, np.zeros_like(each)]) for each in self._table))
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
        for k, (resource, share, account, after) in enumerate(stages):
            self._table.resource[row, k], self._table.share[row, k] = resource, share
            self._table.account[row, k], self._table.after[row, k] = account, after
        self._table.length[row], self._table.before[row] = len(stages), before
        self._table.latency[row] = self._latency[int(hit), source, die]

    def _stages(self, source: int, die: int, copy: bool, hit: bool) -> tuple[list[Stage], float]:
        """Return resource, share, account and seconds after each stage, and the seconds before the first one."""
        wafer, resources = self._wafer, len(self.resources.capacity)
        stages: list[Stage] = []
        before, access = 0.0, self._access[int(hit)]
        for link in wafer.routes[die, source].tolist():
            if link < 0:
                break
            at, share, latency = wafer.num_dies + link, float(wafer.link_request[link]), float(wafer.link_latency[link])
            if share > 0:
                stages.append((at, share, resources + at, latency))
            else:
                before += latency
        if stages:
            at, share, account, after = stages[-1]
            stages[-1] = (at, share, account, after + access)
        else:
            before += access
        server = resources - wafer.num_dies + source if hit else source
        stages.append((server, 1.0, server, 0.0))
        for link in wafer.routes[source, die].tolist():
            if link >= 0:
                at = wafer.num_dies + link
                stages.append((at, 1.0, at, float(wafer.link_latency[link])))
        if copy:
            stages.append((die, 1.0, resources + die, 0.0))
        return stages, before
