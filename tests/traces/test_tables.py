"""Tables and logs of several writers, and files that look like them."""

import json

import numpy as np
import pytest

from wss.errors import TraceError
from wss.traces.importers import Hints, open_source
from wss.traces.importers.formats import detect

HINTS = Hints(num_experts=8)


def read(path, hints=HINTS):
    source = open_source(path, None, hints)
    return list(source.requests()), source


def write(path, lines):
    path.write_text("".join(f"{line if isinstance(line, str) else json.dumps(line)}\n" for line in lines))
    return path


@pytest.mark.parametrize(
    ("request_key", "token_key", "layer_key", "experts_key"),
    [
        ("problem_id", "token_idx", "layer", "experts"),
        ("request_id", "position", "layer_id", "expert_ids"),
        ("req_id", "token_pos", "layer_idx", "selected_experts"),
    ],
)
def test_logs_go_by_several_names(tmp_path, request_key, token_key, layer_key, experts_key):
    lines = [{"event": "start"}]
    lines += [
        {"dataset": "humaneval", request_key: r, layer_key: at, token_key: t, experts_key: [(t + at) % 8, (t + 3) % 8]}
        for r in range(2)
        for t in range(3)
        for at in range(2)
    ]
    requests, source = read(write(tmp_path / "a.jsonl", lines))
    assert [len(r.position) for r in requests] == [3, 3]
    assert requests[0].experts.tolist() == [[[t, t + 3], [t + 1, t + 3]] for t in range(3)]
    assert source.meta.top_k == 2


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ({"problem_id": 0, "layer": 1, "experts": [1, 2]}, "and no token_idx; a route has all four"),
        ({"layer": 1, "token_idx": 0, "experts": [1, 2]}, "and no req_id; a route has all four"),
        (
            {"layer": 1, "batch_id": 0, "x": [[1, 2]]},
            r"holds lines of layer, batch_id, x, which are no routes \(no req_id",
        ),
        ({"type": "route", "req_id": 1, "layer": 0}, "line 1: has no token_idx, topk_ids"),
        ({"timestamp": 0, "input_length": 9, "output_length": 2, "hash_ids": [1]}, "is a trace of requests"),
        (
            {"chat_id": 1, "timestamp": 0, "input_length": 9, "output_length": 2, "type": "text", "turn": 1},
            "is a trace of requests",
        ),
    ],
)
def test_a_log_of_something_else_is_named(tmp_path, line, message):
    with pytest.raises(TraceError, match=message) as error:
        read(write(tmp_path / "a.jsonl", [line, line]))
    assert len(error.value.faults) == 1


def test_a_second_data_set_is_refused(tmp_path):
    rows = [{"dataset": name, "problem_id": 0, "token_idx": 0, "layer": 0, "experts": [1, 2]} for name in ("a", "b")]
    with pytest.raises(TraceError, match="line 2: is of a second dataset; give a file for each"):
        read(write(tmp_path / "a.jsonl", rows))


@pytest.mark.parametrize(
    "lines",
    [
        ["layer_id,expert_ids", "3,1 4 2 7", "4,0 5 6 2", "3,7 6 1 0", "4,3 2 1 5"],
        ["layer_id,expert_ids", "3,1 4 2 7", "3,7 6 1 0", "4,0 5 6 2", "4,3 2 1 5"],
        ["layer,experts", "3,1;4;2;7", "4,0;5;6;2", "3,7;6;1;0", "4,3;2;1;5"],
        [
            "request,token_idx,layer,topk_ids",
            '0,0,3,"[1, 4, 2, 7]"',
            '0,0,4,"0,5,6,2"',
            "0,1,3,7|6|1|0",
            "0,1,4,3 2 1 5",
        ],
    ],
)
def test_tables_of_ids(tmp_path, lines):
    path = write(tmp_path / "a.csv", lines)
    assert detect(path) == "csv"
    (request,), source = read(path)
    assert source.meta.moe_layers == (3, 4)
    assert request.experts.tolist() == [[[1, 4, 2, 7], [0, 5, 6, 2]], [[7, 6, 1, 0], [3, 2, 1, 5]]]
    assert request.num_prefill == 0


@pytest.mark.parametrize(("mark", "name"), [(";", "a.csv"), ("\t", "a.csv"), ("\t", "a.tsv"), (",", "a.csv")])
@pytest.mark.parametrize("ids", ["{} {}", "{}|{}", '"[{}, {}]"', '"{},{}"', '"{};{}"'])
def test_columns_stand_between_commas_semicolons_or_tabs(tmp_path, mark, name, ids):
    rows = [(t, at, ids.format(t, 7 - at)) for t in range(3) for at in range(2)]
    lines = [mark.join(map(str, row)) for row in [("token_idx", "layer", "expert_ids"), *rows]]
    assert detect(write(tmp_path / name, lines)) == "csv"
    (request,), _ = read(tmp_path / name)
    assert request.experts.tolist() == [[[t, 7], [t, 6]] for t in range(3)]


def test_a_table_with_an_expert_a_row_needs_top_k(tmp_path):
    path = write(tmp_path / "a.csv", ["layer,expert", "0,1", "0,2", "1,3", "1,4", "0,5", "0,6", "1,7", "1,0"])
    with pytest.raises(TraceError, match="one expert a row; give --top-k"):
        read(path)
    (request,), _ = read(path, Hints(num_experts=8, top_k=2))
    assert request.experts.tolist() == [[[1, 2], [3, 4]], [[5, 6], [7, 0]]]
    with pytest.raises(TraceError, match="its rows are no multiple of --top-k 3"):
        read(path, Hints(num_experts=8, top_k=3))


