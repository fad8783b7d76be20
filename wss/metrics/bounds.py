"""What no policy can beat: a lower bound on the time of one MoE kernel.

Take D dies, T tokens on A active experts, experts of B bytes. Whatever the placement and the plan:

* compute: some die computes at least ceil(T/D) tokens, and a die computes at most at its peak:
  time >= ceil(T/D) · FLOP per token / peak;
* HBM: each active expert is read, whole, from some HBM at least once, so some HBM serves at least ceil(A/D) reads; none
  of them moves a byte before its start latency (LLC miss and HBM) is over:
  time >= LLC miss + HBM latency + ceil(A/D) · B / HBM bandwidth.

The engine keeps no weights in an LLC from one kernel to the next, so nothing is taken off for LLC hits.
"""

from __future__ import annotations

import math

from wss.hardware.wafer import Wafer
from wss.models.shape import ModelShape, Precision
from wss.records import IntArray


def kernel_bound(counts: IntArray, model: ModelShape, wafer: Wafer, precision: Precision) -> float:
    """Return the lower bound in seconds; *counts* is tokens per expert, [experts]."""
    die = wafer.spec.die
    tokens, active = int(counts.sum()), int((counts > 0).sum())
    compute = math.ceil(tokens / wafer.num_dies) * model.flop_per_token / die.flops[precision]
    reads = math.ceil(active / wafer.num_dies) * model.expert_bytes(precision) / die.hbm.bandwidth
    return max(compute, die.llc.miss + die.hbm.latency + reads)
