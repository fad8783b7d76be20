"""Insight 6 alone: what a layout made for the coming workload gains over ones made for other workloads.

python experiments/workloads/run.py deepseek    recorded loads of DeepSeek-V3, routing made up after them
python experiments/workloads/run.py recorded    gpt-oss-20b and Llama-4, recorded routing
python experiments/workloads/run.py grouped     the same: batches of one workload each against mixed ones

WSS_SHARED names the folder whose traces/ holds the recordings, which are not shipped.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Sequence
from math import sqrt
from pathlib import Path
from statistics import fmean, stdev
from tempfile import TemporaryDirectory
from typing import Any

from wss.config import load
from wss.execution import run
from wss.execution.routing import open_routing
from wss.report.markdown import table
from wss.traces.merge import join

CONFIGS = Path(__file__).parents[2] / "configs"
TRACES = Path(os.environ.get("WSS_SHARED", CONFIGS.parents[1] / "shared")) / "traces"
LOADS = TRACES / "deepseek-v3__sglang_ep_statistics.parquet"
PLACEMENTS = ("remap", "dup", "eplb")
SEEDS = (0, 1, 2)
T_95 = {2: 12.706, 3: 4.303, 4: 3.182, 6: 2.571, 12: 2.201}  # Student, by the number of values

# Decode to serve: its own prefill, the workload most like it that was recorded apart, and another.
DEEPSEEK = {
    "in1000out1000": ("prefill_in1000out1000", "decode_in500out1500", "decode_in2000out100"),
    "in2000out100": ("prefill_in2000out100", "decode_in1800out100", "decode_in500out1500"),
}
DECODES = ("decode_in500out1500", "decode_in1000out1000", "decode_in1800out100", "decode_in2000out100")
GPT_OSS = ("gpqa_main", "mmlu_pro_test", "mmlu_test", "sorry_bench_base")
LLAMA_4 = ("mmlu__abstract_algebra", "mmlu__anatomy")
NAMES = {"gpt_oss_20b": "openai__gpt-oss-20b__", "llama4_maverick": "meta-llama__Llama-4-Maverick-17B-128E-Instruct__"}
ODD_LAYER = 45  # of Llama-4: it sends 99.9% of all tokens to one expert

Times = dict[tuple[str, str], float]  # decode time by placement and history


def interval(values: Sequence[float]) -> str:
    """Return the mean and half the 95% interval."""
    return f"{fmean(values):.3f} ±{T_95[len(values)] * stdev(values) / sqrt(len(values)):.3f}"


def policies_of(histories: dict[str, str]) -> str:
    """Return `ep`, and each placement by each history, as a setting; an empty history is the batch's prefill."""
    made = [
        f"{{name: {placement} by {name}, preset: {placement}{f', history: {history}' if history else ''}}}"
        for name, history in histories.items()
        for placement in PLACEMENTS
    ]
    return f"policies=[ep, {', '.join(made)}]"


def times_of(model: str, settings: Iterable[str], histories: dict[str, str]) -> Times:
    """Return decode times, estimates for all layers where they are sampled."""
    common = ["baseline=ep", policies_of(histories), *settings]
    runs = run(load(CONFIGS / f"{model}.yaml", common)).to_dict()["runs"]
    times: Times = {}
    for figures in runs:
        placement, _, history = figures["policy"].partition(" by ")
        times[placement, history] = _seconds(figures)
    return times


def _seconds(figures: dict[str, Any]) -> float:
    return float(figures["decode_time_s"])


def show(head: str, found: Sequence[Times]) -> None:
    """Print a row a history: the speedup over `ep` of each placement, mean over *found*."""
    histories = dict.fromkeys(history for _, history in found[0] if history)
    body = []
    for history in histories:
        gains = [[times["ep", ""] / times[placement, history] for times in found] for placement in PLACEMENTS]
        body.append([history, *map(interval, gains)])
    print(f"\n{head}\n\n{table(['by', *PLACEMENTS], body)}", flush=True)


def show_gains(head: str, found: Sequence[Sequence[Times]]) -> None:
    """Print what the first history gains over each other, the mean over workloads; *found* is [seeds][workloads]."""
    own, *others = dict.fromkeys(history for _, history in found[0][0] if history)
    body = []
    for other in others:
        gains = [
            [fmean(times[placement, other] / times[placement, own] for times in of_seed) for of_seed in found]
            for placement in PLACEMENTS
        ]
        body.append([f"{own} over {other}", *map(interval, gains)])
    print(f"\n{head}\n\n{table(['', *PLACEMENTS], body)}", flush=True)


def deepseek() -> None:
    """Serve two recorded workloads by layouts of others, at two batches."""
    for batch in (4096, 16384):
        every: list[list[Times]] = [[] for _ in SEEDS]
        for workload, (prefill, like, other) in DEEPSEEK.items():
            own = f"decode_{workload}"
            dumps = {"a like workload": like, "another workload": other, "the very loads": own}
            histories = {name: f"{{path: {LOADS}, only: [{dump}]}}" for name, dump in dumps.items()}
            decodes = f"[{', '.join(DECODES)}]"
            histories |= {"all decode workloads": f"{{path: {LOADS}, only: {decodes}}}", "own prefill": ""}
            synth = f"loads: {LOADS}, workload: {prefill}, drift_to: {own}, drift_at: 1, agreement: 1.0"
            settings = [
                f"trace.synth={{preset: deepseek_v3, requests: {batch}, {synth}}}",
                *(f"batch={batch}", "steps=8", "layers.sample=6"),
            ]
            found = [times_of("deepseek_v3", [*settings, f"seed={seed}"], histories) for seed in SEEDS]
            show(f"DeepSeek-V3, decode of {workload}, batch {batch}", found)
            for of_seed, times in zip(every, found, strict=True):
                of_seed.append(times)
        show_gains(f"DeepSeek-V3, batch {batch}, mean of the workloads", every)


