"""The command line: exit codes, one line a fault, nothing half-written."""

import errno
import json
import os
import subprocess
import sys

import pyarrow.parquet as pq
import pytest
from kit import ROOT
from kit.runs import SMALL

from wss import cli
from wss.traces import writer


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "small.yaml").write_text(SMALL, encoding="utf-8")
    return tmp_path


@pytest.fixture
def wss(monkeypatch, capsys):
    def wss(*arguments):
        monkeypatch.setattr(sys, "argv", ["wss", *map(str, arguments)])
        monkeypatch.setenv("PYTHONSAFEPATH", "1")  # as main does, which would leave it to the tests that follow
        monkeypatch.setattr("wss.compile_cache.is_cold", lambda: False)  # which is announced on stderr
        with pytest.raises(SystemExit) as done:
            cli.main()
        printed = capsys.readouterr()
        return done.value.code, printed.out, printed.err

    return wss


def test_run_prints_a_table_and_writes_a_folder(wss, folder):
    code, out, err = wss("run", "small.yaml")
    assert (code, err) == (0, "")
    for part in ("all 3 MoE layers of 3 decode steps", "SYNTHETIC", "speedup", "x bound", "allo_pred", "results/0001/"):
        assert part in out
    assert sorted(p.name for p in (folder / "results" / "0001").iterdir()) == [
        "layers.parquet",
        "links.parquet",
        "summary.json",
    ]
    assert (
        wss("run", "small.yaml")[1]
        .rstrip()
        .endswith("wrote results/0002/: summary.json, layers.parquet, links.parquet")
    )


def test_json_prints_the_summary_and_nothing_else(wss, folder):
    code, out, err = wss("run", "small.yaml", "--json", "--out", "r")
    assert (code, err) == (0, "")
    assert out == (folder / "r" / "summary.json").read_text()
    assert json.loads(out)["schema"] == "wss-summary/2"


def test_an_existing_result_is_kept_without_force_and_replaced_with_it(wss, folder):
    assert wss("run", "small.yaml", "--out", "r")[0] == 0
    before = (folder / "r" / "summary.json").read_text()
    code, out, err = wss("run", "small.yaml", "--out", "r", "--set", "steps=1")
    assert (code, out) == (2, "")
    assert err == "r: exists; give another --out, or --force to replace it\n"
    assert (folder / "r" / "summary.json").read_text() == before
    assert wss("run", "small.yaml", "--out", "r", "--set", "steps=1", "--force")[0] == 0
    assert json.loads((folder / "r" / "summary.json").read_text())["runs"][0]["steps_run"] == 1
    assert [p.name for p in folder.iterdir() if p.name.startswith(".")] == []


def test_force_does_not_replace_what_is_no_result(wss, folder):
    (folder / "thesis").mkdir()
    (folder / "thesis" / "chapter1").write_text("precious")
    (folder / "thesis" / "summary.json").write_text("{}")
    code, _, err = wss("run", "small.yaml", "--out", "thesis", "--force")
    assert (code, err.count("\n")) == (2, 1)
    assert (folder / "thesis" / "chapter1").read_text() == "precious"


def interrupt(*_):
    raise KeyboardInterrupt


def test_ctrl_c_leaves_no_result(wss, folder, monkeypatch):
    monkeypatch.setattr(cli.Bars, "__call__", interrupt)
    code, out, err = wss("run", "small.yaml", "--out", "r")
    assert (code, out, err.strip()) == (130, "", "interrupted; nothing is half-written")
    assert sorted(p.name for p in folder.iterdir()) == ["small.yaml"]


def test_ctrl_c_while_writing_leaves_no_result(wss, folder, monkeypatch):
    monkeypatch.setattr(pq, "write_table", interrupt)
    assert wss("run", "small.yaml", "--out", "r")[0] == 130
    assert sorted(p.name for p in folder.iterdir()) == ["small.yaml"]


def test_ctrl_c_leaves_no_trace_file(wss, folder, monkeypatch):
    monkeypatch.setattr(cli.Bars, "__call__", interrupt)
    assert wss("trace", "synth", "gpt_oss_20b", "--requests", 3, "--out", "t.parquet")[0] == 130
    assert sorted(p.name for p in folder.iterdir()) == ["small.yaml"]


def full_disk(*_, **__):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_a_full_disk_leaves_no_result_and_says_so(wss, folder, monkeypatch):
    monkeypatch.setattr(pq, "write_table", full_disk)
    code, out, err = wss("run", "small.yaml", "--out", "r")
    assert (code, out) == (2, "")
    assert err == "r: cannot be written (No space left on device); give an --out with room where you may write\n"
    assert sorted(p.name for p in folder.iterdir()) == ["small.yaml"]


