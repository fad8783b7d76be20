"""Sweeps: what a file says, what is run, what is kept, and the same bytes however it is run."""

import csv
import json

import pytest
from click.testing import CliRunner
from kit.sweeps import FEW, TINY, content, do, sweep_file, tasks_in

from wss.cli import cli
from wss.config import load
from wss.config.sweep_file import load_sweep
from wss.errors import ConfigError, OutputError
from wss.execution import run
from wss.serving.moe_layer import MoeLayerExecutor
from wss.sweeps import Folder, tasks_of
from wss.sweeps.check import identity_of
from wss.sweeps.execute import run_chunk
from wss.sweeps.tasks import check_outside, chunks_of
from wss.traces import TraceReader, write_trace

# --- what a file says -------------------------------------------------------------------------------------------------


def test_a_grid_is_every_combination_and_vary_is_one_change_at_a_time(tmp_path):
    sweep = load_sweep(sweep_file(tmp_path))
    assert [point.labels for point in sweep.points] == [{"batch": b, "seed": s} for b in (8, 16) for s in (0, 1)]
    assert [(p.experiment.batch, p.experiment.seed) for p in sweep.points] == [(8, 0), (8, 1), (16, 0), (16, 1)]
    text = TINY + (
        "grid: {seed: [0, 1]}\nvary:\n  window: [1, 3]\n  net:\n    half: {network: {kind: circuit, duplex: half}}\n"
    )
    sweep = load_sweep(sweep_file(tmp_path, text))
    assert sweep.axes == ("seed", "varied", "to")
    found = [(p.labels["varied"], p.labels["to"], p.experiment.window, p.experiment.network_kind) for p in sweep.points]
    centre = [("-", "-", 2, "fluid"), ("window", "1", 1, "fluid"), ("window", "3", 3, "fluid")]
    assert found == [*centre, ("net", "half", 2, "circuit")] * 2


def test_a_setting_below_a_preset_and_a_config_in_a_file_of_its_own(tmp_path):
    sweep_file(
        tmp_path, "model: llama4_maverick\nwafer: dojo\ntrace: {synth: llama4_maverick}\npolicies: [base]\n", "c.yaml"
    )
    path = sweep_file(
        tmp_path,
        "config: c.yaml\ngrid:\n  trace.synth.skew: [1.0, 2.0]\n  wafer.mesh:\n    3x3: {wafer.mesh: [3, 3]}\n",
    )
    sweep = load_sweep(str(path), ["batch=7"])
    assert [p.experiment.trace.skew for p in sweep.points] == [1.0, 2.0]
    assert {p.experiment.wafer.mesh for p in sweep.points} == {(3, 3)}
    assert {p.experiment.batch for p in sweep.points} == {7}


def test_one_error_of_several_values_is_named_once_at_its_first_place(tmp_path):
    path = sweep_file(tmp_path, TINY + "grid: {batsh: [1, 2, 3], seed: [0, 1]}")
    with pytest.raises(ConfigError) as error:
        load_sweep(path)
    assert [fault.partition(": ")[2].partition(":")[0] for fault in error.value.faults] == ["batsh"]
    path.write_text(TINY + "grid: {steps: [x, y]}")
    with pytest.raises(ConfigError) as error:
        load_sweep(path)
    assert ["'x' is not right" in fault for fault in error.value.faults] == [True, False]


