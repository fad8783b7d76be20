"""The resources a read uses, how much of each, and the accounts to which its bytes are booked.

Resources are indexed: HBM of die 0, 1, ..., then link 0, 1, ..., then LLC of die 0, 1, ... Each has two accounts: for
an HBM, bytes read and bytes written; for a link, data and requests; for an LLC, bytes read and an unused one.
"""

from __future__ import annotations

import numpy as np

from wss.hardware.wafer import Wafer
from wss.records import FloatArray, IntArray, Plan, Traffic


class ReadResources:
    """The resources of every read used so far, one row per kind of read.

    Attributes
    ----------
    capacity
        B/s of each resource, [resources].
    latency
        Seconds from the issue of a read until it joins the network: from HBM and from LLC, [2, source, die].
    """

    def __init__(self, wafer: Wafer) -> None:
        hbm, llc = wafer.spec.die.hbm, wafer.spec.die.llc
        self._wafer = wafer
        one_way = np.where(wafer.routes >= 0, wafer.link_latency[wafer.routes], 0.0).sum(axis=2)
        self.latency: FloatArray = np.stack([llc.miss + hbm.latency + one_way, llc.hit + one_way]) + one_way.T
        dies = wafer.num_dies
        self.capacity: FloatArray = np.concatenate(
            [np.full(dies, hbm.bandwidth), wafer.link_bandwidth, np.full(dies, llc.bandwidth)]
        )
        longest = 2 + 2 * wafer.routes.shape[2]
        self._num_rows = 0
        self._rows: IntArray = np.full((2, 2, dies, dies), -1, np.int64)  # [hit, copy, source, die]
        self._resources: IntArray = np.zeros((64, longest), np.int64)
        self._weights: FloatArray = np.zeros((64, longest))
        self._accounts: IntArray = np.zeros((64, longest), np.int64)
        self._lengths: IntArray = np.zeros(64, np.int64)

    @property
    def num_accounts(self) -> int:
        """Number of accounts: two per resource."""
        return 2 * len(self.capacity)

    @property
    def tables(self) -> tuple[IntArray, FloatArray, IntArray, IntArray]:
        """Resources, weights, lengths and accounts of the rows; valid until the next call of `row`."""
        return self._resources, self._weights, self._lengths, self._accounts

    def row(self, source: int, die: int, copy: bool, hit: bool) -> int:
        """Return the row of a read from *source*, from its LLC if *hit*, to *die*, into the die's HBM if *copy*."""
        row = int(self._rows[int(hit), int(copy), source, die])
        if row < 0:
            row = self._num_rows
            self._rows[int(hit), int(copy), source, die] = row
            self._num_rows += 1
            self._fill(row, source, die, copy, hit)
        return row

    def rows(self, plan: Plan, hit: bool) -> IntArray:
        """Return the rows of the reads of *plan*, from LLCs if *hit*, [tasks]."""
        rows: IntArray = self._rows[int(hit), plan.copy.astype(np.int64), plan.source, plan.die]
        for task in np.flatnonzero(rows < 0).tolist():
            rows[task] = self.row(int(plan.source[task]), int(plan.die[task]), bool(plan.copy[task]), hit)
        return rows

    def carried(self, moved: FloatArray, busy: FloatArray) -> Traffic:
        """Split the accounts *moved* [accounts] and *busy* [resources] by kind; the arrays are copied."""
        dies, resources = self._wafer.num_dies, len(self.capacity)
        first, second = moved[:resources], moved[resources:]
        return Traffic(
            hbm_read=first[:dies].copy(),
            hbm_written=second[:dies].copy(),
            llc_read=first[-dies:].copy(),
            link_data=first[dies:-dies].copy(),
            link_request=second[dies:-dies].copy(),
            link_busy=busy[dies:-dies].copy(),
        )

    def server(self, source: int, hit: bool) -> int:
        """Return the resource that serves a read from *source*: its HBM, or its LLC if *hit*."""
        return len(self.capacity) - self._wafer.num_dies + source if hit else source

    def _fill(self, row: int, source: int, die: int, copy: bool, hit: bool) -> None:
        if row == len(self._lengths):
            self._resources, self._weights, self._accounts, self._lengths = (
                np.concatenate([table, np.zeros_like(table)])
                for table in (self._resources, self._weights, self._accounts, self._lengths)
            )
        dies, resources = self._wafer.num_dies, len(self.capacity)
        there, back = (
            dies + route[route >= 0] for route in (self._wafer.routes[source, die], self._wafer.routes[die, source])
        )
        server = self.server(source, hit)
        uses = [(server, 1.0, server)]
        uses += [(link, 1.0, link) for link in there]
        shares = self._wafer.link_request[back - dies].tolist()
        uses += [(link, share, resources + link) for link, share in zip(back, shares, strict=True) if share > 0]
        if copy:
            uses.append((die, 1.0, resources + die))
        for k, (resource, weight, account) in enumerate(uses):
            self._resources[row, k], self._weights[row, k], self._accounts[row, k] = resource, weight, account
        self._lengths[row] = len(uses)


