"""Dispatch and combine of an expert-parallel group of GPUs, as DeepEP does them.

Every GPU sends its tokens to the GPUs of their experts (dispatch, in FP8) and gets the results back (combine, in BF16).
Low latency is the form for decode: one copy of a token for each of its experts, straight to the expert's GPU. Normal is
the form for prefill: one copy for each GPU that holds an expert of the token, and between nodes one for each node.

Times are of one call with the GPUs' tokens spread over the experts at random, without waits for a late GPU. The normal
form first exchanges counts ("notify"); that part, 30 to 70 us between nodes, is left out, as in the measurements.

    away  = (nodes - 1) / nodes                                          share of the copies that leave the node
    low latency:
      start  = t0 + experts · te + away · tn
      node   = copies · (1 - away) · 7/8 · bytes / (nv · NVLink) + ceil(work / SMs used) · (s0 + hidden · s1)
      nodes  = (x + z · sqrt(x · bytes)) / (ib · NIC),  x = copies · away · bytes
      time   = (start^p + max(node, nodes)^p)^(1/p)
    normal, per token with R distinct GPUs and N distinct nodes:
      send    = tokens / SMs · (R · (b + c · bytes) + away · e · bytes)
      receive = tokens / SMs · (a + d · bytes)
      network = max(tokens · R · 7/8 · bytes / (nv · NVLink), tokens · N · away · bytes / (ib · NIC))
      body    = (send^q + receive^q + network^q)^(1/q)
      time    = ((t0 + hidden · th + (nodes - 1) · tn)^p + (body + body · f / (body + f))^p)^(1/p)

In a dispatch, work is the tokens (an SM reads each token once); in a combine it is the copies.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from wss.errors import ConfigError
from wss.hardware.kernels.device import Device
from wss.presets import Presets
from wss.records import BoolArray, FloatArray

NODE = 8  # GPUs of a node
MOST_CHOICES = 1024  # experts of a token


@dataclass(frozen=True, kw_only=True)
class Call:
    """What is exchanged; numbers, or arrays of one common shape.

    Attributes
    ----------
    tokens
        Tokens of each GPU.
    hidden
        Elements of a token.
    top_k
        Experts of a token.
    experts
        Experts of the layer, over all GPUs.
    gpus
        GPUs of the group; more than `node` fill whole nodes.
    sms
        SMs that a normal exchange uses. Low latency uses as many as its experts fill.
    node
        GPUs of a node, all joined by NVLink.
    """

    tokens: ArrayLike
    hidden: ArrayLike
    top_k: ArrayLike
    experts: ArrayLike
    gpus: ArrayLike
    sms: ArrayLike = 24
    node: ArrayLike = NODE

    def arrays(self) -> tuple[FloatArray, ...]:
        """Return tokens, hidden, top_k, experts, gpus, sms, node as floats.

        Raises ConfigError for one below 1, a top_k above `MOST_CHOICES` or *experts*, or a node that is not full.
        """
        names = ("tokens", "hidden", "top_k", "experts", "gpus", "sms", "node")
        arrays = tuple(np.asarray(getattr(self, name), float) for name in names)
        for name, array in zip(names, arrays, strict=True):
            least = 0 if name == "tokens" else 1
            if not np.all(array >= least) or not np.all(np.isfinite(array)):
                raise ConfigError(f"exchange: {name} must be a number of at least {least}")
        if np.any(arrays[2] > arrays[3]):
            raise ConfigError("exchange: top_k must be at most experts")
        if np.any(arrays[2] > MOST_CHOICES):
            raise ConfigError(f"exchange: top_k must be at most {MOST_CHOICES}")
        if not np.all(fills_nodes(arrays[4], arrays[6])):
            raise ConfigError("exchange: gpus must be those of one node, or fill whole nodes")
        return arrays


@dataclass(frozen=True, kw_only=True)
class LowLatency:
    """Parameters of one direction of a low-latency exchange; seconds and shares of the device's ports.

    Attributes
    ----------
    element_bytes, header_bytes
        Bytes an element of a copy (FP8 with one FP32 scale for 128 elements: 33/32), and bytes a copy besides.
    per_copy
        Whether an SM's work grows with copies (combine) or with tokens (dispatch).
    start, start_expert, start_away
        t0, te, tn, s: fixed time, and what it grows by with an expert of the layer, and with the share of copies that
        leave the node.
    nvlink_share, nic_share
        nv, ib: reached share of each port, 0 to 1.
    sm, sm_element
        s0, s1, s: what an SM takes for a token or copy, and for each of its elements.
    uneven
        z: the fullest NIC's load beyond the mean, in standard deviations of a random routing.
    corner
        p: 1 is one after the other; larger overlaps the start with the transfer.
    """

    element_bytes: float
    header_bytes: float
    per_copy: bool
    start: float
    start_expert: float
    start_away: float
    nvlink_share: float
    nic_share: float
    sm: float
    sm_element: float
    uneven: float
    corner: float


@dataclass(frozen=True, kw_only=True)
class Normal:
    """Parameters of one direction of a normal exchange; seconds and shares of the device's ports.

    Attributes
    ----------
    element_bytes, header_bytes
        As in `LowLatency`.
    start, start_element, start_node
        t0, th, tn, s: fixed time, and what it grows by with an element of a token and with a further node.
    nvlink_share, nic_share
        nv, ib: reached share of each port, 0 to 1.
    send_copy, send_byte, send_away_byte
        b, c, e, s: what an SM takes to send a copy, for each of its bytes, and for a byte that goes between nodes.
    receive, receive_byte
        a, d, s: what an SM takes for a token on the other side, and for each of its bytes.
    fill
        f, s: most time for which the first data pass the stages one after the other.
    overlap
        q: corner of sending, receiving and network; large is full overlap.
    corner
        p: corner of the start and the rest.
    """

    element_bytes: float
    header_bytes: float
    start: float
    start_element: float
    start_node: float
    nvlink_share: float
    nic_share: float
    send_copy: float
    send_byte: float
    send_away_byte: float
    receive: float
    receive_byte: float
    fill: float
    overlap: float
    corner: float


@dataclass(frozen=True, kw_only=True)
class Exchange:
    """The two directions of an exchange."""

    dispatch: LowLatency | Normal
    combine: LowLatency | Normal


def dispatch_s(exchange: Exchange, device: Device, call: Call) -> FloatArray:
    """Return the seconds of sending every token to its experts, in the common shape of *call*."""
    return _seconds(exchange.dispatch, device, call)


def combine_s(exchange: Exchange, device: Device, call: Call) -> FloatArray:
    """Return the seconds of sending every result back, in the common shape of *call*."""
    return _seconds(exchange.combine, device, call)


def _seconds(params: LowLatency | Normal, device: Device, call: Call) -> FloatArray:
    tokens, hidden, top_k, experts, gpus, sms, node = call.arrays()
    nodes = np.ceil(gpus / node)
    if np.any(gpus > 1) and not device.nvlink:
        raise ConfigError(f"{device.name}: no port to other GPUs, which an exchange needs")
    if np.any(nodes > 1) and not device.nic:
        raise ConfigError(f"{device.name}: no port between nodes, which an exchange of {gpus.max():.0f} GPUs needs")
    if isinstance(params, LowLatency):
        return _low_latency_s(params, device, (tokens, hidden, top_k, experts, gpus, nodes))
    return _normal_s(params, device, (tokens, hidden, top_k, experts, gpus, nodes), sms)


def _low_latency_s(params: LowLatency, device: Device, shape: tuple[FloatArray, ...]) -> FloatArray:
    tokens, hidden, top_k, experts, gpus, nodes = shape
    away = (nodes - 1) / nodes
    remote = (gpus / nodes - 1) / (gpus / nodes)  # of the copies that stay in the node, those for another GPU
    copies = tokens * top_k
    copy_bytes = params.element_bytes * hidden + params.header_bytes
    node_s = copies * (1 - away) * remote * copy_bytes / (params.nvlink_share * device.nvlink)
    used = np.ceil(experts / np.ceil(experts / device.sms))  # experts share an SM where there are more of them
    work = np.ceil((copies if params.per_copy else tokens) / used)
    node_s = node_s + work * (params.sm + params.sm_element * hidden)
    sent = copies * away * copy_bytes
    nodes_s = _over_nic(sent + params.uneven * np.sqrt(sent * copy_bytes), params.nic_share, device)
    start = params.start + params.start_expert * experts + params.start_away * away
    return _round(params.corner, start, np.maximum(node_s, nodes_s))


def _normal_s(params: Normal, device: Device, shape: tuple[FloatArray, ...], sms: FloatArray) -> FloatArray:
    tokens, hidden, top_k, experts, gpus, nodes = shape
    away = (nodes - 1) / nodes
    copy_bytes = params.element_bytes * hidden + params.header_bytes
    ranks = distinct_groups(experts, gpus, top_k)
    send = ranks * (params.send_copy + params.send_byte * copy_bytes) + away * params.send_away_byte * copy_bytes
    receive = params.receive + params.receive_byte * copy_bytes
    remote = (gpus / nodes - 1) / (gpus / nodes)
    node_s = tokens * ranks * remote * copy_bytes / (params.nvlink_share * device.nvlink)
    leaving = tokens * distinct_groups(experts, nodes, top_k) * away * copy_bytes
    network_s = np.maximum(node_s, _over_nic(leaving, params.nic_share, device))
    body = _round(params.overlap, send * tokens / sms, receive * tokens / sms, network_s)
    body = body + body * params.fill / (body + params.fill)
    start = params.start + params.start_element * hidden + params.start_node * (nodes - 1)
    return _round(params.corner, start, body)


def fills_nodes(gpus: FloatArray, node: FloatArray | float) -> BoolArray:
    """Return whether *gpus* are in one node, or fill whole nodes of *node* GPUs, in their common shape."""
    result: BoolArray = (gpus <= node) | (gpus % node == 0)
    return result


def distinct_groups(experts: FloatArray, groups: FloatArray, top_k: FloatArray) -> FloatArray:
    """Return how many of the *groups* that share the *experts* evenly hold one of a token's *top_k*, on average.

    The token's experts are distinct and random.
    """
    experts, groups, top_k = np.broadcast_arrays(experts, groups, top_k)
    elsewhere = experts - experts / groups
    missed = np.ones(experts.shape)
    for drawn in range(int(top_k.max(initial=0))):
        share = np.maximum(elsewhere - drawn, 0) / np.maximum(experts - drawn, 1)
        missed = np.where(drawn < top_k, missed * share, missed)
    result: FloatArray = groups * (1 - missed)
    return result


def _over_nic(moved: FloatArray, share: float, device: Device) -> FloatArray:
    """Return the seconds of *moved* bytes through a GPU's NIC; 0 for a device without one, which moves none."""
    return moved / (share * device.nic) if device.nic else np.zeros_like(moved)


