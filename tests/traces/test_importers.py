"""The paper's JSON: exactly the known rows of the real files, and each way to be wrong has its line."""

import copy
import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from wss.errors import TraceError
from wss.models import MODELS
from wss.traces.importers import MODEL_FOLDERS, open_paper_json
from wss.traces.reader import TraceReader, write_trace


def layers(routing, token):
    """One token of a routing as the lists that JSON holds, by layer name, dense layers null."""
    moe = {1: 0, 3: 1, 4: 2}
    return {str(layer): [routing.experts[token, moe[layer]].tolist()] if layer in moe else None for layer in range(5)}


def as_json(routing):
    """What the data set holds for a request of the tiny model."""
    tokens = [layers(routing, token) for token in range(len(routing.position))]
    first = tokens[: routing.num_prefill]
    prefill = {key: tokens[0][key] and [ids for token in first for ids in token[key]] for key in tokens[0]}
    return [prefill, *tokens[routing.num_prefill :]]


@pytest.fixture
def good(meta, make_routing):
    return as_json(make_routing(meta, 3, 2, 3))


def put(path: Path, content: object) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content, indent=4, ensure_ascii=False), encoding="utf-8")
    return path


# -- the real files ----------------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("subject", ["abstract_algebra", "anatomy"])
def test_real_files_give_the_known_rows(shared, same_request, subject):
    model = "meta-llama/Llama-4-Maverick-17B-128E-Instruct"
    source = open_paper_json(shared / "raw_json" / model / "mmlu" / subject)
    got = list(source.requests())
    assert len(got) == 12
    with TraceReader(shared / "parquet" / f"{model.replace('/', '__')}__mmlu__{subject}.parquet") as reader:
        known = list(reader.requests(only={r.request for r in got}))
        assert [r.request for r in got] == sorted(r.request for r in known)
        assert all(map(same_request, got, known))
        for name in ("model", "benchmark", "subject", "moe_layers", "num_layers", "num_experts", "top_k"):
            assert getattr(source.meta, name) == getattr(reader.meta, name)


def test_the_whole_tree_and_one_file(shared, tmp_path):
    source = open_paper_json(shared / "raw_json")
    assert write_trace(tmp_path / "t.parquet", source.meta, source.requests(), finish=source.finish) == 24
    with TraceReader(tmp_path / "t.parquet") as reader:
        assert reader.request_ids().tolist() == [*range(12), *range(100, 112)]
        assert (reader.meta.subject, reader.meta.num_requests) == ("*", 24)
    one = open_paper_json(source.files[5])
    assert [r.request for r in one.requests()] == [5]
    assert one.meta.subject == "abstract_algebra"


# -- folders and names -------------------------------------------------------------------------------------------------


def test_order_is_by_subject_then_number(tmp_path, tiny, good):
    root = tmp_path / "org" / "tiny"
    for name in ("mmlu/数学/10", "mmlu/数学/9", "mmlu/abc/2000", "aime/x/7", "mmlu/abc/11"):
        put(root / f"{name}.json", good)
    (root / "mmlu" / "abc.tar.gz").write_bytes(b"not looked at")
    (root / "mmlu" / "abc" / "README.md").write_text("nor this")
    put(root / "info.json", {"nor": "this"})
    put(root / ".cache" / "1.json", "nor this")
    source = open_paper_json(tmp_path, tiny)
    assert [r.request for r in source.requests()] == [7, 11, 2000, 9, 10]
    assert (source.meta.model, source.meta.benchmark, source.meta.subject) == ("org/tiny", "*", "*")
    below = open_paper_json(tmp_path / "org", tiny)
    assert (below.meta.model, below.meta.benchmark) == ("org/tiny", "*")


def test_names_come_from_the_folders(tmp_path, tiny, good):
    put(tmp_path / "org" / "tiny" / "mmlu_ZH_CN" / "高中数学" / "4228.json", good)
    meta = open_paper_json(tmp_path, tiny).meta
    assert (meta.model, meta.benchmark, meta.subject) == ("org/tiny", "mmlu_ZH_CN", "高中数学")
    assert not meta.synthetic


def test_without_folders_the_model_names_itself(tmp_path, tiny, good):
    put(tmp_path / "3.json", good)
    meta = open_paper_json(tmp_path, tiny).meta
    assert (meta.model, meta.benchmark, meta.subject) == ("org/tiny", "*", "*")


@pytest.mark.parametrize("folder", MODEL_FOLDERS)
def test_known_folders_tell_the_model(tmp_path, folder, good):
    put(tmp_path / "some-org" / folder / "mmlu" / "x" / "3.json", good)
    meta = open_paper_json(tmp_path / "some-org").meta
    assert meta.num_experts == MODELS[MODEL_FOLDERS[folder]].num_experts
    assert (meta.model, meta.benchmark, meta.subject) == (f"some-org/{folder}", "mmlu", "x")