def halves(folder: Path, model: str, workloads: Sequence[str], seed: int, limit: int | None = None) -> dict[str, Path]:
    """Cut each workload's requests in two; return the file to place by and, under ``"now " + name``, that to serve."""
    paths = {}
    for workload in workloads:
        source = TRACES / "parquet" / f"{NAMES[model]}{workload}.parquet"
        for half, name in (("even", workload), ("odd", f"now {workload}")):
            paths[name] = folder / f"{name}.parquet"
            join(paths[name], [source], half=half, seed=seed, limit=limit if half == "odd" else None)
    paths["all workloads"] = folder / "all.parquet"
    join(paths["all workloads"], [paths[workload] for workload in workloads])
    return paths


def recorded() -> None:
    """Serve one half of each workload's requests by layouts of the other halves."""
    for model, workloads, without in (("gpt_oss_20b", GPT_OSS, -1), ("llama4_maverick", LLAMA_4, ODD_LAYER)):
        layers = [layer for layer in load(CONFIGS / f"{model}.yaml").model.moe_layers if layer != without]
        every: list[list[Times]] = [[] for _ in SEEDS]
        for workload in workloads:
            found = []
            for seed in SEEDS:
                with TemporaryDirectory() as folder:
                    paths = halves(Path(folder), model, workloads, seed)
                    histories = {f"{name}": f"{{path: '{paths[name]}'}}" for name in (*workloads, "all workloads")}
                    if model != "gpt_oss_20b":
                        histories["own prefill"] = ""
                    settings = [f"trace.path={paths[f'now {workload}']}", "batch=4096", "steps=64", f"layers={layers}"]
                    found.append(times_of(model, settings, histories))
            show(f"{model}, {workload}, batch 4096", found)
            for of_seed, times in zip(every, found, strict=True):
                of_seed.append(_named(times, workload, workloads))
        show_gains(f"{model}, mean of the workloads", every)


def _named(times: Times, own: str, workloads: Sequence[str]) -> Times:
    """Return *times* with workloads' names replaced by what they are to the one served; others are averaged."""
    result: Times = {("ep", ""): times["ep", ""]}
    for placement in PLACEMENTS:
        result[placement, "the same workload"] = times[placement, own]
        result[placement, "another workload"] = fmean(times[placement, name] for name in workloads if name != own)
        result |= {(p, name): time for (p, name), time in times.items() if p == placement and name not in workloads}
    return result


def grouped() -> None:
    """Serve as many different requests of each workload in batches of one workload, or of all in equal parts."""
    for model, workloads, each in (("gpt_oss_20b", GPT_OSS[1:], 24), ("llama4_maverick", LLAMA_4, 48)):
        rows: dict[str, list[float]] = {}
        for seed in SEEDS:
            with TemporaryDirectory() as folder:
                grouped_s, mixed = _both(Path(folder), model, workloads, each, seed)
                for name, seconds in mixed.items():
                    rows.setdefault(name, []).append(seconds / grouped_s)
        body = [[name, interval(values)] for name, values in rows.items()]
        print(f"\n{model}, {', '.join(workloads)}: time of mixed batches over grouped ones by their own layouts\n")
        print(table(["mixed batches, eplb by", "time"], body), flush=True)


def _both(folder: Path, model: str, workloads: Sequence[str], each: int, seed: int) -> tuple[float, dict[str, float]]:
    """Return the seconds a token of grouped batches, and of mixed ones by layout."""
    layers = [layer for layer in load(CONFIGS / f"{model}.yaml").model.moe_layers if layer != ODD_LAYER]
    common = ["batch=4096", "steps=64", f"layers={layers}"]
    paths = halves(folder, model, workloads, seed, each)
    alone = [
        _per_token(model, [*common, f"trace.path={paths[f'now {name}']}"], {"own": f"{{path: '{paths[name]}'}}"})["own"]
        for name in workloads
    ]
    mixed = folder / "mixed.parquet"
    join(mixed, [paths[f"now {name}"] for name in workloads], limit=each // len(workloads))
    by = "subject" if model == "llama4_maverick" else "benchmark"
    histories = {
        "all that was served": f"{{path: '{paths['all workloads']}'}}",
        f"the {by} of each request": f"{{path: '{paths['all workloads']}', by: {by}}}",
        workloads[0]: f"{{path: '{paths[workloads[0]]}'}}",
    }
    return fmean(alone), _per_token(model, [*common, f"trace.path={mixed}"], histories)


def _per_token(model: str, settings: Iterable[str], histories: dict[str, str]) -> dict[str, float]:
    """Return seconds a decode token by history, with EPLB."""
    made = ", ".join(f"{{name: {name}, preset: eplb, history: {at}}}" for name, at in histories.items())
    experiment = load(CONFIGS / f"{model}.yaml", ["baseline=ep", f"policies=[ep, {made}]", *settings])
    tokens = open_routing(experiment).schedule.decode_tokens
    runs = run(experiment).to_dict()["runs"]
    return {figures["policy"]: figures["decode_time_s"] / tokens for figures in runs if figures["policy"] != "ep"}


def main(what: str) -> None:
    """Run what is asked for, where the recordings are at hand."""
    if not LOADS.exists():
        sys.exit(f"{LOADS} is absent: recordings are not shipped; set WSS_SHARED to the folder that holds traces/")
    {"deepseek": deepseek, "recorded": recorded, "grouped": grouped}[what]()


if __name__ == "__main__":
    main(sys.argv[1])
