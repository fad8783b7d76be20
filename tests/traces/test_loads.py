"""Tables of expert loads: every form is the same table, and what is none is refused by name."""

import json

import numpy as np
import pytest
from click.testing import CliRunner
from kit.trace_files import save_pt

from wss.cli import cli
from wss.errors import TraceError
from wss.models import ModelShape
from wss.traces.load_dumps import Loads
from wss.traces.load_history import read_served
from wss.traces.load_parquet import write_loads
from wss.traces.loads import fitted_dumps, is_loads, looks_like_loads, read_dumps, read_loads

MODEL = ModelShape(
    name="toy", num_layers=3, moe_layers=(1, 2), num_experts=4, top_k=2, hidden_size=64, moe_intermediate_size=64
)
COUNTS = [[10.0, 20, 30, 40], [5, 5, 5, 85]]
LONG = "\n".join(["layer_id,expert_id,count", *(f"{i + 1},{e},{COUNTS[i][e]:g}" for e in range(4) for i in (1, 0)), ""])
FORMS = {
    "MoE rows": (
        "a.json",
        json.dumps({"logical_count": COUNTS, "model": "toy", "num_layers": 3, "num_moe_layers": "2"}),
    ),
    "all rows": ("a.json", json.dumps({"logical_count": [[0] * 4, *COUNTS]})),
    "steps": ("a.json", json.dumps({"logical_count": [np.divide(COUNTS, 5).tolist()] * 5})),
    "long": ("a.csv", LONG),
    "a mark at the beginning, semicolons, another head": (
        "a.csv",
        "\ufeff" + LONG.replace(",", ";").replace("layer_id;expert_id;count", "Layer;Expert;Tokens"),
    ),
    "words apart, semicolons": (
        "a.csv",
        LONG.replace(",", ";").replace("layer_id;expert_id;count", "Layer ID;Expert ID;Token Count"),
    ),
    "words apart, tabs": (
        "a.tsv",
        LONG.replace(",", "\t").replace("layer_id\texpert_id\tcount", "Layer Index\tExpert\tToken Count"),
    ),
    "wide": ("a.csv", "layer,expert_0,expert_1,expert_2,expert_3\n1,10,20,30,40\n2,5,5,5,85\n"),
    "wide, any order": ("a.txt", "expert_1\texpert_0\tlayer\texpert_3\texpert_2\n20\t10\t1\t40\t30\n5\t5\t2\t85\t5\n"),
}


@pytest.mark.parametrize("form", FORMS)
def test_every_form_is_the_same_table(form, tmp_path):
    name, text = FORMS[form]
    path = tmp_path / name
    path.write_text(text, encoding="utf-8")
    assert looks_like_loads(path)
    ((dump, counts),) = read_dumps(path, MODEL).items()
    assert dump == "a"
    np.testing.assert_allclose(counts, COUNTS)


def test_an_expert_without_a_row_had_no_tokens_where_the_model_is_known(tmp_path):
    path, out = tmp_path / "a.csv", tmp_path / "a.parquet"
    path.write_text("layer,expert,count\n1,0,5\n1,1,6\n2,2,7\n")
    expected = [[5, 6, 0, 0], [0, 0, 7, 0]]
    assert read_dumps(path, MODEL)["a"].tolist() == expected
    assert looks_like_loads(path)
    with pytest.raises(TraceError, match="lacks layer 1, expert 2, and how many experts there are is not known here"):
        read_loads(path)
    command = CliRunner().invoke(cli, ["trace", "import", str(path), "--out", str(out), "--experts", "4"])
    assert command.exit_code == 0, command.output
    assert read_dumps(out, MODEL)["a"].tolist() == expected


def test_a_layer_without_tokens_stays_and_figures_leave_it_out(tmp_path):
    path = tmp_path / "a.json"
    path.write_text(json.dumps({"logical_count": [[0] * 4, [0] * 4, COUNTS[1]]}))
    assert read_dumps(path, MODEL)["a"].tolist() == [[0, 0, 0, 0], COUNTS[1]]
    (loads,) = read_loads(path)
    assert loads.with_tokens().layers == (2,)


