"""Files that others wrote: no pipe is waited for, no device read for ever, and nothing unpacks beyond its file."""

import ast
import io
import json
import os
import pickle
import resource
import zipfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from fuzz_judge import run
from kit.trace_files import save_pt

import wss
from wss import host_memory as memory
from wss.config import document as nodes
from wss.errors import CapacityError, ConfigError, TraceError
from wss.files import parse_json
from wss.reading import DEEPEST, check_values, open_plain, read_plain
from wss.traces.content import read_content
from wss.traces.importers.arrays import load_arrays
from wss.traces.parquet import read_table
from wss.traces.reader import TraceReader

TINY = {
    **{"name": "tiny", "num_layers": 2, "moe_layers": [0, 1], "num_experts": 4, "top_k": 2},
    **{"hidden_size": 16, "moe_intermediate_size": 16},
}
CONFIG = {
    **{"model": TINY, "wafer": {"preset": "dojo", "mesh": [2, 2]}, "batch": 4, "steps": 1, "gemm": "ideal"},
    **{"trace": {"synth": {"decode_tokens": 2}}, "policies": ["base"]},
}


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def refused(*argv):
    """The one line with which wss refuses *argv*."""
    ended = run(argv)
    assert (ended.code, ended.raised, ended.out) == (2, "", "")
    (line,) = ended.err.splitlines()
    return line


def config_with(here, **changes):
    (here / "c.yaml").write_text(json.dumps({**CONFIG, **changes}))
    return "c.yaml"


READS = {
    "a configuration": lambda name: ["run", name],
    "a sweep": lambda name: ["sweep", name],
    "a scenario": lambda name: ["flows", name],
    "measurements": lambda name: ["kernels", "check", name],
    "a trace": lambda name: ["trace", "show", name],
    "loads": lambda name: ["trace", "stats", name],
    "a recording": lambda name: ["trace", "import", name, "--format", "jsonl", "--out", "o", "--experts", "4"],
    "a model": lambda name: ["trace", "synth", f"./{name}", "--preset", "qwen3_235b", "--out", "o"],
    "results": lambda name: ["report", name],
}


@pytest.mark.parametrize("kind", ["pipe", "device"])
@pytest.mark.parametrize("read", READS)
def test_no_command_waits_for_a_pipe_or_reads_a_device(read, kind, here):
    if kind == "pipe":
        os.mkfifo("it.json")
    else:
        os.symlink("/dev/zero", "it.json")
    assert "it.json" in refused(*READS[read]("it.json"))


USES = {
    "layout": {"policies": [{"name": "base", "placement": {"kind": "file", "path": "it"}, "allocation": "even"}]},
    "history": {"policies": [{"name": "base", "preset": "eplb", "history": {"path": "it"}}]},
    "loads": {"trace": {"synth": {"decode_tokens": 2, "loads": "it", "workload": "it"}}},
    "trace": {"trace": {"path": "it"}},
    "model": {"model": "./it"},
}


@pytest.mark.parametrize("use", USES)
def test_a_pipe_that_a_configuration_names_is_refused(use, here):
    os.mkfifo("it")
    assert "it is not a file but a folder, a pipe or a device" in refused("run", config_with(here, **USES[use]))


def test_a_file_is_no_larger_than_is_said(tmp_path):
    file = tmp_path / "file"
    file.write_bytes(b"12345")
    assert read_plain(file, 5) == b"12345"
    with pytest.raises(OSError, match="larger than 4 bytes"):
        read_plain(file, 4)
    with pytest.raises(FileNotFoundError):
        open_plain(tmp_path / "a\0b")
    os.mkfifo(tmp_path / "pipe")
    for other in (tmp_path / "pipe", Path("/dev/zero"), tmp_path):
        with pytest.raises(OSError, match="it is not a file but a folder, a pipe or a device"):
            open_plain(other)


def test_values_are_counted_wherever_they_stand():
    bomb = [0] * 10
    for _ in range(20):
        bomb = [bomb] * 10
    with pytest.raises(ValueError, match="more values than its size can hold"):
        check_values(bomb, 10**6)
    check_values([[1, 2], [3]], 5)


@pytest.mark.parametrize("opening", ["[", '{"a":'])
def test_json_is_not_deeper_than_anything_could_mean(opening):
    closing = {"[": "]", '{"a":': "}"}[opening]
    assert parse_json(opening * (DEEPEST - 1) + "1" + closing * (DEEPEST - 1)) is not None
    for depth in (DEEPEST + 3, 900, 100_000):
        with pytest.raises(ValueError, match="nested too deep"):
            parse_json(opening * depth + "1" + closing * depth)


