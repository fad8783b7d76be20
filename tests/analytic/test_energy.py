"""Energy: one layer run by hand, and in runs the sum of its kinds and the amounts it is computed from."""

import numpy as np
import pytest
from kit import nodes_of, plan_of, simulate, wafer_of
from kit.runs import SMALL

from wss.config import load
from wss.execution import run
from wss.hardware.energy import COSTS, of_links
from wss.hardware.gemm import GEMMS
from wss.metrics import Ledger
from wss.metrics.figures import by_name
from wss.metrics.measures import Totals
from wss.metrics.summary import summarise
from wss.models import ModelShape
from wss.records import LayerRecord, WeightLocations
from wss.report.terminal import figure_text

MODEL = ModelShape(
    name="one layer", num_layers=1, moe_layers=(0,), num_experts=2, top_k=1, hidden_size=1024,
    moe_intermediate_size=2048,
)  # fmt: skip
KINDS = ("compute", "hbm", "llc", "links", "network")
PAPER = """\
model: llama4_maverick
wafer: dojo
trace: {synth: {skew: 1.2, requests: 40, decode_tokens: 2, prompt_min: 2, prompt_max: 5}}
batch: 40
steps: 1
layers: [1, 3]
physics: paper
policies: [base, allo_pred]
"""
ON_NODES = SMALL.replace("{preset: dojo, mesh: [2, 3]}", "{preset: h100_nvl8, nodes: 2, gpus: 3}")


def figures_of(folder, text, *settings):
    path = folder / "small.yaml"
    path.write_text(text, encoding="utf-8")
    return run(load(path, list(settings))).to_dict()["runs"]


def test_one_layer_run_by_hand():
    """Die 0 computes 10 tokens of its expert; die 2, two hops away, reads the expert for 6 tokens and keeps a copy.

    An expert has 6 Mi weights of 2 bytes and 12 MiFLOP a token; a read has requests of a quarter of its bytes.
    """
    wafer, weights = wafer_of((1, 3)), 2 * 3 * 1024 * 2048
    plan = plan_of((0, 0, 10, 0), (0, 2, 6, 0, True))
    ledger = Ledger("ep", MODEL, wafer, "fp16", GEMMS["ideal"])
    holders = np.zeros((2, 3), bool)
    holders[0, 0] = True
    compute = np.array([10, 6]) * 2.0 * 3 * 1024 * 2048 / 989e12
    ledger.layer_run(
        LayerRecord(
            step=1,
            layer=0,
            counts=np.array([16, 0]),
            plan=plan,
            compute=compute,
            run=simulate(wafer, plan, weights, compute),
            where=WeightLocations(holders=holders, cached=np.zeros(2, bool)),
            hbm_used=weights,
        )
    )
    found = summarise(Totals(ledger=ledger, wafer=wafer, tokens=16, batch=16, layers_total=1))
    expected = {
        "energy_compute_j": 16 * 12 * 2**20 * 700 / 989e12,
        "energy_hbm_j": 3 * 12 * 2**20 * 8 * 3.9e-12,  # two reads and one write
        "energy_llc_j": 0,
        "energy_links_j": 2 * 1.25 * 12 * 2**20 * 8 * 0.5e-12,
    }
    assert {name: found[name].value for name in expected} == pytest.approx(expected, rel=1e-12)
    assert found["energy_j"].value == pytest.approx(sum(expected.values()), rel=1e-12)
    assert found["energy_per_step_j"].value == found["energy_j"].value
    assert found["energy_per_token_j"].value == pytest.approx(found["energy_j"].value / 16, rel=1e-12)
    assert "energy_network_j" not in found


@pytest.mark.parametrize(
    ("text", "settings"),
    [
        (SMALL, []),
        (SMALL, ["dispatch=uniform", "replications=2"]),
        (SMALL, ["precision=fp8", "layers=[1, 2]"]),
        (PAPER, []),
        (ON_NODES, ["dispatch=uniform"]),
    ],
)
def test_the_kinds_add_up_to_the_total(tmp_path, text, settings):
    for row in figures_of(tmp_path, text, *settings):
        assert row["energy_j"] > 0
        assert sum(row.get(f"energy_{kind}_j", 0) for kind in KINDS) == pytest.approx(row["energy_j"], rel=1e-9)
        assert row["energy_per_step_j"] * row["steps_run"] == pytest.approx(row["energy_j"], rel=1e-9)


