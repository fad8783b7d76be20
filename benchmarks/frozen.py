"""Compare this checkout with a frozen one: 60 small configurations, every figure, and CPU time.

    git worktree add /tmp/frozen COMMIT
    python benchmarks/frozen.py /tmp/frozen                  # all 60
    python benchmarks/frozen.py /tmp/frozen --only packet    # those whose name holds this text
    python benchmarks/frozen.py /tmp/frozen --rounds 5       # CPU time from five interleaved rounds

Both trees run on the same machine with the same packages, through `python -m wss run` alone. Of each configuration the
rows of summary.json's runs, of the Parquet table of layer runs and of links.parquet are compared, column by column, the
provenance left out. A column that only one tree has is listed and not compared. The exit code is 1 if a figure differs.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import yaml

ROOT = Path(__file__).resolve().parents[1]
RECORDED = ROOT / "traces" / "gpt_oss_20b_synthetic.parquet"  # read from a file, as a recording is
FILES = (("layers.parquet", "kernels.parquet"), ("links.parquet",))  # each by its names, the newest first
NEW_NAMES = {"paper_artifact": "paper"}  # of what a frozen tree may still call otherwise
KEYS = ("policy", "phase", "step", "layer", "link", "seed", "from_x", "from_y", "to_x", "to_y")


def small(model: str, **changes: Any) -> dict[str, Any]:
    """A small run of *model*, with *changes*."""
    layers = {"gpt_oss_20b": [0, 11, 23], "llama4_maverick": [1, 23, 47], "qwen3_235b": [0, 93]}
    common = {
        "model": model,
        "wafer": "dojo",
        "trace": {"synth": {"preset": model, "requests": 128, "decode_tokens": 8}},
        "batch": 128,
        "steps": 3,
        "layers": layers.get(model, [3, 30]),
        "policies": ["base", "ep", "pred", "allo", "allo_pred"],
    }
    return common | changes


def _policies() -> Iterator[tuple[str, dict[str, Any]]]:
    """Every policy once, in groups, on two models."""
    groups = {
        "placements": ["remap", "dup", "eplb", "eplb_nearest", "popular", "separated", "near"],
        "oracles": ["oracle_best", "oracle_worst", "pred_oracle", "belady"],
        "predictions": ["pred_prefill", "pred_decaying", "pred_lfu", "pred_heatmap", "prefill_guided"],
        "ours": ["balanced", "balanced_pred"],
        "online": [
            {"name": name, "preset": name, "rebalancing": {"kind": "every", "steps": 1, "window": 2}}
            for name in ("eplb_online", "remap_online")
        ],
        "cross": ["cross_hierarchy"],
    }
    for model in ("gpt_oss_20b", "qwen3_235b"):
        for name, policies in groups.items():
            yield f"{name}-{model}", small(model, policies=["ep", *policies], baseline="ep")


def _networks() -> Iterator[tuple[str, dict[str, Any]]]:
    """Networks x engines, and all-to-all."""
    networks: dict[str, Any] = {
        "fluid": "fluid",
        "circuit": "circuit",
        "half": {"kind": "circuit", "duplex": "half"},
        "packet": {"kind": "packet", "chunk": "1 MiB", "window": 4},
    }
    for name, network in networks.items():
        for engine in ("auto", "simpy"):
            for model in ("gpt_oss_20b", "deepseek_v3"):
                yield f"{name}-{engine}-{model}", small(model, network=network, engine=engine, steps=2)
        if name != "packet":
            yield f"{name}-dispatch", small("gpt_oss_20b", network=network, dispatch="uniform")
    nodes = {"preset": "h100_nvl8", "nodes": 2}
    for once_per in ("expert", "die", "node"):
        dispatch = {"once_per": once_per}
        policies = ["ep", "eplb", "remap"]
        yield (
            f"nodes-{once_per}",
            small("qwen3_235b", wafer=nodes, dispatch=dispatch, policies=policies, baseline="ep"),
        )
    exact = {"once_per": "node", "counting": "exact"}
    yield "nodes-exact", small("qwen3_235b", wafer=nodes, dispatch=exact, policies=["ep", "eplb"], baseline="ep")


def _wafers() -> Iterator[tuple[str, dict[str, Any]]]:
    """Wafers, faults, caches, precisions, windows, GEMM models, the paper's physics, recorded and sampled."""
    for wafer in ("dojo", "tsmc_sow"):
        for model in ("llama4_maverick", "qwen3_235b", "deepseek_v3"):
            yield f"paper-{wafer}-{model}", small(model, wafer=wafer, physics="paper")
    yield "paper-simpy", small("llama4_maverick", physics="paper", engine="simpy", batch=64, steps=2)
    for order in ("file", "mixed", "string"):
        yield f"recorded-{order}", small("gpt_oss_20b", trace={"path": str(RECORDED), "order": order}, batch=64)
    yield (
        "recorded-continuous",
        small("gpt_oss_20b", trace={"path": str(RECORDED), "replay": "continuous"}, batch=16, steps=6),
    )
    for name in ("sampled", "sampled-simpy"):
        engine = "simpy" if name.endswith("simpy") else "auto"
        yield name, small("gpt_oss_20b", layers={"sample": 8}, engine=engine)
    yield "sampled-qwen3", small("qwen3_235b", layers={"sample": 8}, policies=["base", "ep", "allo_pred"])
    yield "fp8", small("deepseek_v3", precision="fp8")
    yield "window", small("qwen3_235b", window=4)
    yield "kimi", small("kimi_k2", precision="fp8", wafer="tsmc_sow")
    yield "mesh", small("llama4_maverick", wafer={"preset": "dojo", "mesh": [6, 4], "link": {"bandwidth": "1 TB/s"}})
    yield "dead-link", small("gpt_oss_20b", faults={"links": [[[1, 1], [1, 2]]]})
    yield "ideal", small("qwen3_235b", gemm="ideal")
    yield "no-llc", small("gpt_oss_20b", wafer={"preset": "dojo", "die": {"llc": {"size": "0 B"}}})
    yield "enhanced", small("gpt_oss_20b", wafer="dojo_enhanced")
    yield "dead-die", small("gpt_oss_20b", faults={"dies": [[2, 2]]})
    yield "yield", small("gpt_oss_20b", faults={"yield": 0.9, "seed": 3})
    yield "large", small("deepseek_v3", batch=1024, steps=1, trace={"synth": {"preset": "deepseek_v3"}})


