"""Compare `dispatch` with what DeepEP's kernels are reported to take on H800s and H100s.

    python experiments/validation/deepep.py

The figures are those of DeepEP's README and docs/legacy.md (github.com/deepseek-ai/DeepEP, commit 0297fc8): the best of
many tuned settings. The routing is made as in its tests (test_internode.py, test_intranode.py, test_low_latency.py):
random scores, of the nodes the `min(nodes, 4)` with the best expert, of their experts the best 8. Bandwidths are turned
into times by the bytes that these tests divide by, a token's own GPU and node included: hidden · 1.03125 B in dispatch
(FP8 with its scales), hidden · 2 B in combine, times the nodes it goes to; inside a node, the GPUs; with low latency, 8
experts.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from wss.engine.alltoall import AllToAll
from wss.engine.specs import AllToAllSpec, FluidSpec
from wss.hardware import WAFERS, Wafer, build
from wss.records import Plan, Routed

HIDDEN, EXPERTS, TOP_K, GPUS = 7168, 256, 8, 8
SIZES = (HIDDEN * (1 + 4 / 128), HIDDEN * 2.0)  # bytes of a token in dispatch and combine


@dataclass(frozen=True)
class Reported:
    """Reported dispatch and combine, GB/s or, if *low_latency*, us; *nodes* of 8 GPUs with *tokens* each."""

    kernels: str
    nodes: int
    tokens: int
    dispatch: float
    combine: float
    nvlink: float = 160e9  # "~160 GB/s NVLink maximum bandwidth" of the H800
    low_latency: bool = False


V1, V2, LOW = "V1, H800", "V2, SM90", "V1 low latency, H800"
REPORTED = (
    Reported(V1, 1, 4096, 153, 158),
    Reported(V1, 2, 4096, 43, 43),
    Reported(V1, 4, 4096, 58, 57),
    Reported(V1, 8, 4096, 51, 50),
    Reported(V2, 2, 8192, 90, 81, nvlink=450e9),
    Reported(V2, 4, 8192, 61, 61, nvlink=450e9),
    Reported(LOW, 1, 128, 77, 114, low_latency=True),
    Reported(LOW, 2, 128, 118, 195, low_latency=True),
    Reported(LOW, 4, 128, 155, 273, low_latency=True),
    Reported(LOW, 8, 128, 173, 314, low_latency=True),
    Reported(LOW, 16, 128, 192, 369, low_latency=True),
    Reported(LOW, 32, 128, 194, 360, low_latency=True),
)


def routing(case: Reported, rng: np.random.Generator) -> Routed:
    """Return the experts of the tokens of all GPUs, [tokens, 8], GPU by GPU."""
    made = []
    for _ in range(case.nodes * GPUS):
        scores = np.abs(rng.standard_normal((case.tokens, EXPERTS), dtype=np.float32)) + 1
        if not case.low_latency and case.nodes > 4:
            groups = scores.reshape(case.tokens, case.nodes, -1)
            fourth = np.partition(groups.max(axis=2), -4, axis=1)[:, -4]
            scores = np.where(groups.max(axis=2) >= fourth[:, None], 1, 0)[:, :, None] * groups
            scores = scores.reshape(case.tokens, EXPERTS)
        made.append(np.argpartition(scores, -TOP_K, axis=1)[:, -TOP_K:])
    experts = np.concatenate(made)
    return Routed(experts, np.ones(len(experts), np.int64))


def predicted(case: Reported, routed: Routed, once_per: str, wafer: Wafer) -> tuple[float, float]:
    """Return how long dispatch and combine take, s, with expert e on GPU e // (experts / GPUs)."""
    counts = np.bincount(routed.experts.ravel(), minlength=EXPERTS)
    expert = np.arange(EXPERTS)
    die = expert // (EXPERTS // wafer.num_dies)
    plan = Plan(expert=expert, die=die, tokens=counts, source=die, copy=np.zeros(EXPERTS, np.bool_))
    sizes = {"dispatch_bytes": SIZES[0] / HIDDEN, "combine_bytes": SIZES[1] / HIDDEN}
    how = AllToAllSpec(once_per=once_per, counting="exact", **sizes)
    got = AllToAll(how, FluidSpec(), wafer, HIDDEN, TOP_K).run(plan, routed)
    return got.dispatch, got.combine


def measured(case: Reported, routed: Routed) -> tuple[float, float]:
    """Return the reported times, s: the mean GPU's bytes over the reported bandwidth."""
    if case.low_latency:
        return case.dispatch * 1e-6, case.combine * 1e-6
    num_groups = case.nodes if case.nodes > 1 else GPUS
    group = np.sort(routed.experts // (EXPERTS // num_groups), axis=1)
    distinct = (1 + (np.diff(group, axis=1) > 0).sum(axis=1)).mean()
    dispatched, combined = (case.tokens * distinct * size for size in SIZES)
    return dispatched / (case.dispatch * 1e9), combined / (case.combine * 1e9)


def all_to_all_table() -> list[str]:
    """Return the comparison as a table."""
    lines = [
        "## All-to-all of tokens (`dispatch`)",
        "",
        "DeepEP's reported kernel times are the best of many settings (README and docs/legacy.md, commit 0297fc8),",
        "with hidden size 7168, top 8 of 256 experts, FP8 and its scales in dispatch and BF16 in combine. Routing is",
        "random, as in DeepEP's tests, with at most 4 nodes per token (any number with low latency). Reported",
        "bandwidths were converted to times with the bytes by which DeepEP's tests divide. NVLink of 160 GB/s and",
        "InfiniBand of 50 GB/s are the maxima that DeepEP states for its H800s. The NVLink of V2's machines is not",
        "stated and is assumed to be 450 GB/s. Times are in us. `ours` is `once_per: node`, and `once_per: expert`",
        "for low latency:",
        "",
        "| kernels | GPUs | tokens a GPU | dispatch reported | ours | error | `die` "
        "| combine reported | ours | error | `die` |",
        "|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    preset = WAFERS["h100_nvl8"]
    for case in REPORTED:
        wafer = build(replace(preset, nodes=case.nodes, link=replace(preset.link, bandwidth=case.nvlink)))
        routed = routing(case, np.random.default_rng(0))
        ours = predicted(case, routed, "expert" if case.low_latency else "node", wafer)
        by_die = predicted(case, routed, "die", wafer)
        cells = [case.kernels, f"{case.nodes * GPUS}", f"{case.tokens}"]
        for theirs, own, other in zip(measured(case, routed), ours, by_die, strict=True):
            cells += [f"{1e6 * theirs:.0f}", f"{1e6 * own:.0f}", f"{100 * (own / theirs - 1):+.0f}%"]
            cells.append("" if case.low_latency else f"{1e6 * other:.0f}")
        lines.append("| " + " | ".join(cells) + " |")
    lines += [
        "",
        "All our times are too short. The model keeps links busy from beginning to end, and no other work of a GPU",
        "kernel takes time. (Why real kernels are slower was not tested.) Two nodes of H800s are limited by NVLink",
        "in the model, all other cases between nodes by InfiniBand. With low latency, the GPUs of a node are assumed",
        "to send over NVLink: the 98 GB/s reported for 8 GPUs are more than InfiniBand's.",
    ]
    return lines


if __name__ == "__main__":
    print("\n".join(all_to_all_table()))
