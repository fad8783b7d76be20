"""Small forms of what users of other tools reported: routes of many hops, incast, unique experts, idle ranks."""

import json

import numpy as np
import pytest
import yaml
from kit import ROOT, wss

from wss.config import load
from wss.errors import ConfigError
from wss.execution import run
from wss.execution.transfers import read_scenario, run_flows
from wss.models import MODELS
from wss.traces.synthetic.spec import SynthSpec


def scenario(path, topology, latency, flows, bandwidth=1e9):
    content = {"topology": topology, "link_bandwidth_Bps": bandwidth, "hop_latency_s": latency}
    content["flows"] = [
        {"id": i, "src": src, "dst": dst, "bytes": 1_000_000, "start_s": 0} for i, (src, dst) in enumerate(flows)
    ]
    path.write_text(json.dumps(content), encoding="utf-8")
    return path


@pytest.mark.parametrize(("network", "microseconds"), [("fluid", 27.0), ("circuit", 27.0), ("packet", 287.0)])
def test_every_hop_of_a_long_route_counts(tmp_path, network, microseconds):
    """14 hops of 0.5 us and 1 MB at 50 GB/s; a packet of 1 MB is stored 14 times on its way."""
    path = scenario(tmp_path / "hops.json", {"x": 8, "y": 8}, 0.5e-6, [([0, 0], [7, 7]), ([7, 7], [0, 0])], 50e9)
    result = run_flows(read_scenario(path), network, 1e6, 0, "full")
    assert [flow["finish_s"] for flow in result["flows"]] == pytest.approx([microseconds * 1e-6] * 2)


@pytest.mark.parametrize(("network", "ms"), [("fluid", [3, 3, 3, 1.5]), ("circuit", [1, 2, 3, 2])])
def test_flows_into_one_die_share_its_link_or_take_turns(tmp_path, network, ms):
    flows = [([0, 0], [4, 0]), ([1, 0], [4, 0]), ([3, 0], [4, 0]), ([0, 0], [1, 0])]
    result = run_flows(
        read_scenario(scenario(tmp_path / "x.json", {"x": 5, "y": 1}, 0, flows)), network, 1e6, 0, "full"
    )
    assert [flow["finish_s"] * 1e3 for flow in result["flows"]] == pytest.approx(ms)


@pytest.mark.parametrize(
    ("topology", "bandwidth"), [({"x": 4, "y": 4, "kind": "torus"}, 1e9), ({"x": 4, "y": 4}, [1e9, 2e9])]
)
def test_a_torus_and_bandwidths_of_dimensions_are_refused(tmp_path, topology, bandwidth):
    path = scenario(tmp_path / "x.json", topology, 1e-7, [([0, 0], [3, 0])], bandwidth)
    with pytest.raises(ConfigError):
        read_scenario(path)


@pytest.mark.parametrize("batch", [1, 64])
def test_even_routing_activates_as_many_experts_as_the_formula_says(batch):
    """E·(1 - (1 - k/E)^B) of E = 256 experts, k = 8 a token: within 4 standard errors of 8 steps of 12 layers."""
    even = SynthSpec(
        skew=0.0, focus=0.0, carry=0.0, sticky_first=0.0, sticky_last=0.0, requests=batch, prompt_min=1, prompt_max=1,
        decode_tokens=9,
    )  # fmt: skip
    settings = [
        f"batch={batch}",
        "steps=8",
        "layers=3-14",
        "policies=[ep]",
        "baseline=ep",
        "gemm=ideal",
        "seed=3",
        "precision=fp8",
    ]
    experiment = load(ROOT / "configs" / "deepseek_v3.yaml", settings)
    experiment = type(experiment)(**{**vars(experiment), "trace": even, "model": MODELS["deepseek_v3"]})
    (ledger,) = run(experiment).ledgers
    found = np.array([row.active_experts for row in ledger.decode])
    expected = 256 * (1 - (248 / 256) ** batch)
    assert len(found) == 8 * 12
    assert abs(found.mean() - expected) <= 4 * max(found.std(), 1e-9) / np.sqrt(len(found)) + 1e-9


def chosen(kind):
    """Experts of 8 tokens, top 8 of 256: strided over the experts, or dealt to 16 ranks in turn."""
    if kind == "strided":
        return [[t + 32 * j for j in range(8)] for t in range(8)]
    return [[(8 * t + j) % 16 * 16 + (8 * t + j) // 16 for j in range(8)] for t in range(8)]


@pytest.mark.parametrize(("kind", "reads", "imbalance"), [("strided", 8, 2.0), ("dealt", 4, 1.0)])
def test_ranks_without_an_expert_at_hand_stay_idle(tmp_path, kind, reads, imbalance):
    """Eight reads of 13.15 us a layer on every other rank, or four on all 16."""
    folder = tmp_path / kind
    folder.mkdir()
    for t, experts in enumerate(chosen(kind)):
        np.save(folder / f"{t}.npy", np.array([[experts] * 2] * 3, np.int16))  # 3 tokens, 2 layers
        (folder / f"{t}.json").write_text('{"prompt_tokens": 1}', encoding="utf-8")
    command = ["trace", "import", folder, "--format", "vllm", "--experts", 256, "--quiet"]
    assert wss(*command, "--out", tmp_path / "t.parquet").returncode == 0
    model = {
        "name": "unknown", "num_layers": 2, "moe_layers": [0, 1], "num_experts": 256, "top_k": 8, "hidden_size": 7168,
        "moe_intermediate_size": 2048,
    }  # fmt: skip
    config = {
        "model": model, "wafer": {"preset": "dojo", "mesh": [4, 4]}, "precision": "fp8", "batch": 8, "steps": 2,
        "trace": {"path": str(tmp_path / "t.parquet")}, "gemm": "ideal", "policies": ["ep"], "baseline": "ep",
    }  # fmt: skip
    (tmp_path / "x.yaml").write_text(yaml.safe_dump(config), encoding="utf-8")
    (row,) = run(load(tmp_path / "x.yaml")).to_dict()["runs"]
    assert row["imbalance"] == pytest.approx(imbalance, rel=0.01)
    read = 3 * 7168 * 2048 / 3.35e12
    assert row["step_time_mean_s"] == pytest.approx(2 * reads * read, rel=0.03)