def configurations() -> dict[str, dict[str, Any]]:
    """The configurations by name."""
    return dict([*_policies(), *_networks(), *_wafers()])


WORKER = """
import sys, time
from pathlib import Path
from wss.cli import main
for config in sorted(Path(sys.argv[1]).glob("*.yaml")):
    out = Path(sys.argv[2]) / config.stem
    sys.argv[1:], kept = ["run", str(config), "--out", str(out), "--force", "--quiet"], sys.argv[1:]
    began = time.process_time()
    try:
        main()
    except SystemExit as end:
        if end.code:
            print(f"{config.stem}: exit code {end.code}", file=sys.stderr)
    sys.argv[1:] = kept
    if out.is_dir():
        out.with_suffix(".cpu").write_text(str(time.process_time() - began))
"""


def run_all(tree: Path, configs: Path, out: Path) -> None:
    """Run every configuration of the folder *configs* in *tree*'s own code, one process for all."""
    environment = {**os.environ, "PYTHONPATH": str(tree)}
    command = [sys.executable, "-c", WORKER, str(configs), str(out)]
    subprocess.run(command, cwd=tree, env=environment, stdout=subprocess.DEVNULL, check=True)


def _rows(folder: Path, names: tuple[str, ...]) -> list[dict[str, Any]] | None:
    """Return the rows of the first of the files *names* that *folder* has."""
    for name in names:
        if (folder / name).is_file():
            return [dict(row) for row in pq.read_table(folder / name).to_pylist()]
    return None


def _change(mine: Any, theirs: Any) -> float:
    """Return the relative difference; infinite if the two are not comparable."""
    if mine == (NEW_NAMES.get(theirs, theirs) if isinstance(theirs, str) else theirs):
        return 0.0
    if isinstance(mine, int | float) and isinstance(theirs, int | float):
        return abs(mine - theirs) / max(abs(mine), abs(theirs))
    return math.inf


