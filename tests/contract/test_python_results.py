"""Results in Python: of one experiment, of several, and of sweeps."""

import json
import subprocess
import sys
from dataclasses import dataclass, replace
from pathlib import Path

import pyarrow as pa
import pytest
from click.testing import CliRunner
from kit.runs import SMALL, without_host
from kit.sweeps import TINY

import wss
from wss.cli import cli
from wss.config.sweep_file import load_sweep
from wss.errors import UnknownNameError
from wss.policies import Policy
from wss.policies.allocation.basic import Home


@dataclass(frozen=True, kw_only=True)
class Mine(Home):
    strength: int = 1


@pytest.fixture
def small(tmp_path):
    path = tmp_path / "small.yaml"
    path.write_text(SMALL, encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def result(tmp_path_factory):
    path = tmp_path_factory.mktemp("python") / "small.yaml"
    path.write_text(SMALL, encoding="utf-8")
    return wss.run(path, policies=["ep", "base"])


def test_a_result_in_two_lines_and_as_html(result):
    said = repr(result).splitlines()
    assert said[0] == "Result: tiny on dojo (modified), batch 40, 3 decode steps, SYNTHETIC routing"
    assert said[1].startswith("  speedup over base: ep ")
    assert said[1].endswith("x, base 1.00x")
    html = result._repr_html_()
    assert html.startswith("<p><b>SYNTHETIC routing</b>")
    assert "\nbase " in html
    named = replace(result, notes=("<script>alert(1)</script>",))
    assert "<script>" not in named._repr_html_()
    assert "&lt;script&gt;" in named._repr_html_()


def test_figures_of_a_result_by_name(result):
    assert result.figure("ep", "speedup").value > 1
    for policy, figure, right in (
        ("epp", "speedup", "policy: 'epp' is not in this result; did you mean 'ep'?"),
        ("ep", "speed", "figure: 'speed' is not in this result; did you mean 'speedup'?"),
        (["ep"], "speedup", "policy: ['ep'] is not in this result; known: base, ep"),
    ):
        with pytest.raises(wss.WssError) as error:
            result.figure(policy, figure)
        assert str(error.value) == right
        assert isinstance(error.value, UnknownNameError)


def test_tables_of_a_result_are_those_of_all_its_policies(result):
    for name in ("layers", "links"):
        own = pa.concat_tables([getattr(result.runs[policy], name) for policy in ("base", "ep")])
        assert getattr(result, name).equals(own)


def test_pictures_of_a_result(result, tmp_path):
    plt = pytest.importorskip("matplotlib.pyplot", reason="draws with the extra 'plot'")
    for what in ("evictions", "speedup", "hops", "decode_time_s", "links", "layers"):
        fig = result.plot(what)
        fig.savefig(tmp_path / "a.png")
        assert (tmp_path / "a.png").stat().st_size > 3_000
        assert "synthetic routing" in fig.get_suptitle()
    for axis, policy in zip(result.plot("links").axes, ("ep", "base"), strict=False):
        assert axis.get_title().startswith(policy)
        assert f"{result.figure(policy, 'max_link_utilization').value:.1%}" in axis.get_title()
    (bars,) = result.plot("speedup").axes
    assert [patch.get_height() for patch in bars.patches] == [
        result.figure(policy, "speedup").value for policy in ("ep", "base")
    ]
    assert plt.get_fignums() == []
    for what, right in (
        ("speed", "plot: 'speed' is not a figure; did you mean 'speedup'?"),
        ("link", "plot: 'link' is not a figure; did you mean 'links'?"),
        ("moved_bytes", "plot: this result has no moved_bytes; give another figure, such as speedup"),
    ):
        with pytest.raises(wss.WssError) as error:
            result.plot(what)
        assert str(error.value) == right


def test_one_die_has_no_picture_of_links(small):
    alone = wss.run(small, {"wafer.mesh": [1, 1], "steps": 1}, policies=["base", "ep"])
    with pytest.raises(wss.WssError, match="plot: this system has no links; give another picture, such as speedup"):
        alone.plot("links")
    assert "batch 40, 1 decode step, " in repr(alone)


def test_pictures_need_an_extra(result, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(wss.WssError, match=r"^plot: needs matplotlib; install wss with the extra 'plot'$"):
        result.plot()


def test_the_backend_of_a_notebook_stays(result, monkeypatch):
    matplotlib = pytest.importorskip("matplotlib", reason="draws with the extra 'plot'")
    monkeypatch.setattr(matplotlib, "use", lambda backend: pytest.fail("changes the user's backend"))
    result.plot("links")


def test_many_experiments_are_each_as_if_alone(small):
    each = [wss.load(small, batch=20), wss.load(small, wafer="dojo"), wss.load(small, batch=20, window=1)]
    found = wss.run_many(each, policies=["base", "ep"])
    assert [one.experiment.batch for one in found] == [20, 40, 20]
    for experiment, one in zip(each, found, strict=True):
        alone = wss.run(experiment, policies=["base", "ep"])
        assert without_host(one.to_dict()) == without_host(alone.to_dict())
    assert wss.run_many([]) == []


def test_progress_is_off_a_bar_or_a_function(small, capsys):
    wss.run(small, policies=["base", "ep"])
    assert capsys.readouterr().err == ""
    said = []
    wss.run(small, policies=["base", "ep"], progress=lambda *done: said.append(done))
    assert said[-1] == ("simulating", said[-1][2], said[-1][2], "ep, decode step 3, layer 2")
    wss.run(small, policies=["base", "ep"], progress=True)
    assert "simulating" in capsys.readouterr().err


def test_a_sweep_of_a_file_is_that_of_the_command_line(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("tiny.yaml").write_text(TINY + "grid: {batch: [8, 16]}\naverages: {by: [batch]}\n", encoding="utf-8")
    done = CliRunner().invoke(cli, ["sweep", "tiny.yaml", "--workers", "1", "--out", "a", "--set", "window=1"])
    assert done.exit_code == 0, done.output
    found = wss.sweep("tiny.yaml", out="b", workers=1, window=1)
    for name in ("results.parquet", "results.csv", "links.parquet"):
        assert Path("a", name).read_bytes() == Path("b", name).read_bytes()
    assert done.stdout == found.table() + "\n"
    assert "\nmean speedup over 1 point\n" in found.table()
    assert [row["batch"] for row in found.rows] == [8] * 5 + [16] * 5
    assert found.results.num_rows == 10
    assert {"batch", "policy", "link"} <= set(found.links.column_names)
    assert repr(found) == "SweepResult: 10 rows in b/; axes batch; policies base, ep, pred, allo, allo_pred"
    assert found._repr_html_().startswith("<p><b>SYNTHETIC routing</b>")
    assert wss.sweep(load_sweep(Path("tiny.yaml"), ["window=1"]), out="b", workers=1).rows == found.rows


@pytest.mark.slow
def test_points_of_a_sweep_are_picked(small, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    plan = {"config": str(small), "grid": {"batch": [8, 16]}}
    found = wss.sweep(plan, policies=["base", "ep"], only=["batch=16"], out="a", workers=1)
    assert found.folder == Path("a/only/batch=16")
    assert found.table().endswith("the table has 1 of 2 points (only batch=16)")
    assert found.results.to_pylist() == [row for row in wss.sweep(plan, policies=["base", "ep"], out="a").rows[2:]]
    assert found.links.num_rows == 2 * len(wss.run(small, policies=["base", "ep"]).runs["ep"].links)
    for only in (16, [16], ["batch=17"], ["bach=16"]):
        with pytest.raises(wss.WssError):
            wss.sweep(plan, only=only, out="b")
    assert not Path("b").exists()


def test_a_sweep_of_a_mapping_with_a_policy_of_ones_own(small, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    mine = Policy(name="mine", allocation=Mine(strength=2))
    plan = {"name": "own", "config": str(small), "grid": {"batch": [8, 16]}}
    found = wss.sweep(plan, policies=["base", mine], workers=1)
    assert found.folder == Path("results/own")
    rows = [(row["batch"], row["policy"]) for row in found.rows]
    assert rows == [(8, "base"), (8, "mine"), (16, "base"), (16, "mine")]
    alone = wss.run(small, policies=["base", mine], batch=16)
    assert found.rows[3]["speedup"] == alone.figure("mine", "speedup").value


def test_results_of_a_class_typed_into_a_notebook_are_not_kept(small, tmp_path, monkeypatch):
    """Its source may change without a trace."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(Mine, "__module__", "typed_in")
    done = []
    for _ in range(2):
        policies = ["base", Policy(name="mine", allocation=Mine())]
        wss.sweep({"config": str(small), "grid": {"batch": [8]}}, policies=policies, out="own", workers=1)
        done.append(json.loads(Path("own/sweep.json").read_text())["times"]["tasks_run"])
    assert done == [2, 1], "base is kept, mine is not"


def test_workers_cannot_have_a_class_of_the_script(small, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(Mine, "__module__", "__main__")
    policies = ["base", Policy(name="mine", allocation=Mine())]
    right = "workers: the class Mine is defined in the script itself, which worker processes do not import; put it"
    for call in (
        lambda: wss.run_many([small, wss.load(small, batch=8)], policies=policies, workers=2),
        lambda: wss.sweep({"config": str(small), "grid": {"batch": [8]}}, policies=policies, workers=2),
    ):
        with pytest.raises(wss.WssError) as error:
            call()
        assert error.value.faults[0].startswith(right)


@pytest.mark.slow
def test_a_script_without_a_guard_uses_workers(tmp_path, small):
    script = tmp_path / "script.py"
    script.write_text(
        f"import wss\nprint('once')\nsmall = wss.load({str(small)!r}, policies=['base', 'ep'])\n"
        "results = wss.run_many([wss.load(small, batch=8), small], workers=2)\n"
        "print([result.experiment.batch for result in results])\n"
        "alone = wss.run(small).figure('ep', 'speedup')\n"
        "print(results[1].figure('ep', 'speedup') == alone)\n"
        f"print(wss.sweep({{'config': {str(small)!r}, 'grid': {{'batch': [8, 16]}}}}, out='s', workers=2))\n"
    )
    done = subprocess.run([sys.executable, script], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[:3] == ["once", "[8, 40]", "True"]
    assert done.stderr == ""
