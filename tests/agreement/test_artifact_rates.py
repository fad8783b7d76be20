"""`physics: paper` on other wafers than Dojo: what it reads of their datasheets, and what comes of it."""

import dataclasses

import numpy as np
import pytest
from kit import ROOT, wafer_of

from wss.config import load
from wss.engine.paper.chains import PaperLayerRun
from wss.engine.paper.chains_compiled import compiled_paper_layer
from wss.engine.paper.machine import DEEPSEEK, Machine, Memories
from wss.engine.paper.rates import Rates, build_machine, rates_of
from wss.execution import run
from wss.hardware import WAFERS
from wss.models import MODELS

CONFIG = ROOT / "configs" / "deepseek_v3.yaml"
SMALL = ["physics=paper", "batch=64", "steps=2", "layers=[3, 4]", "trace.synth.requests=64"]
ENHANCED = rates_of(WAFERS["dojo_enhanced"])


def kernel_of_three_dies():
    """Three dies in a row, an expert on each; every die computes the next one's, and two of them its own as well."""
    model = dataclasses.replace(MODELS["llama4_maverick"], num_experts=3)
    machine = dataclasses.replace(build_machine(model, wafer_of((1, 3))), hidden=1000, intermediate=1000)
    tasks = np.array([(0, 0, 100), (0, 2, 300), (1, 0, 40), (1, 1, 900), (2, 1, 7)])
    return machine, tasks, np.array([False, True, False, False, True])


def plain(counts):
    return {name: np.asarray(value).tolist() for name, value in vars(counts).items()}


def test_dojo_and_sow_are_the_artifacts_machine_and_enhanced_is_so_much_faster():
    assert rates_of(WAFERS["dojo"]) == rates_of(WAFERS["tsmc_sow"]) == Rates()
    assert pytest.approx((4500 / 989, 8 / 3.35, 2 / 1.7)) == ENHANCED


def test_a_faster_die_by_hand():
    """One die, one expert: look-up, three reads one after the other, and the last slice's computing.

    A slice has 2 MB and its 100 tokens 0.4 MB. The HBM gives 8000 · 0.9 B/ns, the die 0.5 · 4.55e6 FLOP/ns.
    """
    machine = Machine(
        hidden=1000, intermediate=1000, home=[0], routes=[[[]]], num_edges=0,
        compute_shares=tuple((tokens, share * ENHANCED.compute) for tokens, share in DEEPSEEK),
        dram_share=0.9 * ENHANCED.dram,
    )  # fmt: skip
    read, compute = 300 + 334, 88
    counts = compiled_paper_layer(machine, Memories(machine, 1), 0, np.array([(0, 0, 100)]), np.array([False]))
    assert counts.time == 110 + 3 * read + compute


@pytest.mark.parametrize("link", [1 + 1e-12, 0.5, ENHANCED.link, 7.0])
def test_both_engines_read_the_rate_of_the_links(link):
    machine, tasks, wanted = kernel_of_three_dies()
    machine = dataclasses.replace(machine, link_rate=1741 * link * 0.9)
    ours, theirs = Memories(machine, 1), Memories(machine, 1)
    compiled = compiled_paper_layer(machine, ours, 0, tasks, wanted)
    assert plain(compiled) == plain(PaperLayerRun(machine, theirs, 0, tasks, wanted).run())
    assert plain(ours) == plain(theirs)
    assert machine.link_ns(2, 10_000) == 2 * 200 + int(np.ceil(10_000 / (1741 * 0.9 * link)))


@pytest.mark.parametrize(
    ("setting", "policy"),
    [
        ("wafer.link.bandwidth=3.4 TB/s", "base"),
        ("wafer.die.hbm.bandwidth=6.7 TB/s", "ep"),
        ("wafer.die.flops.fp16=1978 TFLOPS", "ep"),
        ("wafer=dojo_enhanced", "allo_pred"),
    ],
)
def test_what_is_read_makes_kernels_faster(setting, policy):
    settings = [*SMALL, "batch=4096", "trace.synth.requests=4096", f"policies=[{policy}]", f"baseline={policy}"]
    (slow,), (fast,) = (run(load(CONFIG, [*settings, *more])).to_dict()["runs"] for more in ([], [setting]))
    share = fast["decode_time_s"] / slow["decode_time_s"]
    assert 1 / ENHANCED.compute < share < 0.99
    assert fast["lower_bound_s"] <= slow["lower_bound_s"]