def passes(counts=None, slots=(0, 1, 2, 3, 0, 1)):
    """As SGLang's recorder of mode per_pass writes them: two passes of three layers, a slot twice for two experts."""
    counts = np.array([[0] * 4, *COUNTS], np.int64) if counts is None else np.array(counts)
    table = np.tile(np.array(slots), (len(counts), 1))
    first = np.zeros(table.shape, np.int64)
    first[:, 4:] = 1
    whole = np.concatenate([counts, np.zeros((len(counts), 2), np.int64)], axis=1)
    whole[:, :2] -= 1
    whole[0, :2] = first[0] = 0
    records = [
        {"forward_pass_id": 7 + n, "rank": 0, "gatherer_key": "primary", "global_physical_count": one}
        for n, one in enumerate((first, whole))
    ]
    return {"records": records, "last_physical_to_logical_map": table}


BARE = {
    "bare": np.array(COUNTS, np.int64),
    "bare, of floats": np.array(COUNTS),
    "bare, passes": np.array([COUNTS, np.multiply(COUNTS, 3)], np.int64) // 2 // 2,
    "a row a layer": tuple(np.array(COUNTS, np.int64)),
    "a pass each": (np.array(COUNTS, np.int64), np.zeros((2, 4), np.int64)),
    "passes of logical experts": [{"logical_count": np.array(COUNTS)}, {"logical_count": np.zeros((2, 4))}],
    "per_pass": passes(),
}


@pytest.mark.parametrize("form", BARE)
def test_arrays_are_the_same_table(form, tmp_path):
    expected = [[9, 20, 29, 40], [4, 4, 4, 84]] if form == "bare, passes" else COUNTS
    path = save_pt(tmp_path / "a.pt", BARE[form])
    np.testing.assert_array_equal(read_dumps(path, MODEL)["a"], expected)
    assert looks_like_loads(path) == ("pass" in form and "bare" not in form and "each" not in form)


def test_numpy_files_are_the_same_table(tmp_path):
    np.save(tmp_path / "a.npy", np.array(COUNTS))
    np.savez(tmp_path / "b.npz", np.array(COUNTS))
    np.savez_compressed(tmp_path / "c.npz", logical_count=np.array([[0] * 4, *COUNTS]), other=np.zeros(2))
    for name in ("a.npy", "b.npz", "c.npz"):
        (tmp_path / name).rename(tmp_path / "x.bin")
        np.testing.assert_array_equal(read_dumps(tmp_path / "x.bin", MODEL)["x"], COUNTS)


def unmapped():
    return passes()["records"]


NO_COUNTS = {
    "a layout": (np.array([[0, 1, 2, 3], [3, 2, 1, 0]]), "names each expert as a layout does: name it as placement"),
    "EPLB's": (
        (np.tile(np.arange(4), (2, 1)), np.tile(np.arange(4)[:, None], (2, 1, 1)), np.ones((2, 4), np.int64)),
        "names each expert as a layout does",
    ),
    "logits": (
        np.array([[0.5, -2.0, 1.0, 0.0]] * 2, np.float32),
        "is an array [2, 4] without a key that holds what is",
    ),
    "shares": (np.array([[0.5, 0.25, 0.25, 0.0]] * 2), "or a fraction"),
    "nothing": (np.zeros((0, 4), np.int64), "is an array [0, 4] of int64 without a key, which holds no numbers"),
    "routing": (np.array([[[0, 3], [2, 1]], [[5, 6], [7, 8]]]), "may be experts that tokens chose"),
    "one row": (np.array([5, 6, 7, 8]), "counts are [layers, experts] or [passes, layers, experts]"),
    "unlike": ((np.ones((2, 4)), np.ones((3, 4))), "has no logical_count"),
    "no map": (unmapped(), "has no last_physical_to_logical_map, which says whose slots they are"),
    "another map": (passes() | {"last_physical_to_logical_map": np.zeros((2, 6), np.int64)}, "has not an expert for"),
    "unlike passes": (
        [{"logical_count": np.ones((2, 4))}, {"logical_count": np.ones((2, 5))}],
        "of pass 1 is of shape",
    ),
    "a pass without": ([{"logical_count": np.ones((2, 4))}, unmapped()[0]], "its pass 1 has no logical_count"),
    "a negative pass": ([{"logical_count": -np.ones((2, 4))}], "of pass 0 has -1; a count is 0 or more"),
}