@pytest.mark.parametrize(
    ("text", "line"),
    [
        (TINY, "has neither grid nor vary"),
        (TINY + "grid: {batsh: [1, 2]}", "tiny.yaml:10:16: batsh: is not a key here; did you mean 'batch'?"),
        (TINY + "grid: {batch: [1, no]}", "tiny.yaml:10:19: batch: 'no' is not right"),
        (TINY + "grid: {batch: [1, 1]}", "has a value twice"),
        (TINY + "grid: {batch: [1, 1.0]}", "has a value twice"),
        (TINY + "grid: {link: {a: {batch: 1}}}", "is a column of the results"),
        (TINY + "grid: {batch: [1, 2], big: {x: {batch: 16}}}", "big.x.batch: is set by another axis too"),
        (TINY + "grid: {network.duplex: [half], network.kind: [circuit]}", "would discard 'network.duplex'"),
        (
            TINY + "grid: {trace.synth.skew: [1.0, 2.0], trace.synth: [qwen3_235b]}",
            "would discard 'trace.synth.skew'",
        ),
        (TINY + "grid: {batch: [1, 2]}\nvary: {big: {x: {batch: 16}}}", "vary.big.x.batch: is set by another axis too"),
        (TINY + "grid: {batch: 3}", "give a list of values, or labels with settings"),
        (TINY + "grid: {batch: [[1]]}", "is not a plain value"),
        (TINY + "grid: {batch: {a: 3}}", "grid.batch.a: is not right; give settings"),
        (TINY + "grid: [1]", "give axes"),
        (TINY + "grid: {policy: [1]}", "is a column of the results"),
        (TINY + "grid: {batch: [1]}\nvary: {batch: [2]}", "is in grid too"),
        (TINY + "grid: {batch: [1]}\ncheck: {tolerance: 2}", "check.tolerance: 2 is not right"),
        (TINY + "grid: {batch: [1]}\nname: a/b", "without '/'"),
        (TINY + "gird: {batch: [1]}", "gird: is not a key of a sweep; did you mean 'grid'?"),
        ("model: qwen3_235b\npolicies: [ep]", "is the configuration of a run; run it with `wss run`"),
        ("grid: {batch: [1]}", "config: is missing"),
        ("config: nowhere.yaml\ngrid: {batch: [1]}", "there is no such file"),
        (
            TINY
            + "grid: {seed: ["
            + ", ".join(map(str, range(101)))
            + "], batch: ["
            + ", ".join(map(str, range(1, 101)))
            + "]}",
            "makes 10100 points",
        ),
        ("", "is empty"),
        ("3", "is not a mapping"),
    ],
)
def test_a_fault_in_a_sweep_is_one_line_with_its_place(tmp_path, text, line):
    with pytest.raises(ConfigError) as error:
        load_sweep(sweep_file(tmp_path, text))
    assert any(line in fault for fault in error.value.faults), error.value.faults
    assert all("\n" not in fault for fault in error.value.faults)


def test_a_setting_on_the_command_line_may_not_fight_an_axis(tmp_path):
    with pytest.raises(ConfigError, match="the axis batch of"):
        load_sweep(sweep_file(tmp_path), ["batch=3"])


def test_weights_that_do_not_fit_are_refused_before_anything_runs(tmp_path):
    text = TINY.replace("mesh: [2, 2]", "mesh: [2, 2], die: {hbm: {size: 1 MB}}") + "grid: {seed: [0]}"
    done = CliRunner().invoke(cli, ["sweep", str(sweep_file(tmp_path, text)), "--out", str(tmp_path / "o")])
    assert "does not fit" in str(done.exception)
    assert not (tmp_path / "o").exists()


# --- what is run, and what is kept ------------------------------------------------------------------------------------


def test_what_is_done_is_kept_and_a_change_runs_only_what_it_touches(tmp_path):
    path, out = sweep_file(tmp_path), tmp_path / "out"
    assert do(path, out) == 20
    before = content(out)
    assert do(path, out) == 0
    assert content(out) == before
    path.write_text(FEW.replace("seed: [0, 1]", "seed: [0, 1, 2]"))
    assert do(path, out) == 10
    path.write_text(
        FEW.replace("allo, allo_pred]", "allo, {name: mine, preset: allo, allocation: {kind: algorithm1, block: 9}}]")
    )
    assert do(path, out) == 4
    path.write_text(FEW.replace("batch: [8, 16]", "batch: [8, 16]\n  window: [2]"))
    assert do(path, out) == 0
    path.write_text(FEW + "about: other words\n")
    assert do(path, out) == 0
    assert content(out) == before


def test_a_changed_user_class_runs_anew(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(tmp_path))
    module = tmp_path / "changing_policy.py"
    source = (
        "from dataclasses import dataclass\nfrom wss.policies.allocation.basic import Home\n"
        "@dataclass(frozen=True, kw_only=True)\nclass Mine(Home):\n    pass\n"
    )
    module.write_text(source)
    text = TINY.replace("[base, ep, pred, allo, allo_pred]", "[base, {name: mine, allocation: 'changing_policy:Mine'}]")
    path, out = sweep_file(tmp_path, text + "grid: {seed: [0]}\n"), tmp_path / "out"
    assert do(path, out) == 2
    module.write_text(source + "# changed\n")
    monkeypatch.setattr("wss.config.dependencies._LOADED", {})  # as in another process
    assert do(path, out) == 1
    assert do(path, out) == 0