def npy(header: str, body: bytes = b"") -> bytes:
    """A .npy file that begins with *header*."""
    return b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header.encode() + body


CLAIMS = npy("{'descr': '<i8', 'fortran_order': False, 'shape': (1000000000, 8), }\n", bytes(64))


def zipped(**members: bytes) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return out.getvalue()


def array(*shape: int) -> bytes:
    out = io.BytesIO()
    np.save(out, np.zeros(shape))
    return out.getvalue()


def grown(monkeypatch, bound):
    """Let archives unpack to *bound* bytes alone."""
    monkeypatch.setattr("wss.traces.importers.unpacked.MOST_UNPACKED", bound)


def test_an_array_is_not_larger_than_its_file(tmp_path):
    (tmp_path / "a.npy").write_bytes(CLAIMS)
    (tmp_path / "a.npz").write_bytes(zipped(**{"a.npy": CLAIMS}))
    for name in ("a.npy", "a.npz"):
        with pytest.raises(TraceError, match="takes 64000000000 bytes, and 64 are there"):
            load_arrays(tmp_path / name)


def test_an_archive_unpacks_to_a_size_that_is_bounded(tmp_path, monkeypatch):
    grown(monkeypatch, 100_000)
    (tmp_path / "small.npz").write_bytes(zipped(**{"a.npy": array(1000)}))
    (tmp_path / "large.npz").write_bytes(zipped(**{"a.npy": array(100_000)}))
    assert load_arrays(tmp_path / "small.npz")["a"].shape == (1000,)
    with pytest.raises(TraceError, match="unpacks to 800128 bytes, 100000 at most"):
        load_arrays(tmp_path / "large.npz")


@pytest.mark.parametrize("content", [b"no array", b"", array(3)[:20], npy("{'descr': '|O'}\n"), npy("x" * 99)])
def test_a_member_that_is_no_array_is_refused(content, tmp_path):
    file = tmp_path / "a.npz"
    file.write_bytes(zipped(**{"prompt_routed_experts.npy": content, "routed_experts.npy": array(3, 2, 2)}))
    for read in (load_arrays, read_content):
        with pytest.raises(TraceError, match="is not a whole numpy file"):
            read(file)


def test_a_tensor_that_repeats_one_number_takes_its_whole_size(tmp_path, monkeypatch):
    file = save_pt(tmp_path / "a.pt", [np.zeros((2, 3))])
    with zipfile.ZipFile(file) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    sizes = pickle.dumps((2, 3), 2)[2:-3], pickle.dumps((3, 1), 2)[2:-3]  # as they stand within the pickle
    large, still = pickle.dumps((20_000, 50_000), 2)[2:-3], pickle.dumps((0, 0), 2)[2:-3]
    text = members["archive/data.pkl"]
    assert sizes[0] in text
    assert sizes[1] in text
    members["archive/data.pkl"] = text.replace(sizes[0], large).replace(sizes[1], still)
    file.write_bytes(zipped(**members))
    with pytest.raises(TraceError, match="takes more than the file can hold"):
        load_arrays(file)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(TraceError):
        load_arrays(file)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 10**6  # kB; the tensor has 8 GB


NINES = [(b"]q%c(" + b"h%c" * 9 + b"e") % (i, *[i - 1] * 9) for i in range(1, 40)]  # each nine times the one before

PICKLES = {
    "a place far beyond its values": (b"\x80\x02]r\xff\xff\xff\x7f.", "numbers more values than it holds"),
    "text that is not there": (b"\x80\x05\x96\x00\x00\x00\x00\x00\x01\x00\x00.", "is not a whole .pt file"),
    "lists in lists": (b"\x80\x02]q\x00" + b"".join(NINES) + b".", "more values"),
    "itself": (b"\x80\x02]q\x00h\x00a.", "more values than its size|nested too deep"),
}


@pytest.mark.parametrize("case", PICKLES)
def test_a_pickle_stands_for_no_more_than_it_holds(case, tmp_path):
    content, expected = PICKLES[case]
    file = tmp_path / "a.pt"
    file.write_bytes(zipped(**{"archive/data.pkl": content}))
    with pytest.raises(TraceError, match=expected):
        load_arrays(file)


