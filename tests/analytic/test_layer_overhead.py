"""`gemm: measured` and the overhead of a layer around its experts: what they add, and that they add it once."""

import json

import pytest
from click.testing import CliRunner
from kit import ROOT, study

from wss.cli import cli
from wss.config import load
from wss.errors import ConfigError
from wss.execution import run
from wss.hardware.kernels import of_die
from wss.hardware.kernels.moe_layer import MOE_LAYERS, activation_s

CONFIG = ROOT / "configs" / "gpt_oss_20b.yaml"
SMALL = ["policies=[base, ep]", "layers=[3, 4]", "steps=2", "batch=64", "precision=fp8"]
LAYER = MOE_LAYERS["moe_fp8_block"]


def rows_of(*settings):
    return [row for ledger in run(load(CONFIG, [*SMALL, *settings])).ledgers for row in ledger.rows]


def test_the_overhead_is_added_to_every_layer_run_and_changes_nothing_else():
    with_it, without = rows_of("gemm=measured"), rows_of("gemm=measured", "layer_overhead=none")
    for more, less in zip(with_it, without, strict=True):
        assert less.overhead_s == 0
        assert more.overhead_s >= LAYER.fixed_s * (1 - 1e-9)
        assert more.time_s - more.overhead_s == pytest.approx(less.time_s, rel=1e-12)
        assert more.lower_bound_s - LAYER.fixed_s == pytest.approx(less.lower_bound_s, rel=1e-9)
        for figure in ("remote_reads", "hops", "compute_time_s", "max_link_bytes"):
            assert getattr(more, figure) == getattr(less, figure)


def test_one_die_takes_the_overhead_of_all_tokens():
    one = ["wafer={preset: dojo, mesh: [1, 1], die: {hbm: {size: 1 TB}}}", "policies=[ep]", "baseline=ep"]
    experiment = load(CONFIG, [*SMALL, "gemm=measured", *one])
    for row in run(experiment).ledgers[0].rows:
        expected = LAYER.fixed_s + activation_s(
            LAYER, of_die(experiment.wafer.die), row.tokens / experiment.model.top_k, row.tokens, 2880, 2880
        )
        assert row.overhead_s == pytest.approx(float(expected), rel=1e-9)


def test_the_overhead_goes_with_measured_kernels_unless_it_is_set():
    for settings, has in (
        ([], False),
        (["gemm=measured"], True),
        (["gemm=measured", "layer_overhead=none"], False),
        (["gemm=ideal", "layer_overhead=measured"], True),
    ):
        assert (load(CONFIG, [*SMALL, *settings]).setup.overhead is not None) == has


def test_the_shares_of_a_result_name_the_overhead(tmp_path):
    settings = [word for setting in [*SMALL, "gemm=measured"] for word in ("--set", setting)]
    done = CliRunner().invoke(cli, ["run", str(CONFIG), *settings, "--out", str(tmp_path / "r")])
    assert done.exit_code == 0
    assert "overhead: share of time in small kernels around the experts" in " ".join(done.stdout.split())
    for row in json.loads((tmp_path / "r" / "summary.json").read_text())["runs"]:
        assert row["overhead_share"] == pytest.approx(row["overhead_time_s"] / row["decode_time_s"], rel=1e-12)
        assert 0 < row["overhead_share"] < 1


@pytest.mark.parametrize("name", ["gemm", "layer_overhead"])
def test_a_precision_that_was_not_measured_is_refused(name):
    wafer = "wafer=dojo_enhanced"
    with pytest.raises(ConfigError) as error:
        load(CONFIG, [*SMALL, wafer, "precision=fp4", "gemm=ideal", f"{name}=measured"])
    assert [fault.partition(": ")[2] for fault in error.value.faults] == [
        f"{name}: 'measured' is not known in fp4, only in fp16, fp8; leave it out"
    ]


def test_launches_do_not_count_twice():
    with pytest.raises(ConfigError) as error:
        load(CONFIG, [*SMALL, "gemm=h800", "layer_overhead=measured"])
    (fault,) = error.value.faults
    assert "layer_overhead: 'measured' has the launches of gemm: h800 too; give gemm: measured" in fault


def test_an_experiment_without_the_setting_is_the_same_as_before():
    assert "layer_overhead" not in load(CONFIG, SMALL).plain()
    without = load(CONFIG, [*SMALL, "gemm=measured", "layer_overhead=none"])
    assert without.plain()["layer_overhead"] == "none"
    with pytest.raises(ConfigError, match="'none' changes nothing: only gemm: measured comes with an overhead"):
        load(CONFIG, [*SMALL, "layer_overhead=none"])


@pytest.mark.parametrize(("precision", "batch"), [("fp8", 16), ("fp8", 1024), ("bf16", 16), ("bf16", 1024)])
def test_one_dies_layer_takes_what_the_measured_layer_does(precision, batch):
    """Within 8%: the engine reads ahead by a window, where the kernel model overlaps all reads in part."""
    assert abs(study("kernels", "in_a_run").difference(precision, batch)) <= 0.08
