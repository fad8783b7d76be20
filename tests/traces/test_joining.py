"""Joining traces: what comes after what, labels, halves, and what is refused."""

from dataclasses import replace

import numpy as np
import pytest
from kit import wss
from kit.traces import routing

from wss.errors import TraceError
from wss.traces import TraceReader, write_trace
from wss.traces.merge import join
from wss.traces.schema import Label


@pytest.fixture
def two(meta, tmp_path):
    """Five requests of the subjects x and y in turn, and two of the benchmark other, subject z."""
    labels = tuple(Label(request=number, subject="xy"[number % 2]) for number in range(5))
    first, second = tmp_path / "first.parquet", tmp_path / "second.parquet"
    own = replace(meta, subject="*", requests=labels)
    write_trace(first, own, [routing(meta, number, 1, 2) for number in range(5)])
    other = replace(meta, benchmark="other", subject="z", source="elsewhere")
    write_trace(second, other, [routing(meta, number, 0, 3, seed=1) for number in range(2)])
    return first, second


def read(path):
    """Return metadata, requests, and their labels as text."""
    with TraceReader(path) as reader:
        requests = list(reader.requests())
        labels = [f"{label.benchmark}/{label.subject}" for label in reader.meta.requests]
        assert [label.request for label in reader.meta.requests] == [request.request for request in requests]
        return reader.meta, requests, labels


def test_one_after_another_with_the_names_of_their_workloads(two, meta, tmp_path):
    out = tmp_path / "out.parquet"
    assert join(out, two) == 7
    found, requests, labels = read(out)
    assert labels == ["bench/x", "bench/y", "bench/x", "bench/y", "bench/x", "other/z", "other/z"]
    wanted = [routing(meta, number, 1, 2) for number in range(5)] + [routing(meta, n, 0, 3, seed=1) for n in range(2)]
    for request, own in zip(requests, wanted, strict=True):
        assert np.array_equal(request.experts, own.experts)
        assert request.num_prefill == own.num_prefill
    assert (found.benchmark, found.subject, found.num_requests) == ("*", "*", 7)
    assert found.source == "made for a test; elsewhere"
    assert found.note == "joined from first.parquet, second.parquet; 2 requests renumbered, their numbers being taken"
    again = tmp_path / "again.parquet"
    join(again, [out], only=["other"])
    assert read(again)[2] == ["other/z", "other/z"]
    assert (read(again)[0].benchmark, read(again)[0].subject) == ("other", "z")


def test_halves_part_every_workload(two, tmp_path):
    halves = {}
    for seed in (None, 0, 1, 2, 3):
        parts = []
        for half in ("even", "odd"):
            join(tmp_path / "half.parquet", two[:1], half=half, seed=seed)
            parts.append([request.request for request in read(tmp_path / "half.parquet")[1]])
        assert sorted(parts[0] + parts[1]) == [0, 1, 2, 3, 4]
        assert len({0, 2} & {*parts[0]}) == len({1, 3} & {*parts[0]}) == 1, "one of two requests of each subject"
        halves[seed] = tuple(parts[0])
    assert halves[None] == (0, 3, 4), "the other half begins with the second workload"
    assert len(set(halves.values())) > 2, "seeds draw"


def test_so_many_of_each_file(two, tmp_path):
    join(tmp_path / "out.parquet", two, limit=1)
    assert read(tmp_path / "out.parquet")[2] == ["bench/x", "other/z"]
    join(tmp_path / "out.parquet", two, only=["y", "z"], limit=2)
    assert read(tmp_path / "out.parquet")[2] == ["bench/y", "bench/y", "other/z", "other/z"]
    join(tmp_path / "out.parquet", two, half="even", seed=3, limit=2)
    assert read(tmp_path / "out.parquet")[2] == ["bench/x", "bench/y", "other/z"]
    note = read(tmp_path / "out.parquet")[0].note
    assert note.startswith("joined from first.parquet, second.parquet, the even half of each workload, drawn by seed 3")


def test_what_is_made_up_in_part_is_synthetic(two, meta, tmp_path):
    write_trace(tmp_path / "made.parquet", replace(meta, source="synthetic: by hand"), [routing(meta, 0, 1, 1)])
    join(tmp_path / "out.parquet", [two[0], two[0], tmp_path / "made.parquet"])
    found = read(tmp_path / "out.parquet")[0]
    assert found.synthetic
    assert found.source == "synthetic: by hand; made for a test"
    assert found.note.startswith("joined from first.parquet, made.parquet; ")


def test_what_cannot_be_joined(two, meta, tmp_path):
    write_trace(tmp_path / "odd.parquet", replace(meta, model="org/other"), [routing(meta, 0, 1, 1)])
    with pytest.raises(TraceError, match=r"odd.parquet: is of org/other, and .*first.parquet of org/tiny; join"):
        join(tmp_path / "out.parquet", [two[0], tmp_path / "odd.parquet"])
    other = replace(meta, moe_layers=(*meta.moe_layers[:-1], meta.num_layers), num_layers=meta.num_layers + 1)
    write_trace(tmp_path / "odd.parquet", other, [routing(meta, 0, 1, 1)])
    with pytest.raises(TraceError, match=r"odd.parquet: is of org/tiny, and .*; join traces of one model"):
        join(tmp_path / "out.parquet", [two[0], tmp_path / "odd.parquet"])
    with pytest.raises(TraceError, match="--only w: is not in these traces; known: bench, other, x, y, z"):
        join(tmp_path / "out.parquet", two, only=["w"])
    with pytest.raises(TraceError, match="--half odd: no request is in it; give the other half, or more requests"):
        join(tmp_path / "out.parquet", [tmp_path / "odd.parquet"], half="odd")
    assert not (tmp_path / "out.parquet").exists()


def test_the_command(two, tmp_path):
    out = tmp_path / "out.parquet"
    command = ["trace", "join", *two, "--out", out, "--only", "x"]
    assert wss(*command, "--half", "odd").stdout == f"wrote {out}: 1 requests of 2 files\n"
    assert wss(*command).returncode == 2, "it is there already"
