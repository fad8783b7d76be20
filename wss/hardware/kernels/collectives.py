"""Collectives of the GPUs of one node: all-reduce, all-gather, reduce-scatter and all-to-all.

With g GPUs, a ring of an all-gather or a reduce-scatter takes g - 1 steps, that of an all-reduce 2 · (g - 1); each step
moves 1/g of the message. An all-to-all sends to all others at once:

    moving = steps / g · message / (share · NVLink) + 2 · message / (copy · HBM)
    time   = t0 + steps · ts + moving + moving · f / (moving + f)

An all-reduce of a small message is faster if every GPU reads all messages (one shot), or if each sums one part and the
parts are read back (two shots); libraries take the fastest, and so does `all_reduce_s` where the set has them:

    one shot  = o0 + (g - 1) · message / (os · NVLink)
    two shots = w0 + 2 · (g - 1) / g · message / (ws · NVLink)

Sums in the switch (NVLS) have no term of their own: the ring's share of NVLink is fitted to what is measured.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import inf

import numpy as np
from numpy.typing import ArrayLike

from wss.errors import ConfigError
from wss.hardware.kernels.device import Device
from wss.presets import Presets
from wss.records import FloatArray

MOST_GPUS = 8  # the largest measured group; all of one node


@dataclass(frozen=True, kw_only=True)
class Ring:
    """Parameters of collectives that move the message in steps.

    Attributes
    ----------
    start, step
        t0, ts, s: fixed time, and time of a step.
    nvlink_share
        Reached share of the NVLink port, 0 to 1.
    copy
        Reached share of the HBM bandwidth by reading and writing the message once, 0 to 1.
    fill
        f, s: most time for which the first data pass the stages one after the other.
    """

    start: float
    step: float
    nvlink_share: float
    copy: float
    fill: float


@dataclass(frozen=True, kw_only=True)
class Shots:
    """Parameters of a custom all-reduce for small messages.

    Attributes
    ----------
    one_start, one_share
        o0 (s) and os: fixed time of one shot, and its share of the NVLink port, 0 to 1.
    two_start, two_share
        w0 (s) and ws: those of two shots; infinite and 1 for a library without them.
    """

    one_start: float
    one_share: float
    two_start: float
    two_share: float


@dataclass(frozen=True, kw_only=True)
class Collectives:
    """A library's collectives; ``shots`` is None for one without a custom all-reduce."""

    ring: Ring
    all_to_all: Ring
    shots: Shots | None = None


def all_reduce_s(collectives: Collectives, device: Device, message: ArrayLike, gpus: ArrayLike) -> FloatArray:
    """Return the seconds, in the common shape of the arguments, of summing every GPU's *message* (bytes) for all."""
    size, group = _arrays(device, message, gpus)
    seconds = _ring_s(collectives.ring, device, size, group, 2 * (group - 1))
    shots = collectives.shots
    if shots is not None:
        one = shots.one_start + (group - 1) * size / (shots.one_share * device.nvlink)
        two = shots.two_start + 2 * (group - 1) / group * size / (shots.two_share * device.nvlink)
        seconds = np.where(group > 1, np.minimum(seconds, np.minimum(one, two)), seconds)
    return seconds


def all_gather_s(collectives: Collectives, device: Device, message: ArrayLike, gpus: ArrayLike) -> FloatArray:
    """Return the seconds of gathering a *message* on all GPUs; each has 1/gpus of its bytes at first."""
    size, group = _arrays(device, message, gpus)
    return _ring_s(collectives.ring, device, size, group, group - 1)


def reduce_scatter_s(collectives: Collectives, device: Device, message: ArrayLike, gpus: ArrayLike) -> FloatArray:
    """Return the seconds of summing every GPU's *message* (bytes), of which each gets 1/gpus; as an all-gather."""
    return all_gather_s(collectives, device, message, gpus)


def all_to_all_s(collectives: Collectives, device: Device, message: ArrayLike, gpus: ArrayLike) -> FloatArray:
    """Return the seconds of sending 1/gpus of every GPU's *message* (bytes) to each GPU."""
    size, group = _arrays(device, message, gpus)
    wire = (group - 1) / group * size
    return _moved_s(collectives.all_to_all, device, size, group, np.ones_like(group), wire)


def _ring_s(ring: Ring, device: Device, size: FloatArray, group: FloatArray, steps: FloatArray) -> FloatArray:
    """Return the seconds of *steps* that each move 1/group of *size* bytes; 0 for one GPU."""
    return _moved_s(ring, device, size, group, steps, steps / group * size)


def _moved_s(
    ring: Ring, device: Device, size: FloatArray, group: FloatArray, steps: FloatArray, wire: FloatArray
) -> FloatArray:
    """Return the seconds of *steps* that send *wire* bytes from each GPU, and of reading and writing *size* bytes."""
    moving = wire / (ring.nvlink_share * device.nvlink) + 2 * size / (ring.copy * device.hbm)
    return np.where(group > 1, ring.start + ring.step * steps + _filled(moving, ring.fill), 0.0)


def _filled(seconds: FloatArray, fill: float) -> FloatArray:
    result: FloatArray = seconds + seconds * fill / (seconds + fill)
    return result


def _arrays(device: Device, message: ArrayLike, gpus: ArrayLike) -> tuple[FloatArray, FloatArray]:
    size, group = np.broadcast_arrays(np.asarray(message, float), np.asarray(gpus, float))
    if not np.all(size >= 0) or not np.all(np.isfinite(size)):
        raise ConfigError("collective: message must be a number of bytes of at least 0")
    if not np.all((group >= 1) & (group <= MOST_GPUS)):
        raise ConfigError(
            f"collective: gpus must be 1 to {MOST_GPUS}, those of one node; larger groups are not modelled"
        )
    if np.any(group > 1) and not device.nvlink:
        raise ConfigError(f"{device.name}: no port to other GPUs, which a collective needs")
    return size, group


_NCCL_RING = Ring(start=5.19e-6, step=0.798e-6, nvlink_share=1.0, copy=0.753, fill=32.8e-6)
_NCCL_ALL_TO_ALL = Ring(start=7.83e-6, step=0, nvlink_share=0.870, copy=1, fill=16.9e-6)
# NCCL 2.29 on 2, 4 and 8 H100; messages of 1 KiB to 512 MiB (custom all-reduce: from 256 B).
COLLECTIVES: Presets[Collectives] = Presets(
    "COLLECTIVES",
    {
        "nccl": Collectives(ring=_NCCL_RING, all_to_all=_NCCL_ALL_TO_ALL),
        "vllm": Collectives(
            ring=_NCCL_RING,
            all_to_all=_NCCL_ALL_TO_ALL,
            shots=Shots(one_start=4.55e-6, one_share=0.584, two_start=8.86e-6, two_share=0.651),
        ),
        "trtllm": Collectives(
            ring=_NCCL_RING,
            all_to_all=_NCCL_ALL_TO_ALL,
            shots=Shots(one_start=2.93e-6, one_share=0.643, two_start=inf, two_share=1),
        ),
    },
)