def test_links_of_a_download_cache(tmp_path, tiny, good):
    """Hugging Face keeps files under the hash of their content and links the names to them."""
    put(tmp_path / "blobs" / "0a1b2c", good)
    folder = tmp_path / "snapshot" / "org" / "tiny" / "mmlu" / "x"
    folder.mkdir(parents=True)
    (folder / "12.json").symlink_to(tmp_path / "blobs" / "0a1b2c")
    (folder / "loop").symlink_to(tmp_path / "snapshot")
    assert [r.request for r in open_paper_json(tmp_path / "snapshot", tiny).requests()] == [12]


def test_same_number_in_two_benchmarks(tmp_path, tiny, good):
    for benchmark in ("a", "b"):
        put(tmp_path / "org" / "tiny" / benchmark / "x" / "3.json", good)
    source = open_paper_json(tmp_path, tiny)
    write_trace(tmp_path / "t.parquet", source.meta, source.requests())
    with TraceReader(tmp_path / "t.parquet") as reader:
        assert reader.request_ids().tolist() == [3, 4]


def test_several_models_are_refused_by_name(tmp_path, tiny, good):
    for model in ("org/one", "org/two"):
        put(tmp_path / model / "mmlu" / "x" / "1.json", good)
    with pytest.raises(TraceError, match=r"holds several models \(org/one, org/two\); import .* one at a time"):
        open_paper_json(tmp_path, tiny)


# -- the last token ----------------------------------------------------------------------------------------------------


def cut(element, *, missing=(), null=()):
    element = {key: value for key, value in element.items() if key not in missing}
    return {key: None if key in null else value for key, value in element.items()}


@pytest.mark.parametrize(
    "how", [{"missing": "4"}, {"missing": "34"}, {"null": "4"}, {"null": "34"}, {"missing": "4", "null": "3"}]
)
def test_a_last_token_cut_off_is_dropped_and_counted(tmp_path, tiny, good, how):
    put(tmp_path / "1.json", [*good[:-1], cut(good[-1], **how)])
    put(tmp_path / "2.json", good)
    source = open_paper_json(tmp_path, tiny)
    assert [r.num_decode for r in source.requests()] == [2, 3]
    assert source.remarks.total() == 1
    assert source.finish(source.meta).note == f"{source.meta.note}; 1 last decode tokens dropped, being cut off"
    list(source.requests())
    assert source.remarks.total() == 1  # of the last reading, not of all


def test_nothing_dropped_nothing_noted(tmp_path, tiny, good):
    source = open_paper_json(put(tmp_path / "1.json", good), tiny)
    list(source.requests())
    assert source.finish(source.meta) == source.meta


# -- what is wrong -----------------------------------------------------------------------------------------------------


def change(function):
    """A fault made by changing the good elements in place."""

    def make(good):
        elements = copy.deepcopy(good)
        function(elements)
        return json.dumps(elements)

    return make


def put_at(*keys_and_value):
    *keys, last, value = keys_and_value

    def function(elements):
        place = elements
        for key in keys:
            place = place[key]
        place[last] = value

    return change(function)


# A request of 2 prefill and 3 decode tokens; layers 1, 3 and 4 of 5, 2 of 6 experts.
FAULTS = {
    "empty file": (lambda _: "", "is not a request of the data set"),
    "half a file": (lambda good: json.dumps(good)[:-40], "is not a request of the data set"),
    "an object": (lambda good: json.dumps(good[0]), "is not a request of the data set"),
    "empty list": (lambda _: "[]", "is an empty list"),
    "bytes": (lambda _: b"\xff\xfe[]", "is not a request of the data set"),
    "text as id": (put_at(2, "1", 0, 0, "five"), "is not a request of the data set"),
    "float as id": (put_at(2, "1", 0, 0, 0.5), "is not a request of the data set"),
    "true as id": (put_at(2, "1", 0, 0, True), "is not a request of the data set"),
    "no token level": (put_at(2, "1", [0, 1]), "is not a request of the data set"),
    "empty prefill": (put_at(0, {}), "step 0, layer 0: is missing"),
    "layer missing in prefill": (change(lambda e: e[0].pop("4")), "step 0, layer 4: is missing"),
    "layer missing inside": (change(lambda e: e[1].pop("4")), "step 1, layer 4: is missing"),
    "lower layer missing at the end": (change(lambda e: e[3].pop("1")), "step 3, layer 1: is missing"),
    "dense layer missing": (change(lambda e: e[2].pop("0")), "step 2, layer 0: is missing"),
    "null inside": (put_at(2, "3", None), "step 2, layer 3: routes no token"),
    "two cut off": (change(lambda e: [e[2].pop("4"), e[3].pop("4")]), "step 2, layer 4: is missing"),
    "dense layer routes": (put_at(1, "2", [[0, 1]]), "step 1, layer 2: routes tokens, but is a dense layer"),
    "one layer more": (put_at(1, "5", [[0, 1]]), "step 1: has a layer '5'"),
    "layer by another name": (put_at(1, "x", None), "step 1: has a layer 'x'"),
    "no prefill token": (put_at(0, "1", []), "step 0, layer 1: routes no token"),
    "prefill ragged": (change(lambda e: e[0]["3"].pop()), "step 0, layer 3: has 1 tokens; it must have 2"),
    "decode of two": (change(lambda e: e[2]["3"].append([0, 1])), "step 2, layer 3: has 2 tokens; it must have 1"),
    "decode of two in all layers": (
        change(lambda e: [e[2][key].append([0, 1]) for key in "134"]),
        "step 2, layer 1: has 2 tokens; it must have 1",
    ),
    "no decode token": (put_at(2, "3", []), "step 2, layer 3: routes no token"),
    "too few experts": (put_at(3, "4", [[1]]), "step 3, layer 4: token 0 has 1 experts; org/tiny routes to 2"),
    "too many experts": (put_at(0, "1", 1, [0, 1, 2]), "step 0, layer 1: token 1 has 3 experts"),
    "expert too high": (put_at(2, "4", 0, [0, 6]), r"step 2, layer 4: token 0 has expert 6; ids lie in 0\.\.5"),
    "expert negative": (put_at(0, "3", 1, [0, -1]), "step 0, layer 3: token 1 has expert -1"),
    "expert beyond 16 bits": (put_at(1, "1", 0, [0, 65536]), "step 1, layer 1: token 0 has expert 65536"),
    "expert beyond 64 bits": (put_at(1, "1", 0, [0, 2**70]), "step 1, layer 1: token 0 has expert|not a request"),
    "expert twice": (put_at(1, "1", [[3, 3]]), r"step 1, layer 1: token 0 has experts \[3, 3\]"),
}