class ReadStages:
    """The servers that a chunk passes in order, one row per kind of read used so far.

    Attributes
    ----------
    capacity
        B/s of each resource, indexed as in `ReadResources`, [resources].
    """

    def __init__(self, wafer: Wafer) -> None:
        self._paths = ReadResources(wafer)
        self._wafer = wafer
        self.capacity = self._paths.capacity
        longest = 2 + 2 * wafer.routes.shape[2]
        self._rows: dict[tuple[int, int, bool, bool], int] = {}
        self._resources, self._accounts = np.zeros((64, longest), np.int64), np.zeros((64, longest), np.int64)
        self._shares, self._after = np.zeros((64, longest)), np.zeros((64, longest))
        self._lengths, self._first = np.zeros(64, np.int64), np.zeros(64)

    @property
    def tables(self) -> tuple[IntArray, FloatArray, IntArray, FloatArray, IntArray, FloatArray]:
        """Resources, shares of a chunk, accounts, latencies after each stage; stages, latency before the first."""
        return self._resources, self._shares, self._accounts, self._after, self._lengths, self._first

    def row(self, source: int, die: int, copy: bool, hit: bool) -> int:
        """Return the row of a read from *source*, from its LLC if *hit*, to *die*, into the die's HBM if *copy*."""
        key = (source, die, copy, hit)
        row = self._rows.get(key)
        if row is None:
            row = self._rows[key] = len(self._rows)
            if row == len(self._lengths):
                self._grow()
            self._fill(row, *key)
        return row

    def carried(self, moved: FloatArray, busy: FloatArray) -> Traffic:
        """Split accounts and busy times by kind, as `ReadResources.carried` does."""
        return self._paths.carried(moved, busy)

    def _grow(self) -> None:
        for name in ("_resources", "_shares", "_accounts", "_after", "_lengths", "_first"):
            table = getattr(self, name)
            setattr(self, name, np.concatenate([table, np.zeros_like(table)]))

    def _fill(self, row: int, source: int, die: int, copy: bool, hit: bool) -> None:
        wafer, resources = self._wafer, len(self.capacity)
        llc = wafer.spec.die.llc
        access = llc.hit if hit else llc.miss + wafer.spec.die.hbm.latency
        there, back = (
            [int(link) for link in route if link >= 0]
            for route in (wafer.routes[source, die], wafer.routes[die, source])
        )
        # (resource, share of the bytes, account, latency after)
        stages: list[tuple[int, float, int, float]] = []
        before = 0.0
        for link in back:
            at, share = wafer.num_dies + link, float(wafer.link_request[link])
            if share > 0:
                stages.append((at, share, resources + at, float(wafer.link_latency[link])))
            else:
                before += float(wafer.link_latency[link])
        if stages:
            at, share, account, after = stages[-1]
            stages[-1] = (at, share, account, after + access)
        else:
            before += access
        server = self._paths.server(source, hit)
        stages.append((server, 1.0, server, 0.0))
        stages += [(wafer.num_dies + a, 1.0, wafer.num_dies + a, float(wafer.link_latency[a])) for a in there]
        if copy:
            stages.append((die, 1.0, resources + die, 0.0))
        for k, (resource, share, account, after) in enumerate(stages):
            self._resources[row, k], self._shares[row, k] = resource, share
            self._accounts[row, k], self._after[row, k] = account, after
        self._lengths[row], self._first[row] = len(stages), before
