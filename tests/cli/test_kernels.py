"""The commands of `wss kernels`."""

import json

import pytest
from kit import wss
from kit.kernels import TABLES, changed, save


def test_check_prints_a_table_or_json(tmp_path):
    path = save(tmp_path / "k.parquet", TABLES["gemm"])
    done = wss("kernels", "check", path)
    assert (done.returncode, done.stderr) == (0, "")
    assert "precision framework rows mean p90 worst bias" in " ".join(done.stdout.split())
    assert "device: H100-SXM, by the column gpu" in done.stdout
    found = json.loads(wss("kernels", "check", path, "--json").stdout)
    assert (found["table"], len(found["each"]), found["all"]["rows"]) == ("gemm", 3, 3)


def test_text_from_a_file_cannot_move_the_cursor(tmp_path):
    path = save(tmp_path / "k.csv", changed(TABLES["gemm"], framework="\x1b[2Jx", precision="fp8\x07"))
    for words in ((), ("--json",)):
        done = wss("kernels", "check", path, *words)
        assert done.returncode == 0
        assert "\x1b" not in done.stdout + done.stderr
        assert "\x07" not in done.stdout + done.stderr


@pytest.mark.parametrize(
    ("table", "words", "lines"),
    [
        (changed(TABLES["gemm"], time_us=-1.0, m=0), [], 2),
        ({"m": [1], "n": [1]}, [], 3),
        (TABLES["gemm"], ["--gpu", "H999"], 1),
        (TABLES["gemm"], ["--gpu", "B200-SXM"], 1),
    ],
)
def test_a_bad_file_ends_with_a_line_per_fault(tmp_path, table, words, lines):
    done = wss("kernels", "check", save(tmp_path / "k.parquet", table), *words)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", lines)


def test_time_prints_a_line_or_json():
    done = wss("kernels", "time", "dense", 128, 2112, 7168, "--gpu", "h200")
    assert done.returncode == 0
    assert done.stdout.endswith(" us (dense, cublas_bf16, H200-SXM)\n")
    found = json.loads(wss("kernels", "time", "dense", 128, 2112, 7168, "--set", "deepgemm", "--json").stdout)
    assert (found["parameters"], found["device"]) == ("deepgemm", "H100-SXM")
    assert found["sizes"] == {"M": 128, "N": 2112, "K": 7168}


def test_time_lists_the_kinds_of_calls():
    done = wss("kernels", "time")
    assert done.returncode == 0
    assert "dense M N K" in done.stdout
    assert max(map(len, done.stdout.splitlines())) <= 100


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["dense", 1, 2], "dense: give M N K; 2 sizes are given"),
        (["dense", 1, 2, 3, "--gpu", "H1"], "--gpu 'H1' is not a known GPU"),
        (["dense", 1, 2, 3, "--wafer", "dojoo"], "did you mean 'dojo'?"),
        (["dense", 1, 2, 3, "--gpu", "A100-SXM", "--set", "deepgemm"], "A100-SXM: no FLOP/s in 'fp8'"),
        (["tensor", 1], "'tensor' is not a kind of kernel"),
    ],
)
def test_time_refuses_in_one_line(words, expected):
    done = wss("kernels", "time", *words)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)
    assert expected in done.stderr
