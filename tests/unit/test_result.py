"""The result of a run as an object: figures by name, tables of layer runs and links, one schema of links."""

import pyarrow.parquet as pq
import pytest
from kit.runs import SMALL
from kit.sweeps import FEW, do, sweep_file

from wss.config import load
from wss.execution import run
from wss.execution.provenance import host
from wss.report.tables import LINKS


@pytest.fixture(scope="module")
def result(tmp_path_factory):
    path = tmp_path_factory.mktemp("result") / "small.yaml"
    path.write_text(SMALL.replace("[base, ep, pred, allo, allo_pred]", "[pred, base, ep]"), encoding="utf-8")
    return run(load(path, ["baseline=base"]))


def test_policies_are_in_the_order_of_the_configuration(result):
    assert list(result.runs) == ["pred", "base", "ep"]
    assert [row["policy"] for row in result.to_dict()["runs"]] == ["base", "ep", "pred"]
    rows = result.table().split("-----\n")[1].split("\n\n")[0]
    assert [line.split()[0] for line in rows.splitlines()] == ["pred", "base", "ep"]


def test_a_figure_is_that_of_the_summary(result):
    for row in result.to_dict()["runs"]:
        for name, value in row.items():
            assert result.figure(row["policy"], name).value == value
            assert result.figure(row["policy"], name).low is None
    with pytest.raises(KeyError):
        result.figure("ep", "speed")


def test_layers_and_links_of_a_policy_are_its_rows_in_the_files(result, tmp_path):
    folder = result.write(tmp_path / "out")
    for name in ("layers", "links"):
        rows = pq.read_table(folder / f"{name}.parquet").to_pylist()
        for policy, own in result.runs.items():
            assert getattr(own, name).to_pylist() == [row for row in rows if row["policy"] == policy]


def test_a_run_and_a_sweep_have_the_same_columns_of_links(result, tmp_path):
    do(sweep_file(tmp_path, FEW), tmp_path / "out")
    swept, ran = pq.read_schema(tmp_path / "out" / "links.parquet"), result.runs["ep"].links.schema
    assert swept.names == ["batch", "seed", "policy", *LINKS]
    assert ran.names == ["policy", *LINKS, "seed"]
    assert all(swept.field(name).type == ran.field(name).type for name in LINKS)


def test_ends_of_links_are_dies_and_their_coordinates(result):
    for link in result.runs["ep"].links.to_pylist():
        ends = tuple(f"({link[f'{end}_x']},{link[f'{end}_y']})" for end in ("source", "target"))
        assert link["link"] == "->".join(ends)
        coordinates = result.wafer.coordinates[[link["source_die"], link["target_die"]]].tolist()
        assert coordinates == [[link[f"{end}_{c}"] for c in "xy"] for end in ("source", "target")]


def test_host_is_the_only_block_of_versions(result):
    assert result.provenance["host"] == host()
