"""Every format of recorded routing: what comes in is what was written, and what is wrong is named in one line."""

import json
import os
import pickle
import random
import zipfile
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from kit import wss
from kit.trace_files import (
    experts_of,
    save_csv,
    save_fingerprint,
    save_jsonl,
    save_pt,
    save_sglang,
)
from kit.traces import mutated

from wss.errors import TraceError
from wss.models import ModelShape
from wss.traces import TraceReader
from wss.traces.importers import FORMATS, Hints, open_source
from wss.traces.importers.formats import detect
from wss.traces.importers.pipeline import import_source
from wss.traces.importers.pt import _tensor, load_pt
from wss.traces.importers.table_rows import LOOKS_WARM, NOT_WARM, WARMED

E, K, L = 6, 2, 3
HINTS = Hints(num_experts=E, top_k=K)
ROWS = experts_of(7, L, K, E)
TINY = ModelShape(
    name="tiny", num_layers=5, moe_layers=(1, 2, 4), num_experts=E, top_k=K, hidden_size=8, moe_intermediate_size=8
)


def taken(path, kind=None, hints=HINTS):
    source = open_source(path, kind, hints)
    return list(source.requests()), source


def make_sglang(folder):
    """Requests of 3 and 2 prompt tokens, then one decode pass; layer 0 is dense, expert e has replicas."""
    to_logical = np.stack([np.concatenate([np.arange(E), [at % E, 5]]) for at in range(L + 1)])
    logical = np.concatenate([np.full((7, 1, K), -1), ROWS], axis=1)
    passes = [([0, 1, 2, 0, 1], [3, 2], logical[:5]), ([3, 2], None, logical[5:])]
    return save_sglang(folder / "expert_distribution_recorder_1_0.pt", passes, to_logical)


def make_vllm(folder):
    np.save(folder / "req_3.npy", ROWS.astype(np.uint8))
    (folder / "req_3.json").write_text(json.dumps({"prompt_tokens": 4}))
    return folder / "req_3.npy"


def make_logits(folder):
    logits = np.zeros((L, 7, E), np.float32)
    for (token, layer, rank), expert in np.ndenumerate(ROWS):
        logits[layer, token, expert] = 5 - rank
    np.save(folder / "logits_0.npy", logits)
    return folder / "logits_0.npy"


def make_paper(folder):
    """Four prompt tokens, then three elements of a token each, of the model TINY."""
    layers = {layer: at for at, layer in enumerate(TINY.moe_layers)}
    elements = [
        {str(n): ROWS[first:last, layers[n]].tolist() if n in layers else None for n in range(TINY.num_layers)}
        for first, last in ((0, 4), (4, 5), (5, 6), (6, 7))
    ]
    (folder / "7.json").write_text(json.dumps(elements, indent=4))
    return folder / "7.json"


MAKERS = {
    "sglang": make_sglang,
    "vllm": make_vllm,
    "logits": make_logits,
    "fingerprints": lambda folder: save_fingerprint(folder / "f.json", ROWS),
    "csv": lambda folder: save_csv(folder / "a.csv", [ROWS]),
    "jsonl": lambda folder: save_jsonl(folder / "r.jsonl", {"a": ROWS}),
}


@pytest.mark.parametrize("kind", sorted(MAKERS))
def test_a_format_is_detected_and_read_as_written(tmp_path, kind):
    path = MAKERS[kind](tmp_path)
    assert detect(path) == kind
    assert kind == "sglang" or detect(tmp_path) == kind
    requests, source = taken(path)
    assert np.concatenate([request.experts for request in requests]).shape == ROWS.shape
    assert (source.meta.num_experts, source.meta.top_k, len(source.meta.moe_layers)) == (E, K, L)
    if kind != "sglang":  # whose requests are interleaved
        assert np.array_equal(requests[0].experts, ROWS)
    done = import_source(tmp_path / "t.parquet", source)
    with TraceReader(tmp_path / "t.parquet") as reader:
        again = list(reader.requests())
    assert done.requests == len(again) == len(requests)
    for a, b in zip(again, requests, strict=True):
        assert np.array_equal(a.experts, b.experts)
        assert (a.num_prefill, a.position.tolist()) == (b.num_prefill, b.position.tolist())
    assert sorted(p.name for p in tmp_path.iterdir() if p.name.startswith(".")) == []