@pytest.mark.parametrize("name", FAULTS)
def test_a_bad_file_among_good_ones(tmp_path, tiny, good, name):
    make, message = FAULTS[name]
    folder = tmp_path / "in"
    put(folder / "1.json", good)
    content = make(good)
    (folder / "2.json").write_bytes(content if isinstance(content, bytes) else content.encode())
    put(folder / "3.json", good)
    source = open_paper_json(folder, tiny)
    with pytest.raises(TraceError, match=message) as error:
        write_trace(tmp_path / "t.parquet", source.meta, source.requests())
    assert len(error.value.faults) == 1
    assert str(error.value).startswith(f"{folder / '2.json'}: ")
    assert "\n" not in str(error.value)
    assert "; " in str(error.value)
    assert [p.name for p in tmp_path.iterdir()] == ["in"]  # nothing half written


def test_the_wrong_model_is_found(tmp_path, good):
    path = put(tmp_path / "1.json", good)
    with pytest.raises(TraceError, match=r"1\.json: step 0, layer 0: routes no token, .* give the --model"):
        list(open_paper_json(path, MODELS["qwen3_235b"]).requests())


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("missing", "there is no such file"),
        ("empty", r"holds no <n>\.json"),
        ("unknown", "no folder names the model; give --model"),
        ("deep", "'deep/org' is not a known model|'org/new' is not a known model"),
        ("named.json", r"is not named <n>\.json"),
        ("strays", r"notes\.json: is not named <n>\.json"),
        ("numbers", r"99999999999\.json: is not named"),
    ],
)
def test_a_bad_place(tmp_path, good, name, message):
    (tmp_path / "empty").mkdir()
    put(tmp_path / "unknown" / "1.json", good)
    put(tmp_path / "deep" / "org" / "new" / "mmlu" / "x" / "1.json", good)
    put(tmp_path / "named.json", good)
    put(tmp_path / "strays" / "1.json", good)
    put(tmp_path / "strays" / "notes.json", good)
    put(tmp_path / "numbers" / "99999999999.json", good)
    put(tmp_path / "numbers" / "1.json", good)
    with pytest.raises(TraceError, match=message) as error:
        open_paper_json(tmp_path / name)
    assert len(error.value.faults) == 1
    assert str(error.value).startswith(str(tmp_path / name))


def test_a_file_that_vanishes(tmp_path, tiny, good):
    source = open_paper_json(put(tmp_path / "1.json", good), tiny)
    (tmp_path / "1.json").unlink()
    with pytest.raises(TraceError, match=r"1\.json: cannot be read \(No such file"):
        list(source.requests())


@settings(deadline=None, max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(prefill=st.integers(1, 6), decode=st.integers(0, 6), seed=st.integers(0, 99))
def test_any_request_comes_back(tmp_path_factory, meta, tiny, make_routing, same_request, prefill, decode, seed):
    routing = make_routing(meta, 5, prefill, decode, seed)
    path = put(tmp_path_factory.mktemp("json") / "5.json", as_json(routing))
    (got,) = open_paper_json(path, tiny).requests()
    assert same_request(got, routing)
    assert got.experts.dtype == np.int16
