"""Several seeds: what is run, means and intervals over them, and where seeds could change nothing."""

import csv
import json
from dataclasses import replace
from math import sqrt
from statistics import fmean, stdev

import pyarrow.parquet as pq
import pytest
from kit.sweeps import TINY, do, sweep_file

from wss.config import json_schema, load
from wss.errors import ConfigError
from wss.execution import run
from wss.metrics.figures import Value, plain
from wss.metrics.replications import merged
from wss.traces import write_trace
from wss.traces.synthetic.spec import synth_meta, synthesise

T_2 = 4.302653  # Student, three seeds
CONFIG = """\
model: {name: tiny, num_layers: 6, moe_layers: [0, 1, 2, 3, 4, 5], num_experts: 8, top_k: 2, hidden_size: 1024,
        moe_intermediate_size: 2048}
wafer: {preset: dojo, mesh: [2, 2]}
trace: {synth: {requests: 16, decode_tokens: 2, prompt_min: 1, prompt_max: 2, clusters: 4}}
batch: 16
steps: 2
policies: [base, ep]
"""


@pytest.fixture
def tiny(tmp_path):
    path = tmp_path / "tiny.yaml"
    path.write_text(CONFIG, encoding="utf-8")
    return path


def rows(result):
    return {row["policy"]: row for row in result.to_dict()["runs"]}


def test_a_row_is_the_mean_of_its_seeds_with_students_interval():
    of_seed = [
        {"policy": Value("ep"), "batch": Value(8), "layers_run": Value(4), "busiest_link": Value(link),
         "tokens": Value(None), "speedup": Value(speedup, layers=(speedup - half, speedup + half))}
        for speedup, link, half in ((2.0, "a", 0.3), (3.0, "a", 0.4), (2.5, "b", 0.0))
    ]  # fmt: skip
    row = plain(merged(of_seed))
    half = T_2 * 0.5 / sqrt(3)
    assert row["seeds_run"] == 3
    assert (row["policy"], row["batch"], row["layers_run"], row["busiest_link"], row["tokens"]) == (
        "ep",
        8,
        4,
        None,
        None,
    )
    assert row["speedup"] == 2.5
    assert row["ci95_seeds"] == {"speedup": pytest.approx([2.5 - half, 2.5 + half], rel=1e-6)}
    assert row["ci95"] == {"speedup": pytest.approx([2.5 - 0.5 / 3, 2.5 + 0.5 / 3])}  # sqrt(0.3² + 0.4²) / 3


def test_intervals_over_seeds_do_not_go_below_zero():
    assert merged([{"hops": Value(0)}, {"hops": Value(4)}])["hops"].low == 0


@pytest.mark.parametrize("layers", ["all", "{sample: 4}"])
def test_replications_are_the_runs_of_the_seeds(tiny, tmp_path, layers):
    experiment = load(tiny, ["seed=5", "replications=3", f"layers={layers}"])
    together = run(experiment)
    alone = [run(replace(experiment, seed=seed, replications=1)) for seed in (5, 6, 7)]
    assert together.to_dict()["replications"] == [
        {"seed": seed, "runs": result.to_dict()["runs"]} for seed, result in zip((5, 6, 7), alone, strict=True)
    ]
    assert together.to_dict()["provenance"]["config"]["replications"] == 3
    assert "replications" not in alone[0].to_dict()["provenance"]["config"]
    for policy, row in rows(together).items():
        for key in ("speedup", "decode_time_s", "hops", "max_link_utilization"):
            values = [rows(result)[policy][key] for result in alone]
            assert row[key] == pytest.approx(fmean(values))
            half = T_2 * stdev(values) / sqrt(3)
            assert row["ci95_seeds"][key] == pytest.approx([max(0, row[key] - half), row[key] + half], rel=1e-6)
        assert ("ci95" in row) is (layers != "all")
        assert row["layers_run"] == (6 if layers == "all" else 4)
    out = together.write(tmp_path / "out")
    layer_runs, links = (pq.read_table(out / f"{name}.parquet").to_pylist() for name in ("layers", "links"))
    for seed, result in zip((5, 6, 7), alone, strict=True):
        own = [(row["policy"], row["layer"], row["time_s"]) for row in layer_runs if row["seed"] == seed]
        assert own == [(row.policy, row.layer, row.time_s) for ledger in result.ledgers for row in ledger.rows]
        assert {row["policy"] for row in links if row["seed"] == seed} == {"base", "ep"}