def test_every_format_is_tried():
    assert set(MAKERS) == set(FORMATS) - {"paper"}, "the paper's own has a file of tests for itself"


def test_sglang_tells_requests_apart_and_maps_replicas_back(tmp_path):
    requests, source = taken(make_sglang(tmp_path))
    assert source.meta.moe_layers == (1, 2, 3)
    assert [(r.num_prefill, r.position.tolist()) for r in requests] == [(3, [0, 1, 2, 3]), (2, [0, 1, 2])]
    assert np.array_equal(requests[0].experts, ROWS[[0, 1, 2, 5]])
    assert np.array_equal(requests[1].experts, ROWS[[3, 4, 6]])


def test_sglang_goes_on_with_a_prompt_in_chunks_counts_guesses_and_ends_requests(tmp_path):
    to_logical = np.tile(np.arange(E), (1, 1))
    rows = experts_of(8, 1, K, E)
    passes = [
        ([0, 1], [2], rows[:2]),  # a prompt in two chunks
        ([2], [1], rows[2:3]),
        ([0, 1, 2], [3], rows[3:6]),  # another request at the same position
        ([3, 3], None, rows[6:]),
        ([9], None, rows[:1]),  # whose beginning was not recorded; the others have ended
    ]
    requests, source = taken(save_sglang(tmp_path / "a_0.pt", passes, to_logical))
    assert [(r.num_prefill, r.position.tolist()) for r in requests] == [
        (3, [0, 1, 2, 3]),
        (3, [0, 1, 2, 3]),
        (0, [9]),
    ]
    assert source.remarks.total() == 2
    assert "1 chunks taken for the continuation" in source.finish(source.meta).note
    assert "1 decode tokens given to one of several" in source.finish(source.meta).note


def test_vllm_layers_are_all_or_moe_alone_and_two_arrays_are_prompt_and_rest(tmp_path):
    hints = Hints(model=TINY)
    whole = np.zeros((7, 5, K), np.int32)
    whole[:, [1, 2, 4]] = ROWS
    for name, rows in (("all", whole), ("moe", ROWS)):
        np.save(tmp_path / f"{name}.npy", rows)
        (request,), source = taken(tmp_path / f"{name}.npy", "vllm", hints)
        assert source.meta.moe_layers == (1, 2, 4)
        assert np.array_equal(request.experts, ROWS)
        assert source.remarks == Counter({"requests without a stated prompt length; all their rows count as decode": 1})
    np.savez(
        tmp_path / "two.npz", prompt_routed_experts=ROWS[:5].astype(np.int16), routed_experts=ROWS[5:].astype(np.int16)
    )
    (request,), _ = taken(tmp_path / "two.npz", "vllm", hints)
    assert (request.num_prefill, request.num_decode) == (5, 2)


def test_logits_of_many_layers_in_npz_and_pt_and_ties_go_to_the_lower_expert(tmp_path):
    layers = [np.zeros((2, E), np.float32), np.eye(2, E, dtype=np.float32)]
    np.savez(tmp_path / "l.npz", *layers)
    save_pt(tmp_path / "l.pt", tuple(layers))
    for name in ("l.npz", "l.pt"):
        (request,), _ = taken(tmp_path / name)
        assert request.experts.tolist() == [[[0, 1], [0, 1]], [[0, 1], [1, 0]]]


def test_a_route_logs_warm_up_is_dropped_and_counted_if_the_user_says_so(tmp_path):
    drop = replace(HINTS, drop_warmup=True)
    path = save_jsonl(tmp_path / "r.jsonl", {"a": ROWS[:, :1]}, warm_up=2048)
    requests, source = taken(path)
    assert [len(r.position) for r in requests] == [2048, 7]
    assert source.remarks == {LOOKS_WARM: 2048}
    assert source.warnings == (f"2048 {LOOKS_WARM}",)
    requests, source = taken(path, hints=drop)
    assert [r.experts.tolist() for r in requests] == [ROWS[:, :1].tolist()]
    assert source.remarks == {WARMED: 2048}
    requests, source = taken(save_jsonl(tmp_path / "r.jsonl", {"a": ROWS[:, :1]}, warm_up=100), hints=drop)
    assert len(requests) == 2, "a short beginning of equal rows may be real"
    assert source.warnings == (NOT_WARM,)
    with pytest.raises(TraceError, match="--drop-warmup: for route logs"):
        taken(MAKERS["csv"](tmp_path), hints=drop)


