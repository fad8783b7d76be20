"""Each Parquet file that wss writes states its format and version, and docs/reference/schemas.md lists them all."""

import re

import numpy as np
import pyarrow.parquet as pq
import pytest
from kit import ROOT
from kit.runs import SMALL
from kit.sweeps import FEW, do, sweep_file

from wss.config import load
from wss.errors import TraceError
from wss.execution import run
from wss.traces.load_dumps import Loads
from wss.traces.load_parquet import read_parquet, write_loads

PAGE = (ROOT / "docs" / "reference" / "schemas.md").read_text(encoding="utf-8")

LOADS = Loads(name="a", phase="decode", layers=(0,), counts=np.array([[1.0, 2.0]]), top_k=1)


def format_of(path):
    return pq.read_schema(path).metadata[b"format"].decode()


def listed(name):
    """The columns of a format on the page, in order."""
    section = PAGE.partition(f"## `{name}`")[2].partition("\n## ")[0]
    return re.findall(r"^\| `(\w+)` \|", section, re.M)


def test_files_of_a_run(tmp_path):
    config = tmp_path / "small.yaml"
    config.write_text(SMALL, encoding="utf-8")
    folder = run(load(config, ["steps=1", "policies=[base, ep]"])).write(tmp_path / "out")
    for file, name in (("layers", "wss-layers/1"), ("links", "wss-links/1")):
        assert format_of(folder / f"{file}.parquet") == name
        assert listed(name) == pq.read_schema(folder / f"{file}.parquet").names


def test_files_of_a_sweep(tmp_path):
    do(sweep_file(tmp_path, FEW), tmp_path / "out")
    assert format_of(tmp_path / "out" / "results.parquet") == "wss-results/1"
    assert format_of(tmp_path / "out" / "links.parquet") == "wss-sweep-links/1"
    assert "## `wss-results/1`" in PAGE
    assert "## `wss-sweep-links/1`" in PAGE


def test_traces_and_loads(tmp_path):
    (trace,) = (ROOT / "traces").glob("*.parquet")
    assert format_of(trace) == "moe-routing-trace/1"
    assert listed("moe-routing-trace/1") == pq.read_schema(trace).names
    write_loads(tmp_path / "loads.parquet", [LOADS])
    assert format_of(tmp_path / "loads.parquet") == "wss-loads/1"
    assert listed("wss-loads/1") == pq.read_schema(tmp_path / "loads.parquet").names


def test_loads_of_another_version_are_an_error(tmp_path):
    path = tmp_path / "loads.parquet"
    write_loads(path, [LOADS])
    pq.write_table(pq.read_table(path).replace_schema_metadata({"format": "wss-loads/2"}), path)
    with pytest.raises(TraceError, match="in the format wss-loads/2; give one in wss-loads/1"):
        read_parquet(path)
