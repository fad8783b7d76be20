"""How to start an engine with a layout.

Options of SGLang as of 0.5 (sglang/srt/server_args.py; docs.sglang.io, expert parallelism). SGLang reads a layout with
``--init-expert-location``; the number of redundant experts is that of a layer, over all GPUs, and must fit the file.
``--ep-dispatch-algorithm dynamic`` draws a replica for every token, as the simulation splits them; SGLang's own choice
for a layout, ``static``, gives each GPU one replica of every expert.

Options of vLLM as of 0.26 (vllm/config/parallel.py; docs.vllm.ai, expert parallel deployment). No release of vLLM up to
that one reads a layout: it starts contiguously, with the first experts repeated, and its own EPLB rearranges experts
while it serves. Pull requests that add it were open (vllm-project/vllm 41141, 49572).
"""

from __future__ import annotations

from shlex import quote
from typing import Literal

from wss.advice.candidates import CONTIGUOUS
from wss.advice.result import Advice
from wss.files import json_text
from wss.hardware import SwitchedSpec

Engine = Literal["sglang", "vllm"]


def start_lines(advice: Advice, engine: Engine, layout: str) -> list[str]:
    """Return the command that starts *engine* with the best layout, a line per option; *layout* is the file's path."""
    return _sglang(advice, layout) if engine == "sglang" else _vllm(advice)


def engine_notes(advice: Advice, engine: Engine) -> list[str]:
    """Return notes on the command, and on what the engine does differently."""
    nodes, notes = _nodes(advice), []
    if nodes > 1 and engine == "sglang":
        notes.append(f"run it on every node, with RANK 0 to {nodes - 1}")
    if nodes > 1 and engine == "vllm":
        first = advice.gpus // nodes
        ranks = ", ".join(str(node * first) for node in range(1, min(nodes, 4))) + (", ..." if nodes > 4 else "")
        notes.append(f"on the other nodes add --headless --data-parallel-start-rank {ranks}")
    if engine == "vllm" and advice.best.kind != CONTIGUOUS:
        notes.append(
            "vLLM (up to 0.26) loads no layout from a file: its own EPLB makes one from the traffic while it serves, "
            "so expect this gain only after its first rearrangement, and as far as its layout is like this one"
        )
    return notes


def _nodes(advice: Advice) -> int:
    wafer = advice.experiment.wafer
    return wafer.nodes if isinstance(wafer, SwitchedSpec) else 1


def _sglang(advice: Advice, layout: str) -> list[str]:
    """Return the command for SGLang."""
    nodes = _nodes(advice)
    lines = [
        "python3 -m sglang.launch_server --model-path MODEL",
        f"--tp-size {advice.gpus} --dp-size {advice.gpus} --enable-dp-attention",
        f"--ep-size {advice.gpus} --moe-a2a-backend deepep",
    ]
    if nodes > 1:
        lines.append(f"--nnodes {nodes} --node-rank RANK --dist-init-addr HOST:PORT")
    if advice.best.kind != CONTIGUOUS or advice.redundant_in_all:
        lines.append(f"--init-expert-location {quote(layout)}")
    if advice.redundant_in_all:
        lines.append(f"--ep-num-redundant-experts {advice.redundant_in_all} --ep-dispatch-algorithm dynamic")
    return lines


def _vllm(advice: Advice) -> list[str]:
    """Return the command for vLLM."""
    nodes, parallel = _nodes(advice), f"--data-parallel-size {advice.gpus}"
    if nodes > 1:
        local = advice.gpus // nodes
        parallel += f" --data-parallel-size-local {local} --data-parallel-address HOST"
    lines = ["vllm serve MODEL --enable-expert-parallel", parallel]
    if advice.best.kind == CONTIGUOUS:
        return lines
    config = json_text({"num_redundant_experts": advice.redundant_in_all}, indent=None)
    return [*lines, f"--enable-eplb --eplb-config '{config}'"]
