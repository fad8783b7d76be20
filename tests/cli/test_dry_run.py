"""`--dry-run`: what would be run, as a configuration again, and nothing written."""

import dataclasses

import pytest
from click.testing import CliRunner
from kit import ROOT
from kit.sweeps import TINY, sweep_file

from wss.cli import cli
from wss.config import load
from wss.config.sweep_file import load_sweep
from wss.config.written import as_yaml
from wss.errors import CapacityError, ConfigError, OutputError
from wss.policies import POLICIES

RUN = "\n".join(line[2:] for line in TINY.splitlines() if line.startswith("  "))
CHANGES = {
    "as it is": (),
    "faults": ("faults.yield=0.9", "faults.links=[[[0, 0], [0, 1]]]"),
    "a sample": ("layers.sample=4",),
    "layers": ("layers=[1]",),
    "quantities": ("planning=17.3 us", "wafer.link.latency=123.456789 ns", "wafer.die.hbm.size=7/3 GB"),
    "a network": ("network.kind=packet", "network.chunk=1 MiB"),
    "dispatch": ("dispatch=uniform", "precision={weights: fp8, compute: bf16}"),
    "policies": ("policies=[{name: '1e9', preset: ep, copies: {llc: true}}, base, {name: 'no', preset: pred}]",),
    "a trace": ("trace.path='a: b.parquet'", "trace.order=mixed"),
}


def invoke(*arguments):
    return CliRunner().invoke(cli, [str(a) for a in arguments])


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A folder with a small configuration, `run.yaml`."""
    monkeypatch.chdir(tmp_path)
    return sweep_file(tmp_path, RUN, "run.yaml")


@pytest.mark.parametrize("change", CHANGES)
def test_an_experiment_as_yaml_is_the_same_experiment_again(here, change):
    settings = [setting.replace("7/3", str(7 / 3)) for setting in CHANGES[change]]
    experiment = load(here, settings)
    here.write_text(as_yaml(experiment))
    assert load(here) == experiment


@pytest.mark.parametrize("path", sorted((ROOT / "configs").glob("*.yaml")), ids=lambda path: path.stem)
def test_shipped_configurations_too_and_with_every_policy(tmp_path, path):
    experiment = load(path)
    policies = [dataclasses.replace(policy, name=f"{policy.name} again", about=experiment.policies[0].about)
                for policy in POLICIES.values()]  # fmt: skip
    (tmp_path / "run.yaml").write_text(as_yaml(experiment))
    assert load(tmp_path / "run.yaml") == experiment
    experiment = dataclasses.replace(experiment, policies=tuple(policies), baseline=policies[0].name)
    (tmp_path / "run.yaml").write_text(as_yaml(experiment))
    again = load(tmp_path / "run.yaml")
    about = "given in the configuration"
    assert again.policies == tuple(dataclasses.replace(policy, about=about) for policy in policies)


def test_a_run_is_told_and_not_run(here, tmp_path):
    done = invoke("run", here, "--dry-run", "--out", "out", "--set", "replications=2")
    assert done.exit_code == 0, done.output
    assert {path.name for path in tmp_path.iterdir()} == {"run.yaml"}
    (tmp_path / "again.yaml").write_text(done.stdout)
    assert load(tmp_path / "again.yaml") == load(here, ["replications=2"])
    comments = [line for line in done.stdout.splitlines() if line.startswith("# ")]
    assert comments[0].startswith("# HBM of each of ")
    experiment = load(here)
    runs = len(experiment.policies) * len(experiment.model.moe_layers) * (experiment.steps + 1) * 2
    assert any(f": {runs:,} layer runs" in line for line in comments)
    assert any(line.startswith("# fits (") for line in comments)
    assert any(line.startswith("# estimate: about ") for line in comments)


def test_what_a_run_would_be_refused_for_a_dry_run_is_too(here, tmp_path):
    (tmp_path / "there").mkdir()
    refused = [
        (("--json",), ConfigError, "--json: prints the summary of a run"),
        (("--wide",), ConfigError, "--wide: is for the table of results"),
        (("--out", "there"), OutputError, "exists"),
        (("--set", "wafer.die.hbm.size=1 kB"), CapacityError, "does not fit"),
        (("--set", "steps=1000"), ConfigError, "steps: 1000 are more"),
    ]
    for arguments, kind, what in refused:
        done = invoke("run", here, "--dry-run", *arguments)
        assert isinstance(done.exception, kind), arguments
        assert what in str(done.exception)
        assert not done.stdout


def test_columns_are_not_chosen_where_no_table_is_printed(here):
    assert "--wide: is for the table, and --json prints none" in str(invoke("run", here, "--json", "--wide").exception)


def test_a_sweep_is_told_and_not_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = sweep_file(tmp_path, TINY + "grid: {batch: [8, 16]}")
    done = invoke("sweep", path, "--dry-run", "--workers", 2)
    assert done.exit_code == 0, done.output
    assert [item.name for item in tmp_path.iterdir()] == [path.name]
    plan = load_sweep(path)
    tasks = sum(len(point.experiment.policies) for point in plan.points)
    assert f"2 points, {tasks} tasks, of which 0 are kept" in done.stdout
    assert "estimate: about 1 s on 2 cores" in done.stdout
    assert "leave one of the two out" in str(invoke("sweep", path, "--dry-run", "--dask", "tcp://a:1").exception)
    assert "--wide: is for the table of results" in str(invoke("sweep", path, "--dry-run", "--wide").exception)
    small = sweep_file(tmp_path, TINY + "grid: {wafer.die.hbm.size: [1 kB]}", "small.yaml")
    assert isinstance(invoke("sweep", small, "--dry-run").exception, ConfigError)
