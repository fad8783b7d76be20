"""The packet network: transfers are cut into chunks that queue first come, first served at each resource.

A chunk passes the stages of its transfer's row. At each it keeps the resource busy for its bytes / bandwidth, and
reaches the next stage, whole, after the latency between them. At most a window of chunks of a transfer is in flight.
Then the next chunk starts when one has arrived. A transfer of no bytes is one empty chunk. Router buffers and their
credits are not modelled.

Ties are part of the model. Times are compared as whole ticks, so rounding does not decide ties. At one instant, new
transfers come first; those that start together alternate, one chunk each, in the order of issue. Other events follow in
scheduling order; the service of a chunk schedules its arrival first, then its own end. This is ASTRA-sim's order.
"""

from __future__ import annotations

import numpy as np

from wss.arrays import records
from wss.compiling import borrowing
from wss.engine.heap import build_heap, pop, push, push_as
from wss.engine.network.state import CHUNK, NetworkState
from wss.engine.specs import PacketSpec

_EARLY = -(1 << 62)  # serial numbers of starts, which come before all other events of an instant


def prepare_packets(state: NetworkState, spec: PacketSpec, longest: float) -> NetworkState:
    """Return *state* with chunks; *longest* is an upper bound of the seconds until the last transfer ends.

    A tick is a femtosecond, or longer if *longest* is more than 0.1 s. Each transfer has as
    many chunk records as chunks may be in flight; chunk n has record n modulo that number.
    """
    transfers, nbytes = state.transfers, state.transfers["total_bytes"]
    chunks = np.maximum(1, np.ceil(nbytes / spec.chunk).astype(np.int64))
    slots = np.minimum(chunks, spec.window)
    transfers["chunks"], transfers["slots"], transfers["first_slot"] = chunks, slots, np.cumsum(slots) - slots
    return state._replace(
        events=build_heap(int(slots.sum()) + len(state.resources)),
        chunks=records(int(slots.sum()), CHUNK),
        ticks=float(min(1e15, 1e14 / max(longest, 1e-9))),
        chunk_bytes=spec.chunk,
    )


@borrowing
def issue_packets(network, now, index):  # type: ignore[no-untyped-def]
    """Start a transfer at *now*; when it ends depends on those issued later, so the result is infinite."""
    network.transfers[index].since = now
    network.waiting[network.count[1]] = index
    network.count[1] += 1
    return np.inf


@borrowing
def next_packets(network, horizon):  # type: ignore[no-untyped-def]
    """Serve chunks before *horizon*, up to the next end of a transfer, and return its time.

    If none ends before, return *horizon*; if nothing is in flight, infinity.
    """
    _start(network)
    slot = _serve(network, horizon, np.rint(horizon * network.ticks), network.work[:0])
    if slot >= 0:
        return network.chunks[slot].time
    return horizon if network.events.count[0] > 0 else np.inf


@borrowing
def advance_packets(network, now, latest, ended):  # type: ignore[no-untyped-def]
    """Serve chunks up to *now*, write the transfers that ended to *ended* [transfers], and return their number."""
    _start(network)
    return _serve(network, now, np.rint(now * network.ticks) + 1.0, ended)


@borrowing
def _start(network):  # type: ignore[no-untyped-def]
    """Start the transfers that were issued at this instant: they alternate, one chunk each."""
    transfers, chunks, count, num = network.transfers, network.chunks, network.count, network.count[1]
    turn, some = 0, num > 0
    while some:
        some = False
        for i in range(num):
            index = network.waiting[i]
            transfer = transfers[index]
            if turn < transfer.slots:
                slot = _send(transfer, index, chunks)
                time = transfer.since + network.rows[transfer.row].before
                chunks[slot].time = time
                push_as(network.events, np.rint(time * network.ticks), _EARLY + count[2], slot)
                count[2] += 1
                some = True
        turn += 1
    count[1] = 0