def _compare_rows(mine: list[dict[str, Any]], theirs: list[dict[str, Any]]) -> tuple[dict[str, float], set[str]]:
    """Return the largest relative change of each column that both have, and the columns of one alone."""
    if len(mine) != len(theirs):
        return {f"rows ({len(mine)} beside {len(theirs)})": math.inf}, set()
    keys = [key for key in KEYS if mine and key in mine[0] and key in theirs[0]]
    in_order = [sorted(rows, key=lambda row: tuple(str(row[key]) for key in keys)) for rows in (mine, theirs)]
    changes: dict[str, float] = {}
    alone: set[str] = set()
    for one, other in zip(*in_order, strict=True):
        alone |= set(one) ^ set(other)
        for column in set(one) & set(other):
            change = _change(one[column], other[column])
            if change:
                changes[column] = max(change, changes.get(column, 0.0))
    return changes, alone


def _runs(folder: Path) -> list[dict[str, Any]] | None:
    path = folder / "summary.json"
    if not path.is_file():
        return None
    runs: list[dict[str, Any]] = json.loads(path.read_text())["runs"]
    return sorted(runs, key=lambda run: str(run["policy"]))


def compare(mine: Path, theirs: Path) -> tuple[list[str], bool]:
    """Return what differs between two result folders, a line each, and whether any figure does."""
    if not mine.is_dir() and not theirs.is_dir():
        return ["ran in neither tree"], True
    lines, differs = [], False
    tables = [("summary", _runs(mine), _runs(theirs))]
    tables += [(names[-1], _rows(mine, names), _rows(theirs, names)) for names in FILES]
    for what, one, other in tables:
        if one is None or other is None:
            if one is not other:
                lines.append(f"{what}: only {'here' if other is None else 'in the frozen tree'}")
                differs = True
            continue
        changes, alone = _compare_rows(one, other)
        for column, change in sorted(changes.items()):
            lines.append(f"{what}: {column} differs by {change:.2e}")
            differs = True
        if alone:
            lines.append(f"{what}: columns of one tree alone: {', '.join(sorted(alone))}")
    return lines, differs


def _cpu_a_layer_run(folder: Path) -> float | None:
    """Return CPU seconds of the whole command a layer run."""
    rows = _rows(folder, FILES[0])
    return float(folder.with_suffix(".cpu").read_text()) / len(rows) if rows else None


def main() -> None:
    """Run both trees, print what differs."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("frozen", type=Path, help="a worktree of the frozen commit")
    parser.add_argument("--only", default="", help="run those whose name holds this text")
    parser.add_argument("--rounds", type=int, default=2, help="rounds, the two trees in turn; the first warms up")
    given = parser.parse_args()
    chosen = {name: config for name, config in configurations().items() if given.only in name}
    if not chosen or not (given.frozen / "wss").is_dir() or given.rounds < 1:
        sys.exit("give a worktree that holds wss/, a text that some name holds, and at least one round")
    with tempfile.TemporaryDirectory() as scratch:
        sys.exit(_main(Path(scratch), chosen, given.frozen.resolve(), given.rounds))


def _main(scratch: Path, chosen: Mapping[str, dict[str, Any]], frozen: Path, rounds: int) -> int:
    (scratch / "configs").mkdir()
    for name, config in chosen.items():
        (scratch / "configs" / f"{name}.yaml").write_text(yaml.safe_dump(config))
    ratios: dict[str, list[float]] = {name: [] for name in chosen}
    for number in range(rounds):
        began = time.perf_counter()
        for tree, out in ((ROOT, "here"), (frozen, "frozen")):
            (scratch / out).mkdir(exist_ok=True)
            run_all(tree, scratch / "configs", scratch / out)
        print(f"round {number + 1} of {rounds}: {time.perf_counter() - began:.0f} s", file=sys.stderr)
        for name in chosen if number or rounds == 1 else ():
            here, there = (_cpu_a_layer_run(scratch / tree / name) for tree in ("here", "frozen"))
            if here and there:
                ratios[name].append(here / there)
    moved = 0
    for name in chosen:
        lines, differs = compare(scratch / "here" / name, scratch / "frozen" / name)
        moved += differs
        cpu = f"{statistics.median(ratios[name]):.2f}" if ratios[name] else "-"
        print(f"{name:32} {'DIFFERS' if differs else 'equal':8} CPU x {cpu}")
        for line in lines:
            print(f"    {line}")
    found = [statistics.median(values) for values in ratios.values() if values]
    mean = f"{statistics.geometric_mean(found):.3f}, largest {max(found):.2f}" if found else "-"
    print(
        f"{len(chosen)} configurations, {moved} differ; CPU a layer run against the frozen tree: geometric mean {mean}"
    )
    return 1 if moved else 0


if __name__ == "__main__":
    main()
