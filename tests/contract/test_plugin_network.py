"""A network of a plug-in carries all that moves: weight reads, dispatch and combine, and migrations."""

from dataclasses import replace

import numpy as np
import pytest
from kit import ROOT, wafer_of
from kit.networks import OneByOne

from wss.config import load
from wss.engine.network.transfers import build_routes, network_share
from wss.execution import run

SETTINGS = [
    "steps=3",
    "batch=64",
    "layers=[3]",
    "dispatch=uniform",
    "policies=[ep, {name: moving, preset: remap_online, rebalancing: {kind: every, steps: 1, how: blocking}}]",
    "baseline=ep",
]


def test_it_carries_reads_all_to_all_and_migrations():
    """Each layer run's bytes are checked against its plan, whatever the network; a slow one takes longer everywhere."""
    experiment = load(ROOT / "configs" / "qwen3_235b.yaml", SETTINGS)
    fast, slow = (run(replace(experiment, network=OneByOne(speed))) for speed in (1.0, 0.5))
    for ours, theirs in zip(fast.ledgers, slow.ledgers, strict=True):
        for a, b in zip(ours.rows, theirs.rows, strict=True):
            assert b.time_s > a.time_s
            if a.phase != "rebalance":
                assert b.dispatch_s > a.dispatch_s > 0
                assert b.combine_s > a.combine_s > 0
    (moved,) = (ledger for ledger in fast.ledgers if ledger.policy == "moving")
    moves = [row for row in moved.rows if row.phase == "rebalance"]
    assert moves
    assert all(row.local_write_bytes > 0 and row.time_s > 0 for row in moves)


def test_one_after_another_takes_the_sum_of_all():
    """Two flows of 1 MB over one link of 1 MB/us, a hop of 0.1 us each."""
    wafer = wafer_of((1, 2), link=1e12, hop=1e-7)
    source = np.array([0, 1])
    result = network_share(OneByOne(), wafer)(build_routes(wafer, source, 1 - source), np.array([1e6, 1e6]))
    assert result.end == pytest.approx(2 * 1.1e-6)
    assert result.link_bytes == pytest.approx([1e6, 1e6])