def _round(corner: float, *parts: FloatArray) -> FloatArray:
    """Return the time of *parts* that overlap in part: their sum for a corner of 1, towards the longest above."""
    result: FloatArray = sum(part**corner for part in np.broadcast_arrays(*parts)) ** (1 / corner)
    return result


_LOW_LATENCY_DISPATCH = LowLatency(
    element_bytes=33 / 32,
    header_bytes=16,
    per_copy=False,
    start=6.97e-6,
    start_expert=13.4e-9,
    start_away=19.2e-6,
    nvlink_share=0.630,
    nic_share=0.954,
    sm=1.17e-6,
    sm_element=0.227e-9,
    uneven=0,
    corner=1,
)
_LOW_LATENCY_COMBINE = LowLatency(
    element_bytes=2,
    header_bytes=0,
    per_copy=True,
    start=10.8e-6,
    start_expert=5.93e-9,
    start_away=17.0e-6,
    nvlink_share=0.472,
    nic_share=0.984,
    sm=0,
    sm_element=28.4e-12,
    uneven=3.06,
    corner=1.18,
)
_NORMAL_DISPATCH = Normal(
    element_bytes=33 / 32,
    header_bytes=16,
    start=25.4e-6,
    start_element=0,
    start_node=3.68e-6,
    nvlink_share=0.702,
    nic_share=0.947,
    send_copy=0.100e-6,
    send_byte=41.2e-12,
    send_away_byte=0.321e-9,
    receive=0.752e-6,
    receive_byte=0,
    fill=22.1e-6,
    overlap=6,
    corner=1.09,
)
_NORMAL_COMBINE = Normal(
    element_bytes=2,
    header_bytes=0,
    start=25.6e-6,
    start_element=2.98e-9,
    start_node=4.38e-6,
    nvlink_share=0.722,
    nic_share=0.926,
    send_copy=0,
    send_byte=49.1e-12,
    send_away_byte=0.668e-9,
    receive=0,
    receive_byte=0.170e-9,
    fill=70.5e-6,
    overlap=6,
    corner=1.26,
)
# DeepEP on H100: low latency on 8 GPUs (14 models) and 16 to 64 GPUs (one model), normal on 8 to 32 GPUs. What each
# parameter is worth: experiments/kernels/exchange.md. A 0 or 1 without decimals is a parameter that the fit left out.
EXCHANGES: Presets[Exchange] = Presets(
    "EXCHANGES",
    {
        "deepep_low_latency": Exchange(dispatch=_LOW_LATENCY_DISPATCH, combine=_LOW_LATENCY_COMBINE),
        "deepep_normal": Exchange(dispatch=_NORMAL_DISPATCH, combine=_NORMAL_COMBINE),
    },
)