def test_a_damaged_task_file_is_run_again(tmp_path):
    path, out = sweep_file(tmp_path), tmp_path / "out"
    do(path, out)
    before = content(out)
    files = sorted((out / "tasks").iterdir())
    files[0].write_text("{")
    files[1].write_text(files[2].read_text())
    assert do(path, out) == 2
    assert content(out) == before


def test_rows_are_those_of_a_run(tmp_path):
    path, out = sweep_file(tmp_path), tmp_path / "out"
    do(path, out)
    (tmp_path / "one.yaml").write_text(
        "\n".join(line[2:] if line.startswith("  ") else "" for line in TINY.splitlines())
    )
    runs = {r["policy"]: r for r in run(load(tmp_path / "one.yaml", ["batch=16", "seed=1"])).to_dict()["runs"]}
    rows = [
        row
        for row in csv.DictReader((out / "results.csv").read_text().splitlines())
        if (row["batch"], row["seed"]) == ("16", "1")
    ]
    assert [row["policy"] for row in rows] == ["base", "ep", "pred", "allo", "allo_pred"]
    for row in rows:
        for figure in ("decode_time_s", "speedup", "hops", "link_bytes", "bound_ratio", "prefill_time_s"):
            assert float(row[figure]) == runs[row["policy"]][figure], figure


@pytest.mark.slow
def test_a_policy_that_fails_does_not_take_the_others_with_it(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "failing_policy.py").write_text(
        "from dataclasses import dataclass\nfrom wss.policies import Allocation\n"
        "@dataclass(frozen=True, kw_only=True)\nclass Bad(Allocation):\n"
        "    def allocate(self, view):\n        raise RuntimeError('not today')\n"
    )
    text = TINY.replace(
        "[base, ep, pred, allo, allo_pred]", "[base, {name: bad, allocation: 'failing_policy:Bad'}, ep]"
    )
    for workers in (1, 2):
        out = tmp_path / str(workers)
        with pytest.raises(ConfigError) as error:
            do(sweep_file(tmp_path, text + "grid: {seed: [0, 1]}\n"), out, workers)
        assert len(error.value.faults) == 2
        assert all("bad on tiny" in fault and "not today" in fault for fault in error.value.faults)
        assert len(tasks_in(out)) == 4
        assert not (out / "results.csv").exists()


def test_the_source_of_wss_and_a_recorded_trace_are_part_of_a_task(tmp_path, monkeypatch):
    def keys():
        return [task.key for own in tasks_of(load_sweep(path)) for task in own]

    file = tmp_path / "t.parquet"
    done = invoke("trace", "synth", "gpt_oss_20b", "--requests", 9, "--decode-tokens", 2, "--out", file)
    assert done.exit_code == 0
    text = f"config:\n  model: gpt_oss_20b\n  wafer: dojo\n  trace: {{path: {file}}}\n  steps: 1\n  policies: [base]\n"
    path = sweep_file(tmp_path, text + "grid: {batch: [4, 8]}\n")
    before = keys()
    (tmp_path / "moved.parquet").write_bytes(file.read_bytes())
    path.write_text(path.read_text().replace("t.parquet", "moved.parquet"))
    assert keys() == before, "where a trace lies does not matter"
    with TraceReader(file) as reader:
        requests, meta = list(reader.requests()), reader.meta
    write_trace(tmp_path / "moved.parquet", meta, requests[:-1])
    assert not set(keys()) & set(before)
    path.write_text(path.read_text().replace("moved.parquet", "t.parquet"))
    assert keys() == before
    monkeypatch.setattr("wss.sweeps.tasks.software", lambda: "other")
    assert not set(keys()) & set(before)


