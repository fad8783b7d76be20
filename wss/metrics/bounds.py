"""What no policy can beat: a lower bound on the time of one MoE kernel.

Take D dies, T tokens on A active experts, experts of B bytes. Whatever the placement and the plan:

* compute: some die computes at least ceil(T/D) tokens, and takes at least what the GEMM model takes for them with all
  tiles and waves full (with `gemm: ideal`, at its peak):
  time >= least seconds of ceil(T/D) tokens;
* HBM: each active expert is read, whole, at least once, and the first read of it comes from an LLC only if it lay in
  one when the kernel began. The LLCs hold floor(LLC / B) experts each, so R = max(0, A - D · floor(LLC / B)) experts
  are read from some HBM, and some HBM serves at least ceil(R/D) of these reads; none of them moves a byte before its
  start latency (LLC miss and HBM) is over:
  time >= LLC miss + HBM latency + ceil(R/D) · B / HBM bandwidth, if R > 0.
"""

from __future__ import annotations

import math

from wss.hardware.gemm import GEMMS, GemmModel
from wss.hardware.wafer import Wafer
from wss.models.shape import ModelShape, Precision
from wss.records import IntArray


def kernel_bound(
    counts: IntArray, model: ModelShape, wafer: Wafer, precision: Precision, gemm: GemmModel = GEMMS["ideal"]
) -> float:
    """Return the lower bound in seconds; *counts* is tokens per expert, [experts]."""
    die = wafer.spec.die
    tokens, active = int(counts.sum()), int((counts > 0).sum())
    a_die = math.ceil(tokens / wafer.num_dies)
    compute = gemm.least_seconds(a_die, model.hidden_size, model.moe_intermediate_size, die, precision)
    nbytes = model.expert_bytes(precision)
    cached = wafer.num_dies * int(die.llc.size // nbytes)
    if active <= cached:
        return compute
    reads = math.ceil((active - cached) / wafer.num_dies) * nbytes / die.hbm.bandwidth
    return max(compute, die.llc.miss + die.hbm.latency + reads)