@pytest.mark.parametrize("case", NO_COUNTS)
def test_arrays_that_may_be_something_else_are_refused_by_name(case, tmp_path):
    content, what = NO_COUNTS[case]
    path = save_pt(tmp_path / "a.pt", content)
    with pytest.raises(TraceError) as error:
        read_dumps(path, MODEL)
    (fault,) = error.value.faults
    assert fault.startswith(f"{path}: ")
    assert what in fault


@pytest.mark.parametrize(
    "table",
    [
        {"logical_count": COUNTS},
        {"logical_count": [[0] * 4, *COUNTS]},
        {"logical_count": [[0] * 4, COUNTS[0]]},
        {"logical_count": [[0] * 4, [0] * 4, COUNTS[1]]},
        "layer,expert_0,expert_1,expert_2,expert_3\n2,1,2,3,4\n1,0,0,0,0\n40000,0,0,0,0\n",
    ],
    ids=["MoE rows", "all rows", "an empty MoE row", "an empty layer", "numbered"],
)
def test_an_imported_table_has_the_loads_of_the_file_it_is_of(table, tmp_path):
    path, out = tmp_path / "a.json", tmp_path / "a.parquet"
    path.write_text(table if isinstance(table, str) else json.dumps(table))
    command = CliRunner().invoke(cli, ["trace", "import", str(path), "--out", str(out)])
    assert command.exit_code == 0, command.output
    assert is_loads(out)
    before, after = read_dumps(path, MODEL), read_dumps(out, MODEL)
    np.testing.assert_array_equal(after["a"], before["a"])


def imported(tmp_path, counts, *options):
    """Import *counts* of layers without numbers."""
    path, out = tmp_path / "a.json", tmp_path / "a.parquet"
    path.write_text(json.dumps({"logical_count": counts}))
    return CliRunner().invoke(cli, ["trace", "import", str(path), "--out", str(out), "--force", *options]), out


@pytest.mark.parametrize(
    ("counts", "options", "layers"),
    [
        (COUNTS, (), None),
        (COUNTS, ("--experts", "4"), None),
        (COUNTS, ("--moe-layers", "3,5"), (3, 5)),
        ([[0] * 4, COUNTS[0], [0] * 4, COUNTS[1]], ("--moe-layers", "1,3", "--experts", "4"), (1, 3)),
    ],
)
def test_what_is_said_of_the_layers_numbers_imported_rows(counts, options, layers, tmp_path):
    command, out = imported(tmp_path, counts, *options)
    assert command.exit_code == 0, command.output
    (loads,) = read_loads(out)
    assert (loads.layers if loads.numbered else None) == layers
    np.testing.assert_array_equal(loads.counts, COUNTS)


def test_a_model_numbers_imported_rows(tmp_path):
    counts = np.ones((61, 256))
    counts[:3] = 10
    command, out = imported(tmp_path, counts.tolist(), "--model", "deepseek_v3")
    assert "warning: a.json: a: 7,680 of 22,528 tokens (34%) are in 3 layers that the model says are" in command.output
    (loads,) = read_loads(out)
    assert loads.numbered
    assert loads.layers == tuple(range(3, 61))


@pytest.mark.parametrize(
    ("options", "what"),
    [
        (
            ("--experts", "8"),
            "a: has loads of 4 experts a layer, and --experts 8 was given; give --experts and --moe-layers as",
        ),
        (("--model", "deepseek_v3"), "has loads of 4 experts a layer, the model has 256; give the --model of these"),
        (("--moe-layers", "3-8"), "has 2 rows, the model has 6 MoE layers of 9; give a row for each of either"),
        (
            ("--model", "deepseek_v3", "--moe-layers", "1"),
            "--moe-layers are not those of deepseek-ai/DeepSeek-V3; give one",
        ),
        (
            ("--top-k", "7", "--zero-experts", "3", "--score", "sigmoid", "--groups", "7", "--lengths", "3,4"),
            "--score, --groups, --lengths, --top-k, --zero-experts: for recorded routing alone; this is a table of",
        ),
        (("--drop-warmup",), "--drop-warmup: for recorded routing alone"),
    ],
)
def test_options_that_are_not_so_of_loads_are_refused(options, what, tmp_path):
    command, out = imported(tmp_path, COUNTS, *options)
    assert isinstance(command.exception, TraceError)
    (fault,) = command.exception.faults
    assert what in fault
    assert not out.exists()