def test_energy_is_that_of_what_a_run_counts(tmp_path):
    """LLCs hold a few of the tiny experts, so that hits, prefetches and copies all occur."""
    ahead = SMALL.replace("allo_pred]", "allo_pred, {name: ahead, preset: ep, prefetching: popular}]")
    rows = figures_of(tmp_path, ahead)
    assert all(any(row[name] for row in rows) for name in ("llc_hits", "prefetched_bytes", "local_write_bytes"))
    for row in rows:
        read = row["local_read_bytes"] + row["remote_read_bytes"] - row["llc_hit_bytes"] + row["prefetched_bytes"]
        expected = {
            "energy_compute_j": 40 * 3 * 3 * 2 * 12 * 2**20 * COSTS.flop["fp16"],
            "energy_hbm_j": (read + row["local_write_bytes"]) * COSTS.hbm_byte,
            "energy_llc_j": row["llc_hit_bytes"] * COSTS.llc_byte,
            "energy_links_j": row["link_bytes"] * COSTS.d2d_byte,
        }
        assert {name: row[name] for name in expected} == pytest.approx(expected, rel=1e-12)
        assert row["energy_per_token_j"] == pytest.approx(row["energy_j"] / (40 * 3), rel=1e-12)


def test_energy_is_estimated_where_layers_are_sampled(tmp_path):
    text = SMALL.replace("num_layers: 4", "num_layers: 9").replace("[1, 2, 3]", "[1, 2, 3, 4, 5, 6, 7, 8]")
    for row in figures_of(tmp_path, text, "layers.sample=4"):
        low, high = row["ci95"]["energy_j"]
        assert 0 < low < row["energy_j"] < high
        assert sum(row.get(f"energy_{kind}_j", 0) for kind in KINDS) == pytest.approx(row["energy_j"], rel=1e-9)
        assert row["energy_per_token_j"] == pytest.approx(row["energy_j"] / (40 * 3), rel=1e-9)


def test_no_energy_per_token_where_layers_are_listed(tmp_path):
    for row in figures_of(tmp_path, SMALL, "layers=[1, 2]"):
        assert row["energy_per_token_j"] is None
        assert row["energy_per_step_j"] > 0


def test_links_of_nodes_are_ports_and_cards():
    wafer = nodes_of(2, 2)
    between, network = of_links(wafer)
    names = [wafer.link_name(link) for link in range(wafer.num_links)]
    assert {name for name, cost in zip(names, between, strict=True) if cost} == {n for n in names if "switch" in n}
    assert {name for name, cost in zip(names, network, strict=True) if cost} == {n for n in names if "fabric" in n}
    assert set(between) == {0, COSTS.nvlink_byte}
    assert set(network) == {0, COSTS.nic_byte}
    alone, none = of_links(nodes_of(1, 2))
    assert set(alone) == {COSTS.nvlink_byte}
    assert not none.any()


def test_the_cards_of_several_nodes_take_energy(tmp_path):
    base, *_ = figures_of(tmp_path, ON_NODES, "policies=[base]")
    assert base["energy_network_j"] > base["energy_links_j"] > 0
    (alone,) = figures_of(tmp_path, ON_NODES.replace("nodes: 2", "nodes: 1"), "policies=[base]")
    assert "energy_network_j" not in alone


def test_less_energy_is_better_and_shown_in_the_wide_table_alone():
    shown = [figure for figure in by_name().values() if figure.name.startswith("energy") and figure.run]
    assert [figure.name for figure in shown] == ["energy_per_step_j", "energy_per_token_j"]
    assert {(figure.better, figure.rank) for figure in shown} == {(-1, 9)}
    assert figure_text(shown[0], 0.0038211) == "0.00382 J"