def test_aliases_of_yaml_stand_for_no_more_than_a_layout_holds(here):
    rows = ["a0: &a0 [0, 1, 2, 3]", *(f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]" for i in range(1, 12))]
    (here / "it").write_text("\n".join([*rows, "initial_global_assignments: {0: *a11, 1: *a11}"]))
    assert "it: " in refused("run", config_with(here, **USES["layout"]))


def test_a_table_stands_for_no_more_values_than_are_read(tmp_path):
    file = tmp_path / "a.parquet"
    for rows, fits in ((400, True), (600, False)):
        pq.write_table(pa.table({"a": [0] * rows, "b": [0] * rows}), file)
        if fits:
            assert read_table(file, 1000).num_rows == rows
        else:
            with pytest.raises(pa.ArrowInvalid, match="stands for 1200 values, 1000 at most"):
                read_table(file, 1000)


def test_a_trace_is_packed_no_further_than_routing_can_be(here, monkeypatch):
    (here / "m.yaml").write_text(json.dumps(CONFIG))
    made = run(["trace", "synth", "m.yaml", "--preset", "qwen3_235b", "--out", "t.parquet", "--requests", "4"])
    assert made.code == 0
    TraceReader(here / "t.parquet").close()
    monkeypatch.setattr("wss.traces.reader.PACKED", 0)
    monkeypatch.setattr("wss.traces.reader.MOST_UNPACKED", 100)
    with pytest.raises(TraceError, match="bytes of experts, which it cannot hold"):
        TraceReader(here / "t.parquet")


LARGE = {
    "which expert follows which": {"model": {**TINY, "num_experts": 4096}, "policies": ["base", "allo_pred"]},
    "the tables that routing is drawn from": {
        "model": {**TINY, "num_experts": 4096},
        "trace": {"synth": {"decode_tokens": 2, "clusters": 1024}},
    },
    "where experts live": {"model": {**TINY, "num_experts": 4096}, "wafer": {"preset": "dojo", "mesh": [16, 16]}},
    "the requests of a batch": {"batch": 10**7, "trace": {"synth": {"decode_tokens": 2, "prompt_max": 10**4}}},
}


@pytest.mark.parametrize("largest", LARGE)
def test_an_experiment_that_memory_does_not_hold_is_refused_before_any_is_taken(largest, here, monkeypatch):
    monkeypatch.setattr(memory, "memory", lambda: 10**7)
    line = refused("run", config_with(here, **LARGE[largest]))
    assert "this machine has 0.01 GB" in line
    assert f"most of it is {largest}" in line


def test_there_is_no_more_memory_than_the_process_may_have(monkeypatch):
    monkeypatch.setattr(resource, "getrlimit", lambda _: (10**6, -1))
    assert memory.memory() == 0  # as more is taken already
    with pytest.raises(CapacityError, match=r"about 1.3e-05 GB of memory.* most of it is b"):
        memory.check_room("it", {"a": 4000, "b": 9000})


OWN = {  # open what is ours, or the system's
    *("sweeps/tasks.py", "config/dependencies.py", "config/shipped.py", "report/plotting.py"),
    *("compile_cache.py", "host_memory.py"),
}


def test_all_other_files_are_opened_at_the_one_door():
    folder = Path(wss.__file__).parent
    strays = []
    for file in sorted(folder.rglob("*.py")):
        for node in ast.walk(ast.parse(file.read_text())):
            called = node.func if isinstance(node, ast.Call) else None
            if isinstance(called, ast.Attribute) and called.attr in ("read_bytes", "read_text"):
                strays.append(str(file.relative_to(folder)))
            if isinstance(called, ast.Attribute) and called.attr == "open" and "'rb'" in map(ast.unparse, node.args):
                strays.append(str(file.relative_to(folder)))
            if isinstance(called, ast.Name) and called.id == "open":
                strays.append(str(file.relative_to(folder)))
    assert {*strays} <= OWN


def test_made_up_routing_has_no_more_experts_a_token_than_its_sums_hold(here):
    model = {**TINY, "num_experts": 200}
    line = refused("run", config_with(here, model={**model, "top_k": 128}))
    assert "a token of tiny has 128 experts, and made-up routing has at most 127" in line
    assert run(["run", config_with(here, model={**model, "top_k": 127}), "--out", "out"]).code == 0


@pytest.mark.parametrize("text", ["a: [1, 2, 3, 4, 5, 6]", "a: &a [1, 2]\nb: [*a, *a, *a]"])
def test_yaml_has_no_more_values_than_it_may_wherever_they_stand(text, monkeypatch):
    monkeypatch.setattr("wss.config.document._MAX_NODES", 8)
    with pytest.raises(ConfigError, match="it: more than 8 values; an experiment needs"):
        nodes.parse(text, "it")
    assert nodes.parse("a: [1, 2, 3]", "it").value == {"a": [1, 2, 3]}


@pytest.mark.parametrize("preset", [{"a": 1}, [1], 2, True, None])
def test_a_preset_that_is_no_name_is_refused(preset, here):
    for policy in ({"name": "base", "preset": preset}, [preset]):
        assert "give the name of a policy" in refused("run", config_with(here, policies=[policy]))