def test_a_worker_that_has_something_else_refuses(tmp_path, monkeypatch):
    task = tasks_of(load_sweep(sweep_file(tmp_path)))[0][0]
    check_outside(task)
    monkeypatch.setattr("wss.sweeps.tasks.software", lambda: "other")
    with pytest.raises(ConfigError, match="its wss is not the one of this sweep"):
        check_outside(task)
    with pytest.raises(ConfigError, match="cannot load the tasks"):
        run_chunk(b"no pickle", 0, [])


def test_tables_of_another_sweep_do_not_stay_for_those_of_this_one(tmp_path):
    path, out = sweep_file(tmp_path), tmp_path / "out"
    do(path, out)
    sweep = load_sweep(path)
    Folder(out).begin(identity_of(sweep, tasks_of(sweep)), sweep.name)
    assert (out / "results.csv").exists()
    with pytest.raises(OutputError, match="holds the sweep 'tiny'"):
        Folder(out).begin("another", "other")
    Folder(out).begin("another", "tiny")
    assert not (out / "results.csv").exists()
    assert not (out / "sweep.json").exists()


def test_sampled_layers_carry_their_intervals(tmp_path):
    text = TINY.replace("moe_layers: [0, 1, 2]", "moe_layers: [0, 1, 2, 3, 4, 5]").replace(
        "num_layers: 3", "num_layers: 6"
    )
    path, out = sweep_file(tmp_path, text + "  layers: {sample: 4}\ngrid: {seed: [0]}\n"), tmp_path / "out"
    do(path, out)
    (tmp_path / "one.yaml").write_text(
        "\n".join(line[2:] if line.startswith("  ") else "" for line in path.read_text().splitlines())
    )
    runs = {r["policy"]: r for r in run(load(tmp_path / "one.yaml", ["seed=0"])).to_dict()["runs"]}
    for row in csv.DictReader((out / "results.csv").read_text().splitlines()):
        own = runs[row["policy"]]
        for figure in ("speedup", "decode_time_s", "hops"):
            assert float(row[figure]) == own[figure]
            assert [float(row[f"{figure}_low"]), float(row[f"{figure}_high"])] == own["ci95"][figure]


def test_tasks_that_share_routing_are_one_chunk_and_all_workers_have_some(tmp_path):
    tasks = [t for own in tasks_of(load_sweep(sweep_file(tmp_path))) for t in own]
    assert [len(chunk) for chunk in chunks_of(tasks, 1)] == [5, 5, 5, 5]
    assert all(len({task.routing for task in chunk}) == 1 for chunk in chunks_of(tasks, 1))
    many = chunks_of(tasks, 7)
    assert len(many) == 8
    assert sorted(t.key for chunk in many for t in chunk) == sorted(t.key for t in tasks)


def test_a_sweep_that_was_killed_as_it_wrote_its_tables_goes_on(tmp_path):
    path, out = sweep_file(tmp_path), tmp_path / "out"
    do(path, out)
    (out / "sweep.json").unlink()
    (out / "notes.txt").write_text("on the sweep")
    (out / "report").mkdir()
    assert do(path, out) == 0
    assert (out / "notes.txt").exists()


