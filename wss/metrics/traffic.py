"""The traffic of a layer run: the traffic planned, and checks that network and memories carried exactly that."""

from __future__ import annotations

from typing import Any

import numpy as np

from wss.hardware.wafer import Wafer
from wss.records import AllToAllResult, BoolArray, FloatArray, IntArray, LayerRun, LinkLoad, MoveRecord, Plan

# Rounding error allowed between planned bytes and bytes integrated over changing rates, relative to the largest.
ROUNDING = 1e-9


def traffic(plan: Plan, run: LayerRun, wafer: Wafer, expert_bytes: float) -> dict[str, Any]:
    """Return reads, hops and bytes of *plan*, with the LLC hits and prefetches of *run*, as fields of a `LayerRow`.

    Remote and local reads are counted by their source, HBM or LLC. *llc_hit_bytes* is the part of both that came from
    an LLC; *prefetched_bytes* come on top. byte_hops is the sum over remote reads of bytes times hops.
    """
    hops = int(wafer.hops[plan.source, plan.die].sum())
    remote = int(plan.remote.sum())
    return {
        "remote_reads": remote,
        "hops": hops,
        "byte_hops": hops * expert_bytes,
        "remote_read_bytes": remote * expert_bytes,
        "local_read_bytes": (len(plan.expert) - remote) * expert_bytes,
        "local_write_bytes": int(plan.copy.sum()) * expert_bytes,
        "llc_hits": int(run.hit.sum()),
        "llc_hit_bytes": int(run.hit.sum()) * expert_bytes,
        "prefetched_bytes": int(run.prefetched.sum()) * expert_bytes,
    }


def moved_traffic(record: MoveRecord, wafer: Wafer) -> tuple[dict[str, Any], LinkLoad]:
    """Return the traffic of migrations in the background; an expert counts as read when its move ends."""
    plan, moved = record.plan, record.moved
    hops = wafer.hops[plan.source, plan.die]
    fields = {
        "remote_reads": int(record.complete.sum()),
        "hops": int(hops[record.complete].sum()),
        "byte_hops": float(hops @ moved),
        "remote_read_bytes": float(moved.sum()),
        "local_write_bytes": float(moved.sum()),
        **dict.fromkeys(("local_read_bytes", "llc_hit_bytes", "prefetched_bytes"), 0.0),
        "llc_hits": 0,
    }
    request = _over_links(plan.die, plan.source, moved, wafer) * wafer.link_request
    data = _over_links(plan.source, plan.die, moved, wafer)
    return fields, LinkLoad(data=data, request=request, busy=np.zeros_like(data))


def _over_links(source: IntArray, die: IntArray, nbytes: FloatArray, wafer: Wafer) -> FloatArray:
    """Return the bytes per link when *nbytes* [moves] go from *source* to *die*, [links]."""
    routes = wafer.routes[source, die]
    on = routes >= 0
    weights = np.broadcast_to(nbytes[:, None], routes.shape)[on]
    return np.bincount(routes[on], weights, wafer.num_links).astype(np.float64)


def check_conservation(plan: Plan, run: LayerRun, wafer: Wafer, expert_bytes: float) -> None:
    """Check that every HBM and link carried exactly the bytes of *plan*, and that hops add up.

    Raises AssertionError if not: a bug in wss, not a user error.
    """
    at_dies, over_links = _planned(plan, run.hit, wafer)
    expected = {
        "hbm_read": (at_dies[0] + run.prefetched) * expert_bytes,
        "llc_read": at_dies[1] * expert_bytes,
        "hbm_written": at_dies[2] * expert_bytes,
        "link_data": over_links[0] * expert_bytes,
        "link_request": over_links[1] * (expert_bytes * wafer.link_request),
    }
    for name, planned in expected.items():
        carried: FloatArray = getattr(run.traffic, name)
        if planned.size and np.abs(carried - planned).max() > ROUNDING * max(planned.max(), expert_bytes):
            worst = int(np.abs(carried - planned).argmax())
            raise AssertionError(f"{name}[{worst}]: {carried[worst]} bytes carried, {planned[worst]} planned")
    byte_hops = int(wafer.hops[plan.source, plan.die].sum()) * expert_bytes
    crossed = float(run.traffic.link_data.sum())
    if abs(crossed - byte_hops) > ROUNDING * max(byte_hops, expert_bytes):
        raise AssertionError(f"{crossed} bytes over links, {byte_hops} byte-hops planned")