@pytest.mark.parametrize("brought_in", [False, True])
def test_tokens_in_dense_layers_are_left_out_with_a_note(brought_in, tmp_path):
    path, out = tmp_path / "a.json", tmp_path / "b.parquet"
    path.write_text(json.dumps({"logical_count": [[25] * 4, *COUNTS]}))
    if brought_in:
        write_loads(out, read_loads(path))
        path = out
    ((counts, note),) = fitted_dumps(path, MODEL).values()
    np.testing.assert_array_equal(counts, COUNTS)
    where = "b.parquet: a" if brought_in else "a.json"
    assert note == f"{where}: 100 of 300 tokens (33%) are in layer 0, which the model says is dense, and left out"
    assert [*read_served(path, MODEL, (), lambda *_: False).notes.values()] == [note]


def test_loads_that_are_mostly_of_dense_layers_are_refused(tmp_path):
    path = tmp_path / "a.json"
    path.write_text(json.dumps({"logical_count": [[100] * 4, *COUNTS]}))
    with pytest.raises(TraceError, match=r"has 67% of its tokens in layers that the model says are dense \(0\); give"):
        read_dumps(path, MODEL)
    path.write_text(json.dumps({"logical_count": [[0] * 4, *COUNTS]}))
    assert fitted_dumps(path, MODEL)["a"][1] is None


def test_a_table_in_parquet_is_of_the_layers_that_it_names(tmp_path):
    def table(*layers):
        path = tmp_path / "a.parquet"
        rows = np.array([COUNTS[layer % 2] for layer in range(len(layers))])
        write_loads(path, [Loads(name="a", phase="", layers=layers, counts=rows, top_k=2)])
        return path

    assert read_dumps(table(2, 1), MODEL)["a"].tolist() == [COUNTS[1], COUNTS[0]]
    for layers, what in (((1,), "lacks layer 2"), ((1, 2, 0), "has tokens in layer 0"), ((1, 2, 1), "layer 1 twice")):
        with pytest.raises(TraceError, match=what):
            read_dumps(table(*layers), MODEL)