def test_rows_of_an_expert_each_go_by_token_whatever_their_order(tmp_path):
    experts = np.random.default_rng(3).permuted(np.tile(np.arange(8), (5, 3, 1)), axis=2)[:, :, :2]
    rows = [(k, t, at, experts[t, at, k]) for k in range(2) for t in range(5) for at in range(3)]
    told = ["token_idx,layer,k,expert_id", *(f"{t},{at},{k},{e}" for k, t, at, e in rows)]
    hints = Hints(num_experts=8, top_k=2)
    (request,), _ = read(write(tmp_path / "a.csv", told), hints)
    assert np.array_equal(request.experts, experts)
    with pytest.raises(TraceError, match=r"request 0, position 0, layer 0: its rows are no multiple of --top-k 3"):
        read(write(tmp_path / "a.csv", told), Hints(num_experts=8, top_k=3))
    with pytest.raises(TraceError, match="position 4, layer 2 is there twice"):
        read(write(tmp_path / "a.csv", [*told, "4,2,0,1", "4,2,1,2"]), hints)
    untold = ["layer,k,expert_id", *(f"{at},{k},{e}" for k, _, at, e in rows)]
    with pytest.raises(TraceError, match="line 5: k 0 comes twice in the rows taken for one token; give token_idx"):
        read(write(tmp_path / "a.csv", untold), hints)
    by_token = ["layer,k,expert_id", *(f"{at},{k},{e}" for k, _, at, e in sorted(rows, key=lambda row: row[1:3]))]
    (request,), _ = read(write(tmp_path / "a.csv", by_token), hints)
    assert np.array_equal(request.experts, experts)


@pytest.mark.parametrize("kind", ["csv", "jsonl"])
def test_ids_of_a_vocabulary_are_no_positions(tmp_path, kind):
    def saved(ids, **more):
        rows = [
            {
                "req_id": 5,
                "token_id": number,
                "layer": at,
                "topk_ids": [t, 7 - at],
                **{k: v[t] for k, v in more.items()},
            }
            for t, number in enumerate(ids)
            for at in range(2)
        ]
        if kind == "jsonl":
            return write(tmp_path / "a.jsonl", rows)
        lines = [";".join(str(cell).replace(",", "").strip("[]") for cell in row.values()) for row in rows]
        return write(tmp_path / "a.csv", [line.replace(";", ",") for line in [";".join(rows[0]), *lines]])

    right = [[[t, 7], [t, 6]] for t in range(4)]
    (request,), _ = read(saved([3, 4, 5, 6]))
    assert (request.position.tolist(), request.experts.tolist()) == ([3, 4, 5, 6], right)
    for ids, said in (([900, 15, 3000, 7], "15 comes after 900"), ([5, 5, 6, 7], "5 comes after 5")):
        message = rf"request 5, layer 0: token_id {said}, so it may be of a vocabulary; give the position as token_idx"
        with pytest.raises(TraceError, match=message):
            read(saved(ids))
    (request,), _ = read(saved([900, 15, 3000, 7], position=[0, 1, 2, 3]))
    assert request.experts.tolist() == right


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (["layer_id,expert_id,count", "0,0,1", "0,1,4"], "is a table of expert loads"),
        (["layer,expert_0,expert_1", "0,10,20"], "is a table of expert loads"),
        (["TIMESTAMP,ContextTokens,GeneratedTokens", "2023-11-16 18:15:46,374,44"], "is a trace of requests"),
        (
            ["Timestamp,Model,Request tokens,Response tokens,Total tokens", "5,ChatGPT,472,18,490"],
            "is a trace of requests",
        ),
        (["layer,x", "0,1"], "none for experts"),
        (["layer,expert_ids", "0,a b"], "are no list of ids"),
        (["layer,expert_ids,layer", "0,1 2,0"], "each should be there once"),
        (["layer,expert_ids", "0"], "has not 2 cells"),
    ],
)
def test_a_table_of_something_else_is_named(tmp_path, lines, message):
    with pytest.raises(TraceError, match=message) as error:
        read(write(tmp_path / "a.csv", lines))
    assert len(error.value.faults) == 1


def test_the_one_token_with_a_wrong_layer_is_named_and_not_the_others(tmp_path):
    """A layer that one token of many has is that token's fault; a layer that one token lacks is too."""
    rows = [
        {"type": "route", "req_id": "a", "token_idx": token, "layer": layer, "topk_ids": [0, 1]}
        for token in range(4)
        for layer in (3, 4)
    ]
    rows[5]["layer"] = 99  # of token 2
    message = r"request a, position 2: only 1 of 4 tokens has a layer 99; correct it, or leave the layer out"
    with pytest.raises(TraceError, match=message):
        read(write(tmp_path / "a.jsonl", map(json.dumps, rows)))
    with pytest.raises(TraceError, match=r"request a, position 2, layer 4: is missing; give 2 ids"):
        read(write(tmp_path / "b.jsonl", map(json.dumps, rows[:5] + rows[6:])))
