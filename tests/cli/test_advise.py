"""`wss advise` and `wss placement check`, as the docs use them: from a dump to a layout, its check and the flags."""

import json
import re
import shlex

import numpy as np
import pytest
from click.testing import CliRunner
from kit import ROOT
from kit.trace_files import save_pt

from wss.cli import cli
from wss.errors import WssError

MODEL = """\
name: tiny
num_layers: 5
moe_layers: [1, 2, 3, 4]
num_experts: 16
top_k: 2
hidden_size: 512
moe_intermediate_size: 512
"""
HOT = [14, 14, 8, 8] + [1] * 12


@pytest.fixture
def wss(tmp_path, monkeypatch):
    """Return what a command prints, and its exit code, in a folder with a dump of SGLang and its model."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "tiny.yaml").write_text(MODEL)
    np.save(tmp_path / "table.npy", np.array([HOT] * 4))
    counts = np.array([[[0] * 16] + [HOT] * 4] * 6, np.int32)
    save_pt(tmp_path / "dump.pt", {"rank": 0, "logical_count": counts})

    def run(line):
        done = CliRunner().invoke(cli, shlex.split(line))
        if isinstance(done.exception, WssError):
            return list(done.exception.faults), 2
        assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
        return (done.stdout if done.exit_code == 0 else done.stderr).splitlines(), done.exit_code

    return run


ADVISE = "advise dump.pt --model tiny.yaml --batch 256 --steps 2 --redundant 0,1"


def test_from_a_dump_to_a_layout_and_the_flags(wss, tmp_path):
    lines, code = wss(f"{ADVISE} --out layout.json")
    assert code == 0
    assert max(map(len, lines)) <= 100
    text = "\n".join(lines)
    assert "made from the first 3 of 6 passes of dump.pt and judged on the other 3" in text
    assert len([line for line in lines if line.startswith("* ")]) == 1
    assert re.search(r"^wrote layout.json: 4 MoE layers, 16 experts on 8 dies", text, re.M)
    assert "--init-expert-location layout.json" in text
    (slots,) = {len(row) for row in json.loads((tmp_path / "layout.json").read_text())["physical_to_logical_map"]}
    redundant = re.search(r"--ep-num-redundant-experts (\d+)", text)
    assert slots - 16 == (int(redundant[1]) if redundant else 0)
    lines, code = wss("placement check layout.json dump.pt --gpus 8 --model tiny.yaml")
    assert code == 0
    exact = float(re.match(r"balancedness ([\d.]+) on 8 GPUs: .*over 4 layers and 6 passes$", lines[0])[1])
    assert exact > 0.45  # 0.25 in order
    assert lines[-1] == "mean, min: over the passes; a dump that is one table counts as one pass."
    assert wss(f"{ADVISE} --out layout.json") == (
        ["layout.json: exists; give another --out, or --force to replace it"],
        2,
    )


def test_json_has_what_the_table_has(wss):
    lines, code = wss(f"{ADVISE} --json --engine vllm")
    assert code == 0
    advice = json.loads("\n".join(lines))
    assert advice["schema"] == "wss-advice/1"
    assert [row["name"] for row in advice["layouts"] if row["gain"] == 1.0] == ["contiguous"]
    assert advice["best"] in {row["name"] for row in advice["layouts"]}
    assert advice["start"].startswith("vllm serve MODEL --enable-expert-parallel")


def test_check_prints_layers_or_json(wss, tmp_path):
    (tmp_path / "l.json").write_text(json.dumps({"physical_to_logical_map": [list(range(16))] * 5}))
    lines, _ = wss("placement check l.json dump.pt --gpus 8")
    assert lines[0].startswith("balancedness 0.250 on 8 GPUs")
    lines, _ = wss("placement check l.json dump.pt --gpus 8 --json")
    found = json.loads("\n".join(lines))
    assert found["balancedness"] == 0.25
    assert [row["layer"] for row in found["layers"]] == [1, 2, 3, 4]


def test_check_takes_a_trace(wss, tmp_path):
    (tmp_path / "l.json").write_text(json.dumps({"physical_to_logical_map": [list(range(32))] * 24}))
    lines, code = wss(f"placement check l.json {ROOT}/traces/gpt_oss_20b_synthetic.parquet --gpus 8")
    assert code == 0
    assert "24 layers" in lines[0]


def test_writing_a_placement_needs_no_name_of_a_command(wss, tmp_path):
    (tmp_path / "small.yaml").write_text(
        "model: tiny.yaml\nwafer: {preset: dojo, mesh: [2, 2]}\ntrace: {synth: {requests: 8}}\nbatch: 8\n"
        "policies: [base, ep]\n"
    )
    written = wss("placement write small.yaml --policy ep")
    assert written[1] == 0
    assert wss("placement small.yaml --policy ep") == wss("placement --policy ep small.yaml") == written
    assert wss("placement")[1] == 2


DOCS = (ROOT / "docs" / "advise.md").read_text(encoding="utf-8")


def documented():
    """The commands of docs/advise.md."""
    found = re.findall(r"^python -m wss (.*)$", DOCS, re.M)
    assert len(found) == 2
    return found


def test_the_commands_of_the_docs_work(wss, tmp_path):
    (tmp_path / "traces").symlink_to(ROOT / "traces")
    for line in documented():
        small = " --batch 64 --steps 1 --layers 4 --redundant 1" if line.startswith("advise") else ""
        assert wss(line + small)[1] == 0, line


@pytest.mark.slow
def test_the_docs_show_what_the_command_prints(wss, tmp_path):
    (tmp_path / "traces").symlink_to(ROOT / "traces")
    (shown,) = re.findall(r"```text\n(.*?)\n```", DOCS, re.S)
    assert "\n".join(wss(documented()[0])[0]) == shown


def test_the_python_of_the_docs_works(wss, tmp_path):
    (code,) = re.findall(r"```python\n(.*?)```", DOCS, re.S)
    for ours, mine in (("deepseek_v3", "tiny.yaml"), ("nodes=4", "nodes=1"), ("batch=4096", "batch=64")):
        assert ours in code
        code = code.replace(ours, mine)
    exec(compile(code, "docs/advise.md", "exec"), {})
    assert (tmp_path / "layout.json").is_file()


@pytest.mark.parametrize(
    ("line", "said"),
    [
        (f"{ADVISE} --nodes 0", "wss advise: --nodes: 0 is not right"),
        (f"{ADVISE} --redundant 1;2", "'1;2' is not a list of integers"),
        ("advise dump.pt", "Missing option '--model'"),
        ("advise none.pt --model tiny.yaml", "none.pt: there is no such file"),
        ("advise dump.pt --model qwen3_235b", "dump.pt: dump: has loads of 16 experts a layer, the model has 128"),
        ("advise table.npy --model tiny.yaml --only two", "table.npy: has no dump 'two'; known: table"),
        (
            "advise tiny.yaml --model tiny.yaml",
            "tiny.yaml: is of no known format; give `wss trace import` its --format: paper, sglang, vllm",
        ),
        (f"{ADVISE} --out nowhere/l.json", "its folder does not exist"),
        ("placement check dump.pt dump.pt --gpus 8", "holds expert loads, not a layout"),
        ("placement check none.json dump.pt --gpus 8", "none.json"),
        ("placement check l.json dump.pt", "Missing option '--gpus'"),
    ],
)
def test_bad_input_is_one_line(wss, line, said):
    lines, code = wss(line)
    assert code == 2
    assert said in lines[-1]