def _planned(plan: Plan, hit: BoolArray, wafer: Wafer) -> tuple[IntArray, IntArray]:
    """Return experts read from each HBM, from each LLC and written to each HBM, [3, dies]; over links, [2, links].

    The first row of links counts experts, the second their requests, which travel the opposite way.
    """
    dies, links = wafer.num_dies, wafer.num_links
    reads = plan.source[~hit], plan.source[hit], plan.die[plan.copy]
    routes = wafer.routes[plan.source, plan.die], wafer.routes[plan.die, plan.source]
    at_dies = np.stack([np.bincount(each, minlength=dies) for each in reads])
    over_links = np.stack([np.bincount(each[each >= 0], minlength=links) for each in routes])
    return at_dies, over_links


def check_all_to_all(plan: Plan, all_to_all: AllToAllResult, wafer: Wafer) -> None:
    """Check the tokens that each die received and the bytes of each link, and that no link exceeded its bandwidth.

    Raises AssertionError if not: a bug in wss, not a user error.
    """
    dies = wafer.num_dies
    most = np.bincount(plan.die, plan.tokens, dies)
    least = np.zeros(dies)
    np.maximum.at(least, plan.die, plan.tokens)
    slack = ROUNDING * all_to_all.tokens
    if (all_to_all.received < least - slack).any() or (all_to_all.received > most + slack).any():
        raise AssertionError(f"{all_to_all.received} tokens received, between {least} and {most} planned")
    tokens = _sent(all_to_all, wafer)[:, :, None]
    planned = np.zeros(wafer.num_links)
    for routes, nbytes in (
        (wafer.routes, all_to_all.dispatch_bytes),
        (wafer.routes.swapaxes(0, 1), all_to_all.combine_bytes),
    ):
        flows = np.broadcast_to(tokens * nbytes, routes.shape)
        planned += np.bincount(routes[routes >= 0], flows[routes >= 0], wafer.num_links)
    if planned.size and np.abs(all_to_all.link_bytes - planned).max() > ROUNDING * planned.max():
        worst = int(np.abs(all_to_all.link_bytes - planned).argmax())
        carried = all_to_all.link_bytes[worst]
        raise AssertionError(f"activations over link {worst}: {carried} bytes carried, {planned[worst]} planned")
    fastest = float((planned / wafer.link_bandwidth).max(initial=0.0))
    if all_to_all.dispatch + all_to_all.combine < fastest * (1 - ROUNDING):
        raise AssertionError(f"{all_to_all.dispatch + all_to_all.combine} s beat the busiest link's {fastest} s")


def _sent(all_to_all: AllToAllResult, wafer: Wafer) -> FloatArray:
    """Return the tokens that each die sends to each other die, [dies, dies]; check the tokens received by nodes."""
    dies, nodes = wafer.num_dies, len(all_to_all.node_tokens)
    if nodes == 0:
        return np.broadcast_to(all_to_all.received / dies, (dies, dies))
    of_node, slack = all_to_all.received.reshape(nodes, -1), ROUNDING * all_to_all.tokens
    most = np.minimum(of_node.sum(axis=1), all_to_all.tokens)
    if (all_to_all.node_tokens < of_node.max(axis=1) - slack).any() or (all_to_all.node_tokens > most + slack).any():
        raise AssertionError(f"{all_to_all.node_tokens} tokens to the nodes of dies that receive {of_node}")
    node, gpu = wafer.coordinates.T
    lane = gpu[:, None] == gpu
    between = np.where(lane, all_to_all.node_tokens[node] / dies, 0.0)  # to the GPU of the same local rank
    return np.where(node[:, None] == node, all_to_all.received * (nodes / dies), between)
