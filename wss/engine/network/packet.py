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

from typing import NamedTuple

import numba
import numpy as np

from wss.engine.heap import Heap, build_heap, pop, push, push_as
from wss.engine.network.resources import TransferTable
from wss.engine.specs import PacketSpec
from wss.records import BoolArray, FloatArray, IntArray

_EARLY = -(1 << 62)  # serial numbers of starts, which come before all other events of an instant
_LATEST = 1 << 62  # ticks


class Packets(NamedTuple):
    """The state of the packet network. A chunk in flight has a slot: one of its transfer's, chunk number mod window.

    Attributes
    ----------
    ticks
        Ticks a second.
    chunk_bytes
        Bytes of a chunk.
    events
        Keys are ticks; values are the slot of a chunk that reaches a stage, or -1 - resource where a service ends.
    count
        Transfers issued and not started, and number of starts so far, [2].
    waiting, since
        The transfers that have not started; the first are used; when each was issued, s; [transfers] each.
    chunks, sent, arrived, slot
        Of each transfer: its chunks, how many were sent and have arrived, and its first slot; the last entry of *slot*
        is their number, [transfers] and [transfers + 1].
    owner, number, stage, time, behind
        Of the chunk in each slot: its transfer, its number in it, the stage that it reaches next, when, s, and the slot
        after it in the queue of that stage's resource, -1 for none, [slots] each.
    serving, free, head, tail
        Of each resource: whether it serves a chunk, the end of its last service, s, and the first and last slot of its
        queue, [resources] each.
    """

    ticks: float
    chunk_bytes: float
    events: Heap
    count: IntArray
    waiting: IntArray
    since: FloatArray
    chunks: IntArray
    sent: IntArray
    arrived: IntArray
    slot: IntArray
    owner: IntArray
    number: IntArray
    stage: IntArray
    time: FloatArray
    behind: IntArray
    serving: BoolArray
    free: FloatArray
    head: IntArray
    tail: IntArray


def build_packets(
    spec: PacketSpec, table: TransferTable, nbytes: FloatArray, capacity: FloatArray, idle: float
) -> Packets:
    """Return the state for transfers of *nbytes*, [transfers]; *idle* bounds the seconds in which nothing is in flight.

    A tick is a femtosecond, or longer where all transfers one after another take more than 0.1 s.
    """
    num = len(nbytes)
    waiting, sent, arrived = (np.zeros(num, np.int64) for _ in range(3))
    chunks = np.maximum(1, np.ceil(nbytes / spec.chunk).astype(np.int64))
    slot = np.concatenate([[0], np.cumsum(np.minimum(chunks, spec.window) if spec.window else chunks)])
    owner, number, stage, behind = (np.zeros(slot[-1], np.int64) for _ in range(4))
    serving, free = np.zeros(len(capacity), np.bool_), np.zeros(len(capacity))
    head, tail = (np.full(len(capacity), -1) for _ in range(2))
    used = np.arange(table.resource.shape[1]) < table.length[:, None]
    a_byte = np.where(used, table.share / capacity[table.resource], 0.0).sum(axis=1).max(initial=0.0)
    longest = max(idle + nbytes.sum() * a_byte + num * table.latency.max(initial=0.0), 1e-9)
    return Packets(
        ticks=float(min(1e15, 1e14 / longest)),
        chunk_bytes=spec.chunk,
        events=build_heap(int(slot[-1]) + len(capacity), np.int64),
        count=np.zeros(2, np.int64),
        waiting=waiting,
        since=np.zeros(num),
        chunks=chunks,
        sent=sent,
        arrived=arrived,
        slot=slot,
        owner=owner,
        number=number,
        stage=stage,
        time=np.zeros(slot[-1]),
        behind=behind,
        serving=serving,
        free=free,
        head=head,
        tail=tail,
    )


@numba.njit(cache=True, nogil=True)
def _tick(packets, time):  # type: ignore[no-untyped-def]
    """Return *time*, s, as whole ticks."""
    return np.int64(min(np.rint(time * packets.ticks), float(_LATEST)))


@numba.njit(cache=True, nogil=True)
def issue_packets(packets, now, transfer):  # type: ignore[no-untyped-def]
    """Start *transfer* at *now*; when it ends depends on those issued later, so the result is infinite."""
    packets.waiting[packets.count[0]], packets.since[transfer] = transfer, now
    packets.count[0] += 1
    return np.inf


@numba.njit(cache=True, nogil=True)
def next_packets(packets, transfers, horizon):  # type: ignore[no-untyped-def]
    """Serve chunks before *horizon*, up to the next end of a transfer; return its time, or *horizon* if none ends."""
    _start(packets, transfers)
    limit = _tick(packets, horizon)
    events = packets.events
    while events.count[0] > 0 and events.key[0] < limit:
        value = events.value[0]
        if value >= 0 and _completes(packets, transfers, value):
            return packets.time[value]
        _serve(packets, transfers, pop(events))
    return horizon if events.count[0] > 0 else np.inf