def test_the_table_shows_both_intervals_each_labelled(tiny):
    text = run(load(tiny, ["replications=2", "layers={sample: 4}"])).table()
    assert "all figures are means over 2 seeds, 0 to 1; speedups are means of ratios" in text
    assert "all figures are estimated for all 6 layers from 4" in text
    heads = [" ".join(line.split()[:2]) for line in text.splitlines() if line.startswith("  95%")]
    assert heads == ["95%, layers", "95%, seeds"] * 2


def test_one_replication_is_a_run_as_it_was(tiny):
    assert run(load(tiny, ["replications=1"])).to_dict()["runs"] == run(load(tiny)).to_dict()["runs"]


def test_progress_counts_the_kernels_of_all_seeds(tiny):
    told = []
    run(load(tiny, ["replications=2"]), lambda *what: told.append(what))
    assert told[-1] == ("simulating", 2 * 2 * 3 * 6, 2 * 2 * 3 * 6, "ep, decode step 2, layer 5")
    assert [done for _, done, _, _ in told] == list(range(1, len(told) + 1))


@pytest.mark.parametrize("layers", ["", "  layers: {sample: 4}\n"])
def test_a_sweep_has_the_rows_of_the_runs(tmp_path, layers):
    text = TINY.replace("moe_layers: [0, 1, 2]", "moe_layers: [0, 1, 2, 3, 4, 5]").replace(
        "num_layers: 3", "num_layers: 6"
    )
    path = sweep_file(tmp_path, text + layers + "  replications: 2\ngrid: {batch: [8, 16]}\n")
    do(path, tmp_path / "out")
    one = tmp_path / "one.yaml"
    one.write_text("\n".join(line[2:] if line.startswith("  ") else "" for line in path.read_text().splitlines()))
    found = rows(run(load(one, ["batch=16"])))
    table = list(csv.DictReader((tmp_path / "out" / "results.csv").read_text().splitlines()))
    for row in (row for row in table if row["batch"] == "16"):
        own = found[row["policy"]]
        assert row["seeds_run"] == "2"
        for figure in ("speedup", "decode_time_s", "hops"):
            assert float(row[figure]) == pytest.approx(own[figure], rel=1e-12)
            ends = [float(row[f"{figure}_seeds_{end}"]) for end in ("low", "high")]
            assert ends == pytest.approx(own["ci95_seeds"][figure], rel=1e-9)
            if layers:
                ends = [float(row[f"{figure}_{end}"]) for end in ("low", "high")]
                assert ends == pytest.approx(own["ci95"][figure], rel=1e-9)
    about = json.loads((tmp_path / "out" / "sweep.json").read_text())
    assert about["schema"] == "wss-sweep/2"
    links = pq.read_table(tmp_path / "out" / "links.parquet").to_pylist()
    assert len(links) == len({(link["batch"], link["policy"], link["link"]) for link in links})


def test_where_nothing_is_drawn_by_the_seed_replications_are_refused(tiny):
    made = load(tiny)
    trace = tiny.with_name("t.parquet")
    write_trace(trace, synth_meta(made.trace, made.model, 0), synthesise(made.trace, made.model, 0))
    for order in ("file", "string"):
        with pytest.raises(ConfigError) as error:
            load(tiny, [f"trace.path={trace}", f"trace.order={order}", "replications=2"])
        (fault,) = error.value.faults
        assert fault.endswith(
            "replications: 2 changes nothing: recorded requests are taken in a given order, and no layers are sampled, "
            "so all seeds give the same; leave it out"
        )
    with pytest.raises(ConfigError, match="replications: 2 changes nothing"):
        load(tiny, [f"trace.path={trace}", "layers={sample: 6}", "replications=2"])
    for settings in (["trace.order=mixed"], ["layers={sample: 4}"]):
        assert load(tiny, [f"trace.path={trace}", "replications=2", *settings]).replications == 2
    with pytest.raises(ConfigError, match="replications: 2 changes nothing"):
        replace(load(tiny, [f"trace.path={trace}"]), replications=2)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        (["replications=0"], "replications: 0 is not right; it should be greater than or equal to 1"),
        (["replications=2.5"], "replications: 2.5 is not right; it should be a whole number"),
        (["replications=1001"], "replications: 1001 is not right; it should be less than or equal to 1000"),
        ([f"seed={2**63 - 2}", "replications=3"], "replications: 3 go beyond the largest seed"),
    ],
)
def test_numbers_of_replications_that_are_none_are_refused(tiny, settings, said):
    with pytest.raises(ConfigError) as error:
        load(tiny, settings)
    assert any(said in fault for fault in error.value.faults), error.value.faults


def test_the_schema_has_replications():
    assert json_schema()["properties"]["replications"] == {
        "type": "integer",
        "minimum": 1,
        "maximum": 1000,
        "default": 1,
    }