@borrowing
def _send(transfer, index, chunks):  # type: ignore[no-untyped-def]
    """Take the next chunk of *transfer*, and return its record's index."""
    slot = transfer.first_slot + transfer.sent % transfer.slots
    chunk = chunks[slot]
    chunk.transfer, chunk.number, chunk.stage = index, transfer.sent, 0
    transfer.sent += 1
    return slot


@borrowing
def _serve(network, now, limit, ended):  # type: ignore[no-untyped-def]
    """Serve the events of ticks below *limit*.

    The transfers that end are written to *ended*, [transfers], and their number is returned; none ends after *now*,
    whose tick is the last one. If it is empty, the events are served until a transfer ends; then its last chunk is
    returned, -1 if none ends.
    """
    heap, stages, chunks, resources = network.events, network.stages, network.chunks, network.resources
    ticks, num_ended, units = network.ticks, 0, (network.ticks, network.chunk_bytes)
    while heap.count[0] > 0 and heap.events[0].key < limit:
        tick, serial, slot = heap.events[0].key, heap.events[0].serial, heap.events[0].value
        if slot >= 0:  # a chunk reaches a stage, or its die
            index = chunks[slot].transfer
            transfer = network.transfers[index]
            if chunks[slot].stage == network.rows[transfer.row].length:
                last = transfer.arrived == transfer.chunks - 1
                if last and ended.size == 0:
                    return slot
                transfer.arrived += 1
                arrival = chunks[slot].time
                pop(heap)
                if last:
                    transfer.finish = min(arrival, now)
                    ended[num_ended] = index
                    num_ended += 1
                if transfer.sent == transfer.chunks:
                    continue
                slot = _send(transfer, index, chunks)
                chunks[slot].time = arrival + network.rows[transfer.row].before
                if network.rows[transfer.row].before > 0.0:
                    push(heap, np.rint(chunks[slot].time * ticks), slot)
                    continue
            else:
                pop(heap)
            number = stages[transfer.row, chunks[slot].stage].resource
            if _queue(heap, resources[number], number, chunks, slot, tick, serial):
                continue
        else:  # a service ends, and the next chunk's begins
            pop(heap)
            number = -1 - slot
            slot = resources[number].head
            resources[number].head = chunks[slot].behind
            chunks[slot].time = max(resources[number].free, chunks[slot].time)
        transfer = network.transfers[chunks[slot].transfer]
        _begin(heap, resources[number], number, chunks[slot], slot, transfer, stages, units)
    return num_ended if ended.size > 0 else -1


@borrowing
def _queue(heap, resource, number, chunks, slot, tick, serial):  # type: ignore[no-untyped-def]
    """Whether the chunk *slot* waits at the *resource*; if so it joins the queue.

    The event of the end of a service is on the heap only if a chunk waits for it. It has its place in the order of
    events from the beginning of the service.
    """
    if resource.head < 0:
        if resource.end_tick < tick or (resource.end_tick == tick and resource.end_serial < serial):
            return False
        resource.head = slot
        push_as(heap, resource.end_tick, resource.end_serial, -1 - number)
    else:
        chunks[resource.tail].behind = slot
    resource.tail, chunks[slot].behind = slot, -1
    return True


@borrowing
def _begin(heap, resource, number, chunk, slot, transfer, stages, units):  # type: ignore[no-untyped-def]
    """Begin the service of *chunk* at *resource*, at its time; *units* are ticks a second and bytes of a chunk."""
    ticks, chunk_bytes = units
    stage = stages[transfer.row, chunk.stage]
    amount = min(chunk_bytes, transfer.total_bytes - chunk.number * chunk_bytes) * stage.share
    takes = amount / resource.capacity
    resource.free = max(chunk.time, resource.free) + takes
    resource.busy += takes
    if stage.second:
        resource.also_moved += amount
    else:
        resource.moved += amount
    chunk.time = resource.free + stage.after
    chunk.stage += 1
    push(heap, np.rint(chunk.time * ticks), slot)
    resource.end_tick, resource.end_serial = np.rint(resource.free * ticks), heap.count[1]
    heap.count[1] += 1
    if resource.head >= 0:
        push_as(heap, resource.end_tick, resource.end_serial, -1 - number)