@numba.njit(cache=True, nogil=True)
def advance_packets(packets, transfers, now, ended):  # type: ignore[no-untyped-def]
    """Serve chunks up to *now*, write the transfers that ended to *ended* [transfers], and return their number."""
    _start(packets, transfers)
    limit, num_ended = _tick(packets, now), 0
    events = packets.events
    while events.count[0] > 0 and events.key[0] <= limit:
        value = pop(events)
        if value >= 0 and _completes(packets, transfers, value):
            transfer = packets.owner[value]
            transfers.finish[transfer] = packets.time[value]
            ended[num_ended] = transfer
            num_ended += 1
        else:
            _serve(packets, transfers, value)
    return num_ended


@numba.njit(cache=True, nogil=True)
def _completes(packets, transfers, slot):  # type: ignore[no-untyped-def]
    """Whether the arrival of the chunk in *slot* completes its transfer."""
    transfer = packets.owner[slot]
    if packets.stage[slot] < transfers.table.length[transfers.row[transfer]]:
        return False
    return packets.arrived[transfer] == packets.chunks[transfer] - 1


@numba.njit(cache=True, nogil=True)
def _start(packets, transfers):  # type: ignore[no-untyped-def]
    """Start the transfers that were issued at this instant: they alternate, one chunk each."""
    turn, some = 0, packets.count[0] > 0
    while some:
        some = False
        for i in range(packets.count[0]):
            transfer = packets.waiting[i]
            if turn < packets.slot[transfer + 1] - packets.slot[transfer]:
                slot = _send(packets, transfer)
                packets.time[slot] = packets.since[transfer] + transfers.table.before[transfers.row[transfer]]
                push_as(packets.events, _tick(packets, packets.time[slot]), _EARLY + packets.count[1], slot)
                packets.count[1] += 1
                some = True
        turn += 1
    packets.count[0] = 0


@numba.njit(cache=True, nogil=True)
def _send(packets, transfer):  # type: ignore[no-untyped-def]
    """Take the next chunk of *transfer*, and return its slot."""
    first = packets.slot[transfer]
    number = packets.sent[transfer]
    packets.sent[transfer] += 1
    slot = first + number % (packets.slot[transfer + 1] - first)
    packets.owner[slot], packets.number[slot], packets.stage[slot] = transfer, number, 0
    return slot


@numba.njit(cache=True, nogil=True)
def _serve(packets, transfers, value):  # type: ignore[no-untyped-def]
    """Process an event: the end of a service, or a chunk that reaches a stage or, after the last one, its die."""
    table = transfers.table
    if value < 0:
        resource = -1 - value
        packets.serving[resource] = False
        slot = packets.head[resource]
        if slot >= 0:
            packets.head[resource] = packets.behind[slot]
            _begin(packets, transfers, slot, resource, max(packets.free[resource], packets.time[slot]))
        return
    slot, now = value, packets.time[value]
    transfer = packets.owner[slot]
    row = transfers.row[transfer]
    if packets.stage[slot] == table.length[row]:
        packets.arrived[transfer] += 1
        if packets.sent[transfer] == packets.chunks[transfer]:
            return
        slot = _send(packets, transfer)
        packets.time[slot] = now + table.before[row]
        if table.before[row] > 0.0:
            push(packets.events, _tick(packets, packets.time[slot]), slot)
            return
    resource = table.resource[row, packets.stage[slot]]
    if packets.serving[resource]:
        packets.behind[slot] = -1
        if packets.head[resource] < 0:
            packets.head[resource] = slot
        else:
            packets.behind[packets.tail[resource]] = slot
        packets.tail[resource] = slot
        return
    _begin(packets, transfers, slot, resource, now)


@numba.njit(cache=True, nogil=True)
def _begin(packets, transfers, slot, resource, now):  # type: ignore[no-untyped-def]
    """Begin the service of the chunk in *slot* at *resource*."""
    transfer, stage, table = packets.owner[slot], packets.stage[slot], transfers.table
    row = transfers.row[transfer]
    remaining = transfers.nbytes[transfer] - packets.number[slot] * packets.chunk_bytes
    amount = min(packets.chunk_bytes, remaining) * table.share[row, stage]
    takes = amount / transfers.capacity[resource]
    packets.serving[resource] = True
    packets.free[resource] = max(now, packets.free[resource]) + takes
    transfers.busy[resource] += takes
    transfers.moved[table.account[row, stage]] += amount
    packets.time[slot] = packets.free[resource] + table.after[row, stage]
    packets.stage[slot] = stage + 1
    push(packets.events, _tick(packets, packets.time[slot]), slot)
    push(packets.events, _tick(packets, packets.free[resource]), -1 - resource)