def test_another_folder_is_not_taken(tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("years of work")
    with pytest.raises(OutputError, match="is not a sweep's folder and not empty"):
        Folder(tmp_path / "mine")


# --- the same bytes ---------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_one_worker_and_two_give_the_same_bytes(tmp_path):
    path = sweep_file(tmp_path)
    for workers in (1, 2):
        do(path, tmp_path / str(workers), workers)
    assert content(tmp_path / "1") == content(tmp_path / "2")
    assert tasks_in(tmp_path / "1") == tasks_in(tmp_path / "2")


# --- what is expected -------------------------------------------------------------------------------------------------


def invoke(*arguments):
    return CliRunner().invoke(cli, [str(a) for a in arguments])


def test_figures_that_hold_a_slowdown_and_a_changed_experiment(tmp_path, monkeypatch):
    path = sweep_file(tmp_path)
    common = ("check", path, "--workers", 1)
    missing = invoke(*common)
    assert "there is none yet" in str(missing.exception)
    assert invoke(*common, "--out", tmp_path / "a", "--update").exit_code == 0
    expected = json.loads((tmp_path / "expected" / "tiny.json").read_text())
    assert expected["tolerance"] == 0.01
    assert expected["renew"] == f"python -m wss check {path} --update"
    assert {"wss", "commit", "python", "packages"} <= set(expected)
    assert len(expected["values"]) == 20
    held = invoke(*common, "--out", tmp_path / "a")
    assert (held.exit_code, "all 60 figures hold" in held.output) == (0, True)

    plain = MoeLayerExecutor.run

    def slow(self, layer_run):
        plain(self, layer_run)
        if self.recorder.policy == "allo_pred":
            row = self.recorder.rows[-1]
            object.__setattr__(row, "time_s", 1.02 * row.time_s)

    with monkeypatch.context() as patch:
        patch.setattr(MoeLayerExecutor, "run", slow)
        moved = invoke(*common, "--out", tmp_path / "b")
    assert moved.exit_code == 1
    lines = [line for line in moved.output.splitlines() if "allo_pred" in line]
    assert len(lines) == 8
    assert all("worse" in line for line in lines)
    assert "+2.00%" in moved.output
    assert "-1.96%" in moved.output
    assert not any(policy in moved.output for policy in ("base ", "ep ", "allo  "))

    path.write_text(FEW.replace("steps: 2", "steps: 1"))
    changed = invoke(*common, "--out", tmp_path / "a")
    assert "the experiment has changed" in str(changed.exception)
    assert "): steps was 2, is 1; if that is meant" in str(changed.exception)
    del expected["settings"]  # as in a file of an earlier version
    (tmp_path / "expected" / "tiny.json").write_text(json.dumps(expected))
    changed = invoke(*common, "--out", tmp_path / "a")
    assert f"(commit {expected['commit']}); if that is meant" in str(changed.exception)
    path.write_text(FEW)
    assert invoke(*common, "--out", tmp_path / "a").exit_code == 0


def test_the_order_of_policies_and_of_the_axes_choices_does_not_matter_to_a_check(tmp_path):
    path = sweep_file(tmp_path)
    common = ("check", path, "--workers", 1, "--out", tmp_path / "a")
    assert invoke(*common, "--update").exit_code == 0
    path.write_text(FEW.replace("[base, ep, pred, allo, allo_pred]", "[allo_pred, allo, base, pred, ep]"))
    assert "all 60 figures hold" in invoke(*common).output


DAMAGE = {  # what is done to an expected file, and what is said of it
    "no tolerance": (lambda e: e.pop("tolerance"), "it lacks tolerance"),
    "no values": (lambda e: e.pop("values"), "it lacks values"),
    "no schema": (lambda e: e.pop("schema"), "its schema is not wss-expected/1"),
    "NaN tolerance": (lambda e: e.update(tolerance=float("nan")), "NaN is not a JSON number"),
    "endless tolerance": (lambda e: e.update(tolerance=float("inf")), "Infinity is not a JSON number"),
    "absurd tolerance": (lambda e: e.update(tolerance=50.0), "its tolerance is 50.0; it should be a share, from 0"),
    "whole tolerance": (lambda e: e.update(tolerance=1.0), "its tolerance is 1.0; it should be a share, from 0"),
    "a figure too many": (lambda e: e["values"][0].update(speed=1.0), "have 'speed', which is not compared"),
    "true tolerance": (lambda e: e.update(tolerance=True), "its tolerance is True"),
    "wider tolerance": (lambda e: e.update(tolerance=0.5), "may move by 0.5, and the sweep says 0.01"),
    "NaN": (lambda e: e["values"][3].update(speedup=float("nan")), "NaN is not a JSON number"),
    "text": (lambda e: e["values"][3].update(speedup="abc"), "values.3.speedup is 'abc'; it should be a number"),
    "null": (lambda e: e["values"][3].update(hops=None), "values.3.hops is None; it should be a number"),
    "beyond belief": (lambda e: e["values"][3].update(hops=10**301), "is too large"),
    "a row of text": (lambda e: e["values"].append("x"), "values.20 has no labels"),
    "no policy": (lambda e: e["values"][2].pop("policy"), "values.2 has no policy"),
    "a row too few": (lambda e: e["values"].pop(), "lack 1 rows of the sweep and have 0 of no point"),
    "a row twice": (lambda e: e["values"].append(e["values"][0]), "lack 0 rows of the sweep and have 1 of no point"),
    "a row of another": (
        lambda e: e["values"].append({**e["values"][0], "policy": "x"}),
        "lack 0 rows of the sweep and have 1 of no point",
    ),
    "which row": (lambda e: e["values"].pop(0), "; the first it lacks is batch 8, seed 0, policy "),
    "which row twice": (
        lambda e: e["values"].append(e["values"][0]),
        "; the first too many is batch 8, seed 0, policy ",
    ),
    "a figure too few": (lambda e: e["values"][0].pop("speedup"), "figures lack speedup of batch 8, seed 0, policy "),
    "a key too many": (lambda e: e.update(comit="a"), "it has 'comit', which is not known; did you mean 'commit'?"),
    "no packages": (lambda e: e.pop("packages"), "it lacks packages"),
    "a package too few": (lambda e: e["packages"].pop("numpy"), "its packages is"),
    "a commit of numbers": (lambda e: e.update(commit=3), "its commit is '3', which --update does not write"),
    "no Python": (lambda e: e.update(python=None), "its python is 'None', which --update does not write"),
    "another command": (lambda e: e.update(renew="rm -r ."), "its renew is 'rm -r .', which --update does not write"),
    "another sweep": (lambda e: e.update(experiment="other"), "the expected figures are of 'other'"),
    "settings of another form": (lambda e: e["settings"]["points"].append(3), "its settings is "),
    "a list": (lambda e: e.update(values={}), "its values are no list of rows"),
}


@pytest.fixture(scope="module")
def checked(tmp_path_factory):
    """A sweep whose figures were written down, done once for all kinds of damage."""
    folder = tmp_path_factory.mktemp("checked")
    path = sweep_file(folder)
    assert invoke("check", path, "--workers", 1, "--out", folder / "a", "--update").exit_code == 0
    return path, folder


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_expected_file_is_one_line(checked, damage):
    path, folder = checked
    file = folder / "damaged.json"
    expected = json.loads((folder / "expected" / "tiny.json").read_text())
    change, what = DAMAGE[damage]
    change(expected)
    file.write_text(json.dumps(expected))
    done = invoke("check", path, "--workers", 1, "--out", folder / "a", "--expected", file)
    assert isinstance(done.exception, ConfigError)
    assert len(done.exception.faults) == 1
    assert what in str(done.exception)


def test_a_figure_that_was_not_written_is_named(checked):
    path, folder = checked
    other = folder / "other.yaml"
    other.write_text("name: tiny\n" + path.read_text() + "check: {figures: [speedup, prefill_hops]}\n")
    done = invoke(
        "check", other, "--workers", 1, "--out", folder / "a", "--expected", folder / "expected" / "tiny.json"
    )
    assert "check.figures has 'prefill_hops', and the expected figures are decode_time_s, hops, speedup" in str(
        done.exception
    )


def test_a_figure_that_is_none_is_refused(tmp_path):
    """A name that is not a figure before the sweep is run, a figure that not all rows have after it."""
    path = sweep_file(tmp_path, FEW + "check: {figures: [speed]}\n")
    done = invoke("check", path, "--workers", 1, "--out", tmp_path / "a", "--update")
    assert "check.figures.0: 'speed' is not a figure; did you mean 'speedup'" in str(done.exception)
    path = sweep_file(tmp_path, FEW + "check: {figures: [moved_bytes]}\n")
    done = invoke("check", path, "--workers", 1, "--out", tmp_path / "a", "--update")
    assert "'moved_bytes' is not a figure of every point" in str(done.exception)


def test_a_sweep_given_to_run_is_told_so(tmp_path):
    with pytest.raises(ConfigError, match="is a sweep; run it with `wss sweep`"):
        load(sweep_file(tmp_path))


def test_a_configuration_given_to_sweep_is_one_error(tmp_path):
    path = tmp_path / "run.yaml"
    path.write_text("model: gpt_oss_20b\nwafer: dojo\nbatch: 4\n", encoding="utf-8")
    with pytest.raises(ConfigError) as error:
        load_sweep(path)
    right = "run it with `wss run`, or name it as the config of a sweep"
    assert error.value.faults == (f"{path}: is the configuration of a run; {right}",)