@pytest.mark.parametrize(
    "command",
    ["show", "predict", "join --out b.parquet", "export --format hf-json --out b", "synth gpt_oss_20b --out c --like"],
)
def test_loads_are_no_trace_and_are_named(command, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_loads(tmp_path / "a.parquet", [Loads(name="a", phase="", layers=(1, 2), counts=np.array(COUNTS), top_k=2)])
    with pytest.raises(TraceError, match=r"^a.parquet: is a table of expert loads, which names no tokens; it goes as"):
        CliRunner().invoke(cli, ["trace", *command.split(), "a.parquet"], catch_exceptions=False)


REFUSED = {
    "NaN": ('{"logical_count": [[1, NaN]]}', "is no JSON (NaN is not a JSON number)"),
    "negative": ('{"logical_count": [[1, -1, 0, 0]]}', "a count is 0 or more"),
    "negative in one step": ('{"logical_count": [[[1, -1, 0, 0]], [[1, 2, 3, 4]]]}', "has -1; a count is 0 or more"),
    "true among numbers": ('{"logical_count": [[true, 1]]}', "is not a table of numbers"),
    "digits apart": ("layer,expert,count\n1,0,1_000\n", "row 2: '1_000' is not a number of tokens"),
    "ragged": ('{"logical_count": [[1], [1, 2]]}', "is not a table of numbers"),
    "true": ('{"logical_count": [[true, false]]}', "is not a table of numbers"),
    "one dimension": ('{"logical_count": [1, 2]}', "is not a table of numbers"),
    "nothing": ('{"logical_count": []}', "is not a table of numbers"),
    "huge": ('{"logical_count": [[1, 1' + "0" * 20 + "]]}", "is not a table of numbers"),
    "zero": ('{"logical_count": [[0, 0, 0, 0]]}', "all counts are zero"),
    "a layout": ('{"physical_to_logical_map": [[0]]}', "is a layout and holds no loads; name it as placement"),
    "a layout in YAML": (
        "initial_global_assignments:\n  0: [0]\n",
        "is a layout and holds no loads; name it as placement",
    ),
    "other keys": ('{"count": [[1]]}', "has no logical_count"),
    "8 experts": ('{"logical_count": [[1, 1, 1, 1, 1, 1, 1, 1]]}', "has loads of 8 experts a layer, the model has 4"),
    "16 experts said": (
        '{"num_experts": 16, "logical_count": [[1, 1, 1, 1]]}',
        "says num_experts: 16, and has counts of 4",
    ),
    "16 experts said, deeper": (
        '{"logical_count": [[1, 1, 1, 1]], "metadata": {"num_logical_experts": 16}}',
        "says metadata.num_logical_experts: 16, and has counts of 4 experts a layer",
    ),
    "2 slots said": (
        '{"logical_count": [[1, 1, 1, 1]], "num_physical_experts": 2}',
        "says num_physical_experts: 2, and",
    ),
    "5 layers said": (
        '{"logical_count": [[1, 1, 1, 1], [1, 1, 1, 1]], "num_layers": 5}',
        "is of a model of 5 layers, as it",
    ),
    "1 MoE layer said": (
        '{"logical_count": [[1, 1, 1, 1], [1, 1, 1, 1]], "meta": {"num_moe_layers": 1}}',
        "is of a model of 1 MoE layers, as it says, and this one has 2",
    ),
    "1 layer said": ('{"logical_count": [[1, 1], [1, 1]], "num_layers": 1}', "says num_layers: 1, and has 2 rows"),
    "5 rows": ('{"logical_count": [[1, 1, 1, 1], [1, 1, 1, 1], [1, 1, 1, 1], [1, 1, 1, 1], [1, 1, 1, 1]]}', "5 rows"),
    "an expert more": ("layer,expert,count\n1,0,5\n1,4,5\n2,0,5\n", "has loads of 5 experts a layer, the model has 4"),
    "a layer less": ("layer,expert,count\n1,0,5\n1,3,5\n", "lacks layer 2, a MoE layer of the model"),
    "a row twice": ("layer,expert,count\n1,0,5\n1,0,5\n", "row 3: layer 1, expert 0 is there twice"),
    "a layer twice": ("layer,expert_0\n1,5\n1,5\n", "row 3: layer 1 is there twice"),
    "no number": ("layer,expert,count\n1,0,many\n", "row 2: 'many' is not a number of tokens"),
    "nan": ("layer,expert,count\n1,0,nan\n", "is not a number of tokens"),
    "half a layer": ("layer,expert,count\n1.5,0,3\n", "row 2: '1.5' is not a number of a layer or an expert"),
    "no tokens": ("layer,expert,share\n1,0,3\n", "has no column of tokens"),
    "other columns": ("layer,mean\n1,3\n", "has a column 'mean'"),
    "expert 2 missing": ("layer,expert_0,expert_2\n1,3,4\n", "its columns of experts are not 0..1"),
    "a short row": ("layer,expert_0,expert_1\n1,3\n", "row 2 has 2 cells, its head has 3"),
    "a head": ("layer,expert_0,expert_1\n", "has a head and no rows"),
    "two counts": (
        "layer,expert,count,tokens\n1,0,3,4\n",
        "two columns of one meaning, 'count' and 'tokens'; keep one",
    ),
    "two layers": ("layer,layer_id,expert_0\n1,0,3\n", "two columns of one meaning, 'layer' and 'layer_id'; keep one"),
    "no layers": ("a,b\n1,2\n", "has no column layer; its head is a, b"),
    "requests": ("TIMESTAMP,ContextTokens,GeneratedTokens\n2023-11-16 18:15:46,374,44\n", "is a trace of requests and"),
    "routing": ("layer_id,expert_ids\n3,1 4 2 7\n", "is recorded routing; import it with `wss trace import`"),
    "a log with a line on itself": (
        '{"type": "meta", "timestamp": 1}\n{"type": "route", "req_id": 0, "layer": 1, "topk_ids": [1]}\n',
        "is recorded routing; import it with `wss trace import`",
    ),
    "a log by other names": (
        '{"model": "x"}\n{"problem_id": 0, "token_idx": 0, "layer": 1, "experts": [1, 2]}\n',
        "is recorded routing; import it with `wss trace import`",
    ),
    "llama.cpp": ("layer,expert\n3,1\n", "is recorded routing; import it with `wss trace import`"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_no_table_of_this_model_is_refused_in_one_line(case, tmp_path):
    text, what = REFUSED[case]
    path = tmp_path / "table.csv"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(TraceError) as error:
        read_dumps(path, MODEL)
    (fault,) = error.value.faults
    assert fault.startswith(f"{path}: ")
    assert what in fault


LAYOUTS = {
    "a map": {"physical_to_logical_map": [[0, 1], [1, 0]]},
    "an inverse": {"logical_to_physical_map": [[[0], [1]], [[1], [0]]]},
    "bare": [[0, 1], [1, 0]],
    "bare, a row": [0, 1],
    "ranks": {"expert_to_ep_rank": [0, 1]},
    "Ascend": {"moe_layer_count": 2, "layer_list": []},
    "TensorRT-LLM": {"moe_config": {"load_balancer": {"num_slots": 2}}},
}


@pytest.mark.parametrize("form", LAYOUTS)
def test_a_layout_is_named_as_one(form, tmp_path):
    path = tmp_path / "a.json"
    path.write_text(json.dumps(LAYOUTS[form]))
    for command in (["import", str(path), "--out", str(tmp_path / "b.parquet")], ["stats", str(path)]):
        error = CliRunner().invoke(cli, ["trace", *command]).exception
        assert isinstance(error, TraceError)
        assert error.faults[0].startswith(
            f"{path}: is a layout and holds no loads; name it as placement: {{kind: file, "
        )


def test_an_array_that_is_a_layout_is_named_as_one(tmp_path):
    np.save(tmp_path / "a.npy", np.array([[0, 1], [1, 0]]))
    command = ["trace", "import", str(tmp_path / "a.npy"), "--experts", "2", "--out", str(tmp_path / "b.parquet")]
    assert "is a layout and holds no loads; name it as placement" in str(CliRunner().invoke(cli, command).exception)


def test_a_page_of_words_is_no_table(tmp_path):
    path = tmp_path / "README.md"
    for text in ("Words, and more of them\n\nwords\n", "# Words\n"):
        path.write_text(text)
        with pytest.raises(
            TraceError, match=r"is neither JSON nor a table \(CSV\) with a column layer; give a table of"
        ):
            read_loads(path)


def test_a_fault_does_not_list_hundreds_of_columns(tmp_path):
    path = tmp_path / "a.json"
    path.write_text(json.dumps({"logical_count": [[1] * 300] * 2}))
    command = ["trace", "import", str(path), "--format", "csv", "--out", str(tmp_path / "b.parquet")]
    (fault,) = CliRunner().invoke(cli, command).exception.faults
    assert " and 594 more; each should be there once" in fault
    assert len(fault) < 300


@pytest.mark.parametrize(
    ("name", "what"),
    [
        (
            "summary.json",
            "is a folder with the results of a run of wss; see them with `wss report`, and give a file of",
        ),
        ("sweep.json", "is a folder with the results of a sweep of wss; see them with `wss report`"),
        ("0.json", "is a folder; import recorded routing with `wss trace import`, and give the file that it writes"),
        ("a.parquet", "is a folder; give one file, a trace or a table of loads"),
    ],
)
def test_a_folder_is_named_with_its_command(name, what, tmp_path):
    (tmp_path / name).write_text("{}")
    stats = CliRunner().invoke(cli, ["trace", "stats", str(tmp_path)])
    assert isinstance(stats.exception, TraceError)
    with pytest.raises(TraceError) as served:
        read_served(tmp_path, MODEL, (), lambda *_: False)
    for said in (stats.exception, served.value):
        (fault,) = said.faults
        assert fault.startswith(f"{tmp_path}: {what}")


def test_a_figure_that_there_is_none_of_is_left_open(tmp_path):
    names = ("prefill_a", "decode_a")
    one = [Loads(name=name, phase="", layers=(0,), counts=np.array([[4.0]]), top_k=1) for name in names]
    write_loads(tmp_path / "l.parquet", one)
    found = CliRunner().invoke(cli, ["trace", "stats", str(tmp_path / "l.parquet"), "--json"])
    (file,) = json.loads(found.stdout)["files"]
    assert file["dumps"][0]["entropy_share"] is None
    assert file["prefill_and_decode"][0]["spearman_mean"] is None
    found = CliRunner().invoke(cli, ["trace", "stats", str(tmp_path / "l.parquet")])
    assert "nan" not in found.stdout
    assert "Spearman - (least -)" in found.stdout