def test_a_full_disk_keeps_the_old_trace(wss, folder, monkeypatch):
    assert wss("trace", "synth", "gpt_oss_20b", "--requests", 2, "--out", "t.parquet")[0] == 0
    old = (folder / "t.parquet").read_bytes()
    monkeypatch.setattr(writer.pq.ParquetWriter, "write_table", full_disk)
    code, _, err = wss("trace", "synth", "gpt_oss_20b", "--requests", 3, "--out", "t.parquet", "--force")
    assert (code, err.count("\n")) == (2, 1)
    assert "No space left" in err
    assert (folder / "t.parquet").read_bytes() == old
    assert sorted(p.name for p in folder.iterdir()) == ["small.yaml", "t.parquet"]


@pytest.mark.slow
def test_a_file_size_limit_of_the_system_is_met_cleanly(folder):
    """The real thing, in a process of its own: no file may grow beyond 1 KiB."""
    program = (
        "import resource, sys; from wss import cli\n"
        "sys.argv = ['wss', 'trace', 'synth', 'gpt_oss_20b', '--requests', '2', '--out', 'compiles.parquet']\n"
        "try: cli.main()\n"
        "except SystemExit: resource.setrlimit(resource.RLIMIT_FSIZE, (1024, 1024))\n"
        "sys.argv = ['wss', 'trace', 'synth', 'gpt_oss_20b', '--requests', '50', '--out', 't.parquet']\n"
        "cli.main()"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr.startswith("t.parquet: cannot be written (")
    assert done.stderr.count("\n") == 1
    assert not list(folder.glob("*t.parquet*"))


BAD_COMMANDS = {
    "no such command": (["rum"], "no such command 'rum'; did you mean 'run'?"),
    "no such trace command": (["trace", "shw"], "no such command 'shw'; did you mean 'show'?"),
    "no config": (["run"], "Missing argument 'CONFIG'"),
    "no such option": (["run", "small.yaml", "--otu", "x"], "No such option '--otu'"),
    "no such config": (["run", "no.yaml"], "no.yaml: there is no such file"),
    "a bad setting": (["run", "small.yaml", "--set", "batch=many"], "--set batch=many: batch: 'many'"),
    "out below a file": (["run", "small.yaml", "--out", "small.yaml/x"], "is not a folder"),
    "out a file": (["run", "small.yaml", "--out", "small.yaml", "--force"], "is not just a result folder"),
    "out that may not be": (["run", "small.yaml", "--out", "/proc/x"], "/proc"),
    "a trace that is not there": (
        ["run", "small.yaml", "--set", "trace.path=no.parquet"],
        "no.parquet: does not exist",
    ),
    "a trace that is a folder": (["run", "small.yaml", "--set", "trace.path=."], "is not a file"),
    "a trace that is no Parquet": (["run", "small.yaml", "--set", "trace.path=small.yaml"], "small.yaml: is not"),
    "show what is not there": (["trace", "show", "no.parquet"], "no.parquet: does not exist"),
    "import what is not there": (["trace", "import", "no", "--out", "t.parquet"], "no: there is no such file"),
    "import nothing": (["trace", "import", "empty", "--out", "t.parquet"], "holds no <n>.json"),
    "import without a known model": (["trace", "import", "some", "--out", "t.parquet"], "give --model"),
    "import as an unknown model": (["trace", "import", "some", "--out", "t.parquet", "--model", "x"], "--model x"),
    "import over a file": (["trace", "import", "some", "--out", "small.yaml"], "small.yaml: exists"),
    "synth of an unknown model": (["trace", "synth", "gpt", "--out", "t.parquet"], "gpt: is not a known model"),
    "synth from an unknown preset": (["trace", "synth", "kimi_k2", "--preset", "x", "--out", "t"], "'x' is not known"),
    "synth with a bad parameter": (["trace", "synth", "kimi_k2", "--set", "skew=-1", "--out", "t"], "-1 is not right"),
    "synth with an unknown parameter": (["trace", "synth", "kimi_k2", "--set", "skw=1", "--out", "t"], "did you mean"),
    "synth of no requests": (["trace", "synth", "kimi_k2", "--requests", "0", "--out", "t"], "'--requests'"),
    "synth of two counts": (
        ["trace", "synth", "kimi_k2", "--requests", "10", "--set", "requests=20", "--out", "t"],
        "--set requests=20: contradicts --requests 10; give one of the two",
    ),
    "synth of two lengths": (
        ["trace", "synth", "kimi_k2", "--decode-tokens", "3", "--set", "decode_tokens=20", "--out", "t"],
        "--set decode_tokens=20: contradicts --decode-tokens 3",
    ),
    "synth like a file and by a preset": (
        ["trace", "synth", "kimi_k2", "--like", "a.parquet", "--preset", "kimi_k2", "--out", "t"],
        "--preset kimi_k2: the parameters are fitted to a.parquet; give --preset or --like",
    ),
    "join by a seed without halves": (
        ["trace", "join", "a.parquet", "--out", "t", "--seed", "5"],
        "--seed 5: draws which half is even, and no half is taken; give --half",
    ),
    "synth into no folder": (["trace", "synth", "kimi_k2", "--out", "no/t.parquet"], "its folder does not exist"),
    "synth into a folder": (["trace", "synth", "kimi_k2", "--out", "empty"], "empty: is a folder"),
}


@pytest.mark.parametrize("case", sorted(BAD_COMMANDS))
def test_a_mistake_ends_with_code_2_one_line_and_nothing_written(wss, folder, case):
    (folder / "empty").mkdir()
    (folder / "some").mkdir()
    (folder / "some" / "0.json").write_text('[{"0": [[1]]}]')
    before = sorted(folder.rglob("*"))
    arguments, expected = BAD_COMMANDS[case]
    code, out, err = wss(*arguments)
    assert (code, out) == (2, "")
    assert expected in err
    assert err.count("\n") == 1
    assert "Traceback" not in err
    assert sorted(folder.rglob("*")) == before


def test_capacity_is_refused_before_anything_is_made(wss, folder):
    config = ROOT / "configs" / "kimi_k2.yaml"
    code, out, err = wss("run", config, "--set", "precision=fp16")
    assert (code, out) == (2, "")
    assert "GB more than the usable 72 GB of its HBM" in err
    assert sorted(p.name for p in folder.iterdir()) == ["small.yaml"]


def test_a_drift_after_the_end_of_decode_is_noted(wss, folder):
    made = ["trace", "synth", "gpt_oss_20b", "--requests", 3, "--decode-tokens", 4, "--force", "--out", "t.parquet"]
    for drift_at, said in ((5, "note: drift_at is 5, and decode ends with step 4: nothing drifts\n"), (4, "")):
        code, _, err = wss(*made, "--set", f"drift_at={drift_at}", "--quiet", "--set", "requests=3")
        assert (code, err) == (0, said)


def test_synth_and_show(wss, folder):
    code, out, _ = wss("trace", "synth", "gpt_oss_20b", "--requests", 20, "--decode-tokens", 3, "--out", "t.parquet")
    assert (code, out) == (0, "wrote t.parquet: 20 SYNTHETIC requests of openai/gpt-oss-20b\n")
    code, out, _ = wss("trace", "show", "t.parquet")
    assert code == 0
    assert "(SYNTHETIC)" in out
    assert "decode: 60 tokens, a request 3 to 3" in out
    found = json.loads(wss("trace", "show", "t.parquet", "--json")[1])
    assert (found["num_requests"], found["synthetic"], len(found["layers"])) == (20, True, 24)


def test_list_names_presets_and_policies(wss):
    code, out, _ = wss("list")
    assert code == 0
    for name in ("deepseek_v3", "tsmc_sow", "allo_pred", "algorithm1", "token_heatmap", "lru", "fluid", "ideal"):
        assert name in out


def test_schema_is_json(wss):
    code, out, _ = wss("schema")
    assert code == 0
    assert json.loads(out)["title"] == "wss experiment"


def test_help_and_version(wss):
    assert wss("--help")[0] == 0
    assert "trace" in wss("-h")[1]
    assert wss("--version")[1].startswith("wss")


@pytest.mark.parametrize("arguments", [[], [128, 2112, 7168], ["--rows", "rows.json"], ["x", "--wafer", "dojo"]])
def test_gemm_names_the_commands_that_replaced_it(wss, arguments):
    code, out, err = wss("gemm", *arguments)
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert "`wss kernels time dense M N K`" in err
    assert "`wss kernels check FILE`" in err


def test_flows_prints_a_table_or_json(wss, folder):
    content = {
        "topology": {"x": 2, "y": 1},
        "link_bandwidth_Bps": 1e12,
        "hop_latency_s": 1e-7,
        "flows": [{"id": 0, "src": [0, 0], "dst": [1, 0], "bytes": 4e6, "start_s": 0}],
    }
    (folder / "s.json").write_text(json.dumps(content))
    assert "all done at 4.1 us" in wss("flows", "s.json")[1]
    result = json.loads(wss("flows", "s.json", "--network", "packet", "--chunk", "1MB", "--json")[1])
    assert result["flows"] == [{"id": 0, "finish_s": pytest.approx(4.1e-6)}]
    assert result["settings"]["chunk_bytes"] == 1e6
    for arguments in (["--chunk", "1"], ["--chunk", "0 B"], ["--window", "0"], ["--network", "ring"]):
        code, out, err = wss("flows", "s.json", *arguments)
        assert (code, out, err.count("\n")) == (2, "", 1)


def test_force_follows_no_links(wss, folder):
    assert wss("run", "small.yaml", "--out", "r")[0] == 0
    (folder / "link").symlink_to("r")
    (folder / "t.parquet").symlink_to("elsewhere")
    before = sorted(folder.rglob("*"))
    for arguments in (
        ["run", "small.yaml", "--out", "link", "--force"],
        ["run", "small.yaml", "--out", ".", "--force"],
        ["trace", "synth", "gpt_oss_20b", "--out", "t.parquet", "--force"],
    ):
        code, out, err = wss(*arguments)
        assert (code, out, err.count("\n")) == (2, "", 1)
    assert sorted(folder.rglob("*")) == before


@pytest.mark.slow
def test_a_run_that_is_terminated_leaves_nothing(folder):
    program = (
        "import os, signal, sys; from wss import cli; from wss.__main__ import main\n"
        "cli.Bars.__call__ = lambda *_: os.kill(os.getpid(), signal.SIGTERM)\n"
        "sys.argv = ['wss', 'trace', 'synth', 'gpt_oss_20b', '--requests', '9', '--out', 't.parquet']; main()"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (143, "")
    assert sorted(p.name for p in folder.iterdir()) == ["small.yaml"]


@pytest.mark.slow
def test_a_run_that_is_terminated_as_a_policy_is_asked_ends(folder):
    (folder / "ends.py").write_text(
        "import os, signal; from dataclasses import dataclass; from wss.policies import Allocation\n"
        "@dataclass(frozen=True, kw_only=True)\n"
        "class Ends(Allocation):\n"
        "    def allocate(self, view): os.kill(os.getpid(), signal.SIGTERM)\n"
    )
    policies = "policies=[{name: x, allocation: 'ends:Ends'}, ep]"
    command = [
        sys.executable,
        "-m",
        "wss",
        "run",
        "small.yaml",
        "--out",
        "r",
        "--set",
        policies,
        "--set",
        "baseline=ep",
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (143, ""), done.stderr
    assert not (folder / "r").exists()


def test_an_old_spelling_is_read_with_one_note():
    """In a process of its own, as here a warning is an error."""
    command = [sys.executable, "-m", "wss", "run", str(ROOT / "configs" / "qwen3_235b.yaml"), "--dry-run"]
    done = subprocess.run([*command, "--set", "physics=paper_artifact"], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "note: physics: paper_artifact is the old spelling of paper\n")


@pytest.mark.slow
def test_stdout_that_is_full_does_not_hide_where_the_result_is(folder):
    with open("/dev/full", "w") as full:
        command = [sys.executable, "-m", "wss", "run", "small.yaml", "--out", "r"]
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr == "stdout: cannot be written (No space left on device); the result is in r/\n"
    assert (folder / "r" / "summary.json").exists()


def test_a_layout_is_written_whole_or_not_at_all(wss, folder):
    code, out, err = wss("placement", "small.yaml", "--policy", "eplb", "--out", "layout.json")
    assert (code, out) == (0, "wrote layout.json: 3 MoE layers, 12 experts on 6 dies, 3 slots a die and layer\n")
    assert err.startswith("note: eplb: an expert has 1.")
    written = (folder / "layout.json").read_text()
    assert wss("placement", "small.yaml", "--policy", "eplb")[1] == written
    assert wss("placement", "small.yaml", "--policy", "ep", "--out", "layout.json")[0] == 2
    assert (folder / "layout.json").read_text() == written
    assert wss("placement", "small.yaml", "--policy", "ep", "--out", "layout.json", "--force")[0] == 0
    assert (folder / "layout.json").read_text() != written
    code, out, err = wss("placement", "small.yaml", "--policy", "epl")
    assert (code, out, err) == (2, "", "--policy epl: is not a policy here; did you mean 'eplb'?\n")
    policy = "policies=[base, {name: f, placement: {kind: file, path: none.json}, allocation: even}]"
    code, out, err = wss("run", "small.yaml", "--set", policy)
    assert (code, out, len(err.splitlines())) == (2, "", 1)
    assert err.startswith("none.json: is no file; ")