def phased(path, phases):
    """A log of one request with one layer, a token for each of *phases*."""
    rows = [{"req_id": 0, "token_idx": t, "layer": 0, "topk_ids": [t % 8], "phase": p} for t, p in enumerate(phases)]
    path.write_text("\n".join(json.dumps(row) for row in rows))
    return path


def test_a_route_log_may_tell_the_phase_of_each_token(tmp_path):
    (request,), source = taken(
        phased(tmp_path / "r.jsonl", ["prefill"] * 3 + ["decode"] * 2), hints=Hints(num_experts=8)
    )
    assert (request.num_prefill, request.num_decode) == (3, 2)
    assert "told by their phase" in source.meta.note
    (request,), _ = taken(phased(tmp_path / "d.jsonl", [None] * 3), hints=Hints(num_experts=8))
    assert (request.num_prefill, request.num_decode) == (0, 3)
    table = tmp_path / "t.csv"
    table.write_text("layer_id,phase,expert_ids\n0,prefill,1 2\n0,decode,3 4\n")
    (request,), _ = taken(table, hints=Hints(num_experts=8))
    assert (request.num_prefill, request.num_decode) == (1, 1)


@pytest.mark.parametrize(
    ("phases", "what"),
    [
        (["prefill", "idle"], "position 1: phase 'idle' is none; give prefill or decode"),
        (["decode", "prefill"], "decode at position 0 comes before prefill"),
        (["prefill", None], "position 1: has no phase"),
    ],
)
def test_phases_that_cannot_be_are_refused(tmp_path, phases, what):
    with pytest.raises(TraceError, match=what):
        taken(phased(tmp_path / "r.jsonl", phases), hints=Hints(num_experts=8))


def test_a_collapsed_layer_is_no_warm_up(tmp_path):
    experts = np.full((2000, 1, 1), 5)
    experts[1500] = 2
    path = save_jsonl(tmp_path / "r.jsonl", {str(n): experts[500 * n :][:500] for n in range(4)})
    requests, _ = taken(path, hints=Hints(num_experts=8))
    assert [len(r.position) for r in requests] == [500] * 4
    assert np.bincount(np.concatenate([r.experts.ravel() for r in requests])).tolist() == [0, 0, 1, 0, 0, 1999]
    import_source(tmp_path / "t.parquet", open_source(path, "jsonl", Hints(num_experts=8)))


def test_a_pickle_runs_nothing_that_stands_in_it(tmp_path):
    class Evil:
        def __reduce__(self):
            return os.system, (f"touch {tmp_path}/ran",)

    path = tmp_path / "evil.pt"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", pickle.dumps({"records": [Evil()], "x": Counter("a")}))
    load_pt(path)
    with pytest.raises(TraceError, match="is not as SGLang's recorder writes it"):
        open_source(path, "sglang", HINTS)
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    ("size", "stride", "offset"),
    [((9,), (1,), 0), ((2, 2), (5, 1), 0), ((1,), (1,), 7), ((-1,), (1,), 0), ((2,), (-1,), 0)],
)
def test_a_tensor_cannot_reach_beyond_its_storage(tmp_path, size, stride, offset):
    with pytest.raises(pickle.UnpicklingError):
        _tensor(np.zeros(6), offset, size, stride)


