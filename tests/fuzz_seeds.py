"""Small valid inputs of every command and file format, from which the fuzzer starts; all made here."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from fuzz_files import read_parquet
from kit.kernels import TABLES, rows_of, without
from kit.trace_files import experts_of, save_csv, save_fingerprint, save_jsonl, save_sglang

MAP = [[0, 1, 2, 3, 4, 5, 6, 7], [7, 6, 5, 4, 3, 2, 1, 0]]
INVERSE = [[[e, -1] for e in range(8)], [[7 - e, -1] for e in range(8)]]
MODEL = {
    **{"name": "tiny", "num_layers": 3, "moe_layers": [1, 2], "num_experts": 8, "top_k": 2},
    **{"hidden_size": 64, "moe_intermediate_size": 32},
}
SYNTH = {"skew": 1.0, "requests": 8, "decode_tokens": 3, "prompt_min": 2, "prompt_max": 4}
CONFIG: dict[str, Any] = {
    **{"model": MODEL, "wafer": {"preset": "dojo", "mesh": [2, 2]}, "precision": "fp16", "trace": {"synth": SYNTH}},
    **{"batch": 8, "steps": 1, "layers": "all", "gemm": "ideal", "policies": ["base", "allo_pred"], "seed": 3},
}
DIE = {
    "flops": {"fp16": "900 TFLOPS"},
    "hbm": {"bandwidth": "3 TB/s", "size": "80 GB", "latency": "400 ns"},
    "llc": {"size": "1 MB", "bandwidth": "8 TB/s", "hit": "0 s", "miss": "100 ns", "write": "30 ns"},
    "sms": 132,
}
LINK = {"bandwidth": "1.7 TB/s", "latency": "200 ns", "request": "16 B", "granule": "128 B"}
HF = {
    **{"architectures": ["X"], "model_type": "x", "num_hidden_layers": 3, "first_k_dense_replace": 1},
    **{"hidden_size": 64, "moe_intermediate_size": 32, "n_routed_experts": 8, "num_experts_per_tok": 2},
    **{"intermediate_size": 128, "hidden_act": "silu", "scoring_func": "softmax", "n_group": 1, "topk_group": 1},
    **{"n_shared_experts": 1, "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 16, "vocab_size": 100},
}


@dataclass(frozen=True)
class Case:
    """A command and the files that it reads; *weight* is how often it is taken, *outs* what it may write.

    *keeps* says that it leaves finished parts behind when it ends with a fault, as a sweep does.
    """

    name: str
    argv: tuple[str, ...]
    files: dict[str, Any]
    outs: tuple[str, ...] = ()
    weight: float = 1.0
    keeps: bool = False
    fixed: frozenset[str] = field(default_factory=frozenset)  # files that are not mutated


def _run(name: str, weight: float = 1.0, files: dict[str, Any] | None = None, **changes: Any) -> Case:
    config = {key: value for key, value in {**CONFIG, **changes}.items() if value is not None}
    argv = ("run", "c.yaml", "--out", "out", "--quiet", *(["--json"] if len(name) % 2 else []))
    return Case(name, argv, {"c.yaml": config, **(files or {})}, ("out",), weight)


def _runs() -> Iterator[Case]:
    """Configurations: of each part of an experiment one that spells it out."""
    parts = [
        {"name": "p", "preset": "allo_pred", "copies": {"room": "reserve"}, "caching": "lru"},
        {"name": "q", "placement": {"kind": "strided"}, "allocation": "even"},
        {"name": "base", "preset": "base"},
    ]
    system = {"gpus": 2, "nodes": 2, "preset": "h100_nvl8"}
    yield _run("run plain", 3)
    yield _run("run wafer", wafer={"name": "w", "mesh": [2, 2], "die": DIE, "link": LINK})
    yield _run("run switched", wafer=system, dispatch={"dispatch_bytes": 1, "combine_bytes": 2, "once_per": "die"})
    yield _run("run policies", policies=parts, planning="20 us")
    yield _run("run packet", network={"kind": "packet", "chunk": "1 kB"}, window=3, engine="simpy")
    yield _run("run circuit", network={"kind": "circuit", "duplex": "half"}, gemm="h800", replications=2)
    dead = {"dies": [[0, 1]], "links": [], "yield": 1.0, "seed": 0}
    yield _run("run faults", faults=dead, wafer={"preset": "dojo", "mesh": [3, 3]})
    nine = {**MODEL, "num_layers": 9, "moe_layers": list(range(9))}
    yield _run("run sampled", layers={"sample": 4}, model=nine)
    synth = {"preset": "qwen3_235b", **SYNTH}
    paper = {"model": "qwen3_235b", "trace": {"synth": synth}, "physics": "paper", "layers": [3, 9], "wafer": "dojo"}
    paper |= {"gemm": None}
    yield _run("run artifact", 0.3, **paper, policies=["base", "allo_pred"])
    yield _run("run config.json", 1, {"config.json": HF}, model="config.json")
    loads = {"logical_count": [[1, 2, 3, 4, 5, 6, 7, 8], [8, 7, 6, 5, 4, 3, 2, 1]]}
    yield _run("run loads", 1, {"l.json": loads}, trace={"synth": {**SYNTH, "loads": "l.json", "workload": "l"}})
    mine = {"name": "mine", "placement": {"kind": "file", "path": "l.json"}, "allocation": "even"}
    past = {"name": "past", "preset": "eplb", "history": {"path": "l.json"}}
    yield _run("run history", 1, {"l.json": loads}, policies=["base", mine, past])


def _layouts() -> Iterator[Case]:
    """Layouts and loads in every form, read as the placement of a policy, or looked into."""
    ascend = {
        "moe_layer_count": 2,
        "layer_list": [
            {
                "layer_id": at,
                "device_count": 4,
                "device_list": [{"device_id": d, "device_expert": MAP[at][2 * d : 2 * d + 2]} for d in range(4)],
            }
            for at in range(2)
        ],
    }
    counts = [[1, 2, 3, 4, 5, 6, 7, 8], [8, 7, 6, 5, 4, 3, 2, 9]]
    passes = {"records": [{"global_physical_count": np.array(counts)}], "last_physical_to_logical_map": np.array(MAP)}
    forms: dict[str, Any] = {
        "map.json": {"physical_to_logical_map": MAP, "ep_size": 4, "num_experts_per_layer": 8},
        "inverse.json": {"logical_to_physical_map": INVERSE},
        "bare.json": MAP,
        "ranks.json": {"expert_to_ep_rank": [[0, 0, 1, 1, 2, 2, 3, 3], [3, 3, 2, 2, 1, 1, 0, 0]]},
        "vllm.json": {"version": 2, "model_maps": {"Toy": {"physical_to_logical_map": MAP}}},
        "ascend.json": ascend,
        "trt.yaml": {"initial_global_assignments": {1: MAP[0], 2: MAP[1]}, "num_slots": 8},
        "map.pt": {"physical_to_logical_map": np.array(MAP)},
        "eplb.pt": [np.array(MAP), np.array(INVERSE)[:, :, :1], np.ones((2, 8), np.int64)],
        "map.npy": np.array(MAP),
        "map.npz": {"arr_0": np.array(MAP)},
        "loads.json": {"logical_count": counts},
        "loads.pt": {"logical_count": np.array([counts, counts])},
        "passes.pt": passes,
        "loads.npy": np.array(counts) * 100,
        "loads.csv": [["layer", "expert", "count"], *([at + 1, e, counts[at][e]] for at in range(2) for e in range(8))],
        "wide.csv": [["layer", *(f"expert_{e}" for e in range(8))], [1, *counts[0]], [2, *counts[1]]],
    }
    for name, content in forms.items():
        mine = {"name": "mine", "placement": {"kind": "file", "path": name}, "allocation": "even"}
        config = {**CONFIG, "policies": ["base", mine]}
        argv = ("placement", "c.yaml", "--policy", "mine", "--out", "layout.json")
        files = {"c.yaml": config, name: content}
        yield Case(f"layout {name}", argv, files, ("layout.json",), 0.7, fixed=frozenset({"c.yaml"}))
        if "logical_count" in str(content)[:30] or "csv" in name or "loads" in name or "passes" in name:
            yield Case(f"stats {name}", ("trace", "stats", name, "--json"), {name: content}, weight=0.5)
            if name != "loads.npy":
                argv = ("trace", "import", name, "--out", "t.parquet", "--experts", "8")
                yield Case(f"import {name}", argv, {name: content}, ("t.parquet",), 0.5)


def _recordings(folder: Path) -> Iterator[Case]:
    """Recorded routing in every format."""
    experts = experts_of(7, 2, 2, 8)
    logical = np.full((5, 3, 2), -1)
    logical[:, 1:] = experts[:5]
    to_logical = np.tile(np.arange(8), (3, 1))
    passes = [([0, 1, 2], [3], logical[:3]), ([3], None, logical[3:4]), ([4], None, logical[4:5])]
    rng = np.random.default_rng(0)
    log = save_jsonl(folder / "r", {"a": experts}).read_text().splitlines()
    mask = np.array([[1, 1, 1, 0], [1, 1, 1, 1]])
    made: dict[str, tuple[Any, tuple[str, ...]]] = {
        "s.pt": (save_sglang(folder / "s.pt", passes, to_logical).read_bytes(), ("--experts", "8")),
        "f.json": (json.loads(save_fingerprint(folder / "f.json", experts).read_text()), ("--experts", "8")),
        "b.csv": (_rows(save_csv(folder / "b.csv", [experts, experts])), ("--experts", "8")),
        "r.jsonl": ([json.loads(line) for line in log], ("--experts", "8")),
        "v.npy": (experts, ("--experts", "8")),
        "v.npz": ({"prompt_routed_experts": experts[:3], "routed_experts": experts[3:]}, ("--experts", "8")),
        "l.npy": (rng.random((2, 7, 8)), ("--top-k", "2", "--lengths", "3,4")),
        "l.pt": ([rng.random((8, 8)), rng.random((8, 8))], ("--top-k", "2")),
        "l.npz": (
            {"layer_0": rng.random((2, 4, 8)), "layer_1": rng.random((2, 4, 8)), "attention_mask": mask},
            ("--top-k", "2", "--score", "sigmoid", "--bias", "bias.npy"),
        ),
    }
    topk = np.full((3, 3, 8), -1)
    topk[1:, :, :2] = experts[:3].transpose(1, 0, 2)
    one = {"forward_pass_id": 0, "rank": 0, "positions": np.arange(3), "extend_seq_lens": [3]}
    one |= {"topk_ids_of_layer": topk, "input_ids": np.zeros(3), "forward_mode": 1, "misc_objects": []}
    record = {"records": [one], "last_physical_to_logical_map": to_logical}
    made["t.pt"] = (record, ("--experts", "8"))
    for name, (content, options) in made.items():
        files = {name: content}
        files |= {"bias.npy": np.zeros((2, 8))} if "--bias" in options else {}
        files |= {"v.json": {"prompt_tokens": 3}} if name == "v.npy" else {}
        files |= {"l.json": {"attention_mask": [[1, 1, 1, 0], [1, 1, 1, 1]]}} if name == "l.pt" else {}
        yield Case(f"import {name}", ("trace", "import", name, "--out", "o.parquet", *options), files, ("o.parquet",))
    paper = [{"0": None, "1": experts[:2, 0].tolist(), "2": experts[:2, 1].tolist()}]
    paper += [{"0": None, "1": [experts[t, 0].tolist()], "2": [experts[t, 1].tolist()]} for t in (2, 3)]
    yield Case(
        "import paper",
        ("trace", "import", "0.json", "--out", "o.parquet", "--format", "paper", "--model", "m.yaml"),
        {"0.json": paper, "m.yaml": CONFIG},
        ("o.parquet",),
    )


def _rows(path: Path) -> list[list[str]]:
    import csv  # noqa: PLC0415

    with path.open(newline="") as file:
        return [*csv.reader(file)]


def _others() -> Iterator[Case]:
    """Commands that need nothing made before."""
    flow = {"id": 0, "src": [0, 0], "dst": [1, 1], "bytes": 1000, "start_s": 0}
    scenario = {
        **{"schema": "netref-scenario-1", "topology": {"x": 2, "y": 2, "kind": "mesh2d"}, "routing": "XY"},
        **{"link_bandwidth_Bps": 1e9, "hop_latency_s": 1e-6, "flows": [flow, {**flow, "id": "b", "src": [1, 0]}]},
    }
    for network in ("fluid", "packet", "circuit"):
        yield Case(f"flows {network}", ("flows", "f.json", "--network", network, "--json"), {"f.json": scenario})
    chunks = ("flows", "f.json", "--network", "packet", "--chunk", "1 kB", "--window", "2")
    yield Case("flows options", chunks, {"f.json": scenario}, weight=0.5)
    for kind, table in TABLES.items():
        yield Case(f"kernels {kind}", ("kernels", "check", "k.csv", "--json"), {"k.csv": rows_of(table)}, weight=0.3)
    bare = without(TABLES["gemm"], "gpu", "framework", "version", "kernel")
    yield Case("kernels text", ("kernels", "check", "k.csv", "--gpu", "B200-SXM"), {"k.csv": rows_of(bare)}, weight=0.5)
    for command in ("list", "schema"):
        yield Case(command, (command,), {}, weight=0.02)
    synth = ("trace", "synth", "config.json", "--preset", "qwen3_235b", "--out", "o.parquet", "--requests", "4")
    more = ("--decode-tokens", "3", "--set", "prompt_max=9", "--seed", "1")
    yield Case("synth", (*synth, *more), {"config.json": HF}, ("o.parquet",))
    yield Case("synth yaml", (*synth[:2], "m.yaml", *synth[3:], *more), {"m.yaml": CONFIG}, ("o.parquet",), 0.5)
    for policy in ("base", "ep", "eplb"):
        yield Case(f"placement {policy}", ("placement", "c.yaml", "--policy", policy), {"c.yaml": CONFIG}, weight=0.4)


def _made(folder: Path, run: Callable[..., int]) -> Iterator[Case]:
    """Commands that read what other commands wrote: traces, results, expected figures."""
    sweep = {
        **{"name": "s", "about": "x", "config": {**CONFIG, "steps": 1}, "grid": {"window": [1, 2]}},
        **{"vary": {"net": {"half": {"network.kind": "circuit", "network.duplex": "half"}}}},
        "check": {"tolerance": 0.01, "figures": ["speedup", "decode_time_s"]},
    }
    (folder / "c.yaml").write_text(json.dumps(CONFIG))
    (folder / "s.yaml").write_text(json.dumps(sweep))
    (folder / "plain.yaml").write_text(json.dumps({**sweep, "vary": {}}))
    options = ("--preset", "qwen3_235b", "--requests", "9", "--decode-tokens", "3")
    run("trace", "synth", "c.yaml", "--out", "t.parquet", *options)
    run("run", "c.yaml", "--out", "r")
    run("sweep", "plain.yaml", "--out", "so", "--workers", "1")
    run("check", "s.yaml", "--out", "ch", "--workers", "1", "--update", "--expected", "e.json")
    trace = read_parquet(folder / "t.parquet")
    for name, options in {
        "show": ("show", "t.parquet", "--json"),
        "show text": ("show", "t.parquet"),
        "stats": ("stats", "t.parquet", "--json"),
        "stats text": ("stats", "t.parquet", "--layers"),
        "predict": ("predict", "t.parquet", "--json", "--budget", "0.5"),
        "join": ("join", "t.parquet", "--out", "o.parquet", "--half", "even", "--requests", "4"),
        "export": ("export", "t.parquet", "--format", "hf-json", "--out", "o"),
        "like": ("synth", "c.yaml", "--like", "t.parquet", "--out", "o.parquet", "--requests", "4"),
    }.items():
        files = {"t.parquet": trace} | ({"c.yaml": CONFIG} if name == "like" else {})
        yield Case(f"trace {name}", ("trace", *options), files, ("o", "o.parquet"), 0.1 if name == "like" else 0.8)
    for replay in ("batch", "continuous"):
        source = {"path": "t.parquet", "replay": replay, "order": "mixed"}
        yield _run(f"run trace {replay}", 1, {"t.parquet": trace}, trace=source)
    results = {f"r/{file.name}": _content(file) for file in (folder / "r").iterdir()}
    of_sweep = {str(file.relative_to(folder)): _content(file) for file in (folder / "so").rglob("*") if file.is_file()}
    yield Case("report run", ("report", "r", "--out", "o", "--format", "svg"), results, ("o",), 0.12)
    yield Case("report sweep", ("report", "so", "--out", "o", "--format", "svg"), of_sweep, ("o",), 0.12)
    one = ("--out", "so", "--workers", "1", "--quiet")
    short = {"s.yaml": {**sweep, "grid": {"batch": [4]}}}
    yield Case("sweep", ("sweep", "s.yaml", *one), short, ("so",), 0.3, keeps=True)
    tasks = {name: content for name, content in of_sweep.items() if "tasks/" in name}
    resumed = {"s.yaml": {**sweep, "vary": {}}, **of_sweep}
    yield Case("sweep resumed", ("sweep", "s.yaml", *one), resumed, ("so",), 0.5, keeps=True)
    done = {str(file.relative_to(folder)): _content(file) for file in (folder / "ch/tasks").iterdir()}
    assert tasks
    assert done
    files = {"s.yaml": sweep, "e.json": _content(folder / "e.json"), **done}
    checked = ("check", "s.yaml", "--out", "ch", "--workers", "1", "--expected", "e.json", "--quiet")
    yield Case("check", checked, files, ("ch",), 0.7, keeps=True, fixed=frozenset({"s.yaml", *done}))
    yield Case("check tasks", checked, files, ("ch",), 0.4, keeps=True, fixed=frozenset({"s.yaml", "e.json"}))


def _content(file: Path) -> Any:
    """Return what a file holds as a tree."""
    if file.suffix == ".parquet":
        return read_parquet(file)
    return json.loads(file.read_text()) if file.suffix == ".json" else file.read_bytes()


def cases(folder: Path, run: Callable[..., int]) -> list[Case]:
    """Return all cases; *run* runs a command in *folder*, which is the current one, and returns its exit code."""
    recordings = folder / "recordings"
    recordings.mkdir()
    found = [*_runs(), *_layouts(), *_recordings(recordings), *_others(), *_made(folder, run)]
    assert len({case.name for case in found}) == len(found)
    return [replace(case, name=case.name) for case in found]