WRONG = {
    "no experts told": ("vllm", Hints(), lambda f: MAKERS["vllm"](f), "give --model, or --experts"),
    "no top-k told": ("logits", Hints(), lambda f: MAKERS["logits"](f), "give --model, or --top-k"),
    "expert out of range": (
        "vllm",
        Hints(num_experts=2),
        lambda f: MAKERS["vllm"](f),
        "does not exist; ids lie in 0..1",
    ),
    "other layers": (
        "csv",
        Hints(num_experts=E, moe_layers=(1, 2, 3, 4)),
        lambda f: MAKERS["csv"](f),
        "has 3 MoE layers",
    ),
    "layers of another model": (
        "csv",
        Hints(model=TINY, moe_layers=(1, 2)),
        lambda f: MAKERS["csv"](f),
        "--moe-layers are not those of tiny; give one of the two",
    ),
    "loads, not tokens": (
        "sglang",
        HINTS,
        lambda f: save_pt(f / "x.pt", {"rank": 0, "logical_count": np.zeros((1, 2, 3), np.int32)}),
        "mode stat",
    ),
    "not a pt": ("sglang", HINTS, lambda f: (f / "x.pt").write_bytes(b"PK") and f / "x.pt", "is not a whole .pt file"),
    "not a number": (
        "logits",
        HINTS,
        lambda f: np.save(f / "x.npy", np.full((1, 2, E), np.nan)) or f / "x.npy",
        "layer 0, token 0, expert 0: a logit is not finite",
    ),
    "objects": (
        "vllm",
        HINTS,
        lambda f: np.save(f / "x.npy", np.array([{}, 1], object), allow_pickle=True) or f / "x.npy",
        "is not a whole numpy file",
    ),
    "unknown format": ("sgang", HINTS, lambda f: MAKERS["csv"](f), "did you mean 'sglang'"),
    "prompt too long": (
        "vllm",
        HINTS,
        lambda f: (MAKERS["vllm"](f), (f / "req_3.json").write_text('{"prompt_tokens": 8}'))[0],
        "says the prompt has 8 tokens; the file has 7 rows",
    ),
    "a column missing": (
        "csv",
        HINTS,
        lambda f: (f / "a.csv").write_text("Layer ID,Token\n1,2\n") and f / "a.csv",
        "they should be",
    ),
    "a layer twice": (
        "jsonl",
        HINTS,
        lambda f: (
            (f / "r.jsonl").write_text('{"type":"route","req_id":1,"token_idx":0,"layer":0,"topk_ids":[0,1]}\n' * 2)
            and f / "r.jsonl"
        ),
        "is there twice",
    ),
}


@pytest.mark.parametrize("case", sorted(WRONG))
def test_what_is_wrong_is_named(tmp_path, case):
    kind, hints, make, expected = WRONG[case]
    path = make(tmp_path)
    with pytest.raises(TraceError) as error:
        taken(path, kind, hints)
    assert expected in error.value.faults[0]


@pytest.mark.slow
@pytest.mark.parametrize("kind", [*sorted(MAKERS), "paper"])
def test_a_damaged_file_is_read_right_or_refused_by_name(tmp_path, kind):
    """Never anything but a TraceError, and never a request that is not valid."""
    rounds = int(os.environ.get("WSS_FUZZ", "200"))
    path, hints = (MAKERS[kind](tmp_path), HINTS) if kind != "paper" else (make_paper(tmp_path), Hints(model=TINY))
    raw, rng = path.read_bytes(), random.Random(7)
    refused: list[str] = []
    for _ in range(rounds):
        path.write_bytes(mutated(raw, rng))
        try:
            requests, source = taken(path, kind, hints)
            assert all(r.experts.min() >= 0 and r.experts.max() < source.meta.num_experts for r in requests)
        except TraceError as error:
            refused.append(str(error.faults))
    assert refused
    assert not any("\n" in fault for fault in refused)


def test_a_bad_file_stops_an_import_or_is_skipped_and_counted(tmp_path):
    folder = tmp_path / "in"
    folder.mkdir()
    for number in range(3):
        np.save(folder / f"{number}.npy", ROWS.astype(np.uint8))
    (folder / "1.npy").write_bytes(b"no")
    command = ["trace", "import", folder, "--out", tmp_path / "t", "--experts", 6]
    done = wss(*command)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert "1 of 3 files are bad, --skip-bad leaves them out" in done.stderr
    assert [p.name for p in tmp_path.iterdir()] == ["in"]
    done = wss(*command, "--skip-bad")
    assert done.returncode == 0, done.stderr
    assert "1.npy" in done.stderr
    assert "2 requests" in done.stdout
    with TraceReader(tmp_path / "t") as reader:
        assert "1 bad files skipped" in reader.meta.note
        assert reader.request_ids().tolist() == [0, 2]


def test_layers_can_be_named(tmp_path):
    path = MAKERS["csv"](tmp_path)
    command = ["trace", "import", path, "--out", tmp_path / "t", "--experts", 6]
    assert wss(*command, "--moe-layers", "3,5-6").returncode == 0
    with TraceReader(tmp_path / "t") as reader:
        assert reader.meta.moe_layers == (3, 5, 6)
    for wrong in ("3", "x", "5,3,4", "1-2-3"):
        done = wss(*command, "--force", "--moe-layers", wrong)
        assert (done.returncode, done.stderr.count("\n")) == (2, 1), wrong


def test_ranks_that_recorded_the_same_tokens_are_taken_once(tmp_path):
    path = make_sglang(tmp_path)
    (tmp_path / "expert_distribution_recorder_1_1.pt").write_bytes(path.read_bytes())
    requests, source = taken(tmp_path, "sglang")
    assert len(requests) == 2
    assert "1 ranks with the tokens of another left out" in source.meta.note


def test_a_bad_first_file_can_be_skipped(tmp_path):
    (tmp_path / "0.npy").write_bytes(b"no")
    np.save(tmp_path / "1.npy", ROWS.astype(np.uint8))
    done = import_source(tmp_path / "t", open_source(tmp_path, "vllm", HINTS), skip_bad=True)
    assert (done.requests, len(done.skipped)) == (1, 1)


def test_several_formats_in_a_folder_and_unknown_ones_are_refused(tmp_path):
    MAKERS["csv"](tmp_path)
    MAKERS["jsonl"](tmp_path)
    with pytest.raises(TraceError, match="several formats"):
        detect(tmp_path)
    (tmp_path / "x.txt").write_text("x")
    with pytest.raises(TraceError, match="is of no known format"):
        detect(tmp_path / "x.txt")
    with pytest.raises(TraceError, match="--experts 7 was given; the files have 6"):
        open_source(MAKERS["logits"](tmp_path), "logits", Hints(num_experts=7, top_k=K))
    with pytest.raises(TraceError, match="--top-k 3 was given; the files have 2"):
        open_source(MAKERS["vllm"](tmp_path), "vllm", Hints(num_experts=E, top_k=3))
    with pytest.raises(TraceError, match="do not go with the paper's format"):
        open_source(make_paper(tmp_path), "paper", HINTS)


def test_requests_that_begin_in_one_pass_are_not_glued_together(tmp_path):
    """A cached prefix as long as another's prompt; and a prompt that goes on after a decode pass of others."""
    to_logical, rows = np.tile(np.arange(E), (1, 1)), experts_of(12, 1, K, E)
    passes = [([0, 1, 2, 3, 4, 5, 6], [4, 3], rows[:7])]
    requests, _ = taken(save_sglang(tmp_path / "a_0.pt", passes, to_logical))
    assert [r.position.tolist() for r in requests] == [[0, 1, 2, 3], [4, 5, 6]]
    passes = [([0, 1], [2], rows[:2]), ([7], None, rows[2:3]), ([2, 3], [2], rows[3:5])]
    requests, _ = taken(save_sglang(tmp_path / "a_0.pt", passes, to_logical))
    assert [r.position.tolist() for r in requests] == [[0, 1, 2, 3], [7]]


NAMES = ["prompt_tokens", "input_tokens", "num_prompt_tokens", "prompt_len", "prompt_length"]


@pytest.mark.parametrize("name", NAMES)
def test_the_length_of_a_prompt_goes_by_several_names(tmp_path, name):
    np.save(tmp_path / "3.npy", experts_of(10, 4, 2, 8).astype(np.uint8))

    def read(**told):
        (tmp_path / "3.json").write_text(json.dumps(told))
        (request,) = open_source(tmp_path / "3.npy", "vllm", Hints(num_experts=8)).requests()
        return request.num_prefill

    assert read(**{name: 4, "max_prompt_len": 99, "prompt_token_ids": [5, 6]}) == 4
    assert read(**{name: 4, "prompt_tokens": 4}) == 4
    assert read(model="m", max_input_tokens=99, output_tokens=6) == 0
    for told in (11, -1, "4", True, [4]):
        with pytest.raises(TraceError, match=rf"{name} says the prompt has .* tokens; the file has 10 rows"):
            read(**{name: told})
    with pytest.raises(TraceError, match=r"says how long the prompt is in several ways: .* keep the correct one"):
        read(**{name: 4, NAMES[0] if name != NAMES[0] else NAMES[1]: 5})
    for unread in ("prompt_token_count", "context_len", "num_prefill_tokens"):
        with pytest.raises(TraceError, match=f"{unread} is not read, and may say how many tokens the prompt has"):
            read(**{unread: 4})
