"""What is no routing is refused or left out by name, whatever the recorder; what may be routing is kept."""

import json

import numpy as np
import pytest
import yaml
from click.testing import CliRunner
from kit.trace_files import experts_of, save_csv, save_jsonl, save_sglang

from wss.cli import cli
from wss.errors import TraceError
from wss.models import ModelShape
from wss.traces import RequestRouting, TraceMeta, TraceReader, write_trace
from wss.traces.importers import Hints, open_source
from wss.traces.importers.common import filler_in
from wss.traces.importers.edges import Edges, fills_of
from wss.traces.importers.pipeline import import_source

E = 16
MODEL = ModelShape(
    name="tiny", num_layers=8, moe_layers=(1, 3, 5, 7), num_experts=E, top_k=1, hidden_size=8, moe_intermediate_size=8
)


def arrays(folder, fill, *, top_k=1, requests=20, tokens=10, dense=(0, 2, 4, 6)):
    """Arrays [tokens, 8 layers, k], whose *dense* layers are *fill*."""
    folder.mkdir(exist_ok=True)
    for number in range(requests):
        rows = experts_of(tokens, 8, top_k, E, seed=number)
        rows[:, list(dense)] = fill
        np.save(folder / f"{number}.npy", rows.astype(np.int16 if np.min(fill) < 0 else np.uint8))
        (folder / f"{number}.json").write_text(json.dumps({"prompt_tokens": 4}))
    return folder


def brought_in(path, hints, kind="vllm"):
    out = path.parent / "t.parquet"
    done = import_source(out, open_source(path, kind, hints))
    with TraceReader(out) as reader:
        return done, reader.meta, list(reader.requests())


@pytest.mark.parametrize(("fill", "top_k"), [(0, 1), (5, 1), (-1, 1), (255, 1), (0, 4), ([0, 1, 2, 3], 4), (-1, 4)])
def test_dense_layers_are_named_or_left_out(tmp_path, fill, top_k):
    folder = arrays(tmp_path / "in", fill, top_k=top_k)
    with pytest.raises(TraceError, match=r"layers 0,2,4,6: .* --moe-layers 1,3,5,7, or the model") as error:
        brought_in(folder, Hints(num_experts=E))
    assert "\n" not in error.value.faults[0]
    assert not (tmp_path / "t.parquet").exists()
    _, meta, requests = brought_in(folder, Hints(num_experts=E, moe_layers=(1, 3, 5, 7)))
    assert (meta.moe_layers, meta.num_layers) == ((1, 3, 5, 7), 8)
    assert np.array_equal(requests[3].experts, experts_of(10, 8, top_k, E, seed=3)[:, 1::2])
    if top_k == 1:
        assert brought_in(folder, Hints(model=MODEL))[1].model == "tiny"


def test_one_small_request_is_enough_to_name_dense_layers(tmp_path):
    with pytest.raises(TraceError, match="layers 0,2,4,6: every token uses expert 0"):
        brought_in(arrays(tmp_path / "in", 0, requests=1), Hints(num_experts=E))
    with pytest.raises(TraceError, match="layers 0-1: every token uses expert 0"):
        brought_in(arrays(tmp_path / "in", 0, requests=1, tokens=12, dense=(0, 1)), Hints(num_experts=E))


def test_a_layer_that_routes_is_not_dense(tmp_path):
    folder = arrays(tmp_path / "in", 0, dense=(0, 2, 4))
    with pytest.raises(TraceError, match="layer 6 has differing experts, and tiny says a dense layer"):
        brought_in(folder, Hints(model=MODEL))


def test_a_failed_capture_is_refused(tmp_path):
    folder = arrays(tmp_path / "in", 0, requests=3, dense=())
    np.save(folder / "1.npy", np.zeros((10, 8, 1), np.uint8))
    with pytest.raises(TraceError, match=r"1\.npy: request 1 holds no routing: id 0 in every token and layer"):
        brought_in(folder, Hints(num_experts=E))
    done = import_source(tmp_path / "t", open_source(folder, "vllm", Hints(num_experts=E)), skip_bad=True)
    assert (done.requests, len(done.skipped)) == (2, 1)


@pytest.mark.parametrize(("fill", "top_k"), [(0, 1), (0, 4), (-1, 4), ([0, 1, 2, 3], 4), (255, 1)])
def test_a_cached_prefix_and_padding_are_left_out_by_name(tmp_path, fill, top_k):
    rows = experts_of(20, 8, top_k, E)
    rows[:5], rows[17:] = fill, fill
    np.save(tmp_path / "3.npy", rows.astype(np.int16))
    (tmp_path / "3.json").write_text('{"prompt_tokens": 9}')
    done, meta, (request,) = brought_in(tmp_path / "3.npy", Hints(num_experts=E))
    assert request.position.tolist() == list(range(5, 17))
    assert request.num_prefill == 4
    assert np.array_equal(request.experts, rows[5:17])
    assert "8 tokens without routing left out" in meta.note
    assert len(done.left_out) == 1
    assert "request 3: 8 tokens" in done.left_out[0]


@pytest.mark.parametrize(
    ("fill", "first", "tokens", "layers", "experts"),
    [
        ([0], 4, 10, 4, 16),
        ([0, 1], 3, 12, 6, 16),
        ([1, 0], 3, 12, 6, 16),
        ([14, 15], 8, 12, 6, 16),
        ([255], 6, 10, 4, 256),
        ([7], -2, 12, 5, 16),
    ],
)
def test_short_filler_is_told_by_the_whole_trace(tmp_path, fill, first, tokens, layers, experts):
    folder, kept = tmp_path / "in", []
    folder.mkdir()
    for number in range(20):
        rows = experts_of(tokens, layers, len(fill), experts, seed=number)
        has = np.arange(tokens) < first if first > 0 else np.arange(tokens) >= tokens + first
        if number % 4:
            rows[has] = fill
        kept.append(rows[~has] if number % 4 else rows)
        np.save(folder / f"{number}.npy", rows.astype(np.uint8))
        (folder / f"{number}.json").write_text('{"prompt_tokens": 9}')
    done, meta, requests = brought_in(folder, Hints(num_experts=experts))
    assert all(np.array_equal(request.experts, rows) for request, rows in zip(requests, kept, strict=True))
    assert [request.num_prefill for request in requests[:2]] == [9, 9 - max(first, 0)]
    assert f"{15 * abs(first)} tokens without routing left out" in meta.note
    assert len(done.left_out) == 15
    assert f"in: request 1: {abs(first)} tokens" in done.left_out[0]


def edges_of(requests, experts=E):
    layers, top_k = requests[0].shape[1:]
    meta = TraceMeta(
        model="m", benchmark="*", subject="*", moe_layers=tuple(range(layers)), num_layers=layers, num_experts=experts,
        top_k=top_k, num_requests=1, source="s", note="",
    )  # fmt: skip
    seen, routings = Edges(), []
    for number, rows in enumerate(requests):
        place = np.arange(len(rows), dtype=np.int32)
        routings.append(RequestRouting(request=number, position=place, num_prefill=1, experts=rows.astype(np.int16)))
        seen.add(routings[-1], meta)
    return fills_of(seen, routings, meta)


def test_what_may_be_chance_at_an_edge_is_kept():
    plain = [experts_of(20, 2, 1, 4, seed=number) for number in range(40)]
    shared = np.tile(experts_of(1, 2, 1, 4, seed=1) * 0 + 2, (6, 1, 1))
    assert edges_of(plain, 4) == []
    assert edges_of([np.concatenate([shared, rows]) for rows in plain], 4) == [], "a prompt that repeats one word"
    hot = [np.where(np.random.default_rng(number).random((20, 6, 1)) < 0.95, 3, rows[:, [0]])
           for number, rows in enumerate([experts_of(20, 6, 1, E, seed=n) for n in range(40)])]  # fmt: skip
    assert edges_of(hot) == [], "the expert is as frequent elsewhere"
    prompt = experts_of(9, 4, 2, E, seed=77)
    assert edges_of([np.concatenate([prompt, experts_of(20, 4, 2, E, seed=n)]) for n in range(40)]) == []
    prompt[:3] = [4, 5]
    assert edges_of([np.concatenate([prompt, experts_of(20, 4, 2, E, seed=n)]) for n in range(40)]) == [(4, 5)]


def test_a_single_constant_layer_is_kept_with_a_warning(tmp_path):
    done, meta, _ = brought_in(arrays(tmp_path / "in", 7, dense=(5,)), Hints(num_experts=E))
    assert done.warnings == ("layer 5: every token uses expert 7; kept, as a router may do so",)
    assert done.warnings[0] in meta.note


def test_a_fused_shared_expert_is_named(tmp_path):
    for shared, experts in ((E, E + 1), (E, E), (3, E)):
        rows = experts_of(30, 4, 4, E)
        if shared == 3:
            rows = np.where(rows == 3, 0, rows)
            rows = np.where((rows == 0).sum(axis=2, keepdims=True) > 1, np.arange(4) + 4, rows)
        rows[:, :, 3] = shared
        np.save(tmp_path / "a.npy", rows.astype(np.uint8))
        with pytest.raises(TraceError, match=f"expert {shared} is used by every token in every layer: a shared expert"):
            brought_in(tmp_path / "a.npy", Hints(num_experts=experts))


@pytest.mark.parametrize("kind", ["sglang", "csv", "jsonl"])
def test_every_reader_finds_dense_layers(tmp_path, kind):
    rows = experts_of(12, 6, 4, E)
    rows[:, :2] = [0, 1, 2, 3]
    path = tmp_path / "a.pt"
    if kind == "sglang":
        save_sglang(path, [(range(12), [12], rows)], np.tile(np.arange(E), (6, 1)))
    elif kind == "csv":
        path = save_csv(tmp_path / "a.csv", [rows], first_layer=0)
    else:
        path = save_jsonl(tmp_path / "a.jsonl", {"a": rows})
    with pytest.raises(TraceError, match=r"layers 0-1: every token uses experts 0, 1, 2, 3, .* --moe-layers 2-5, or"):
        brought_in(path, Hints(num_experts=E), kind)
    _, meta, (request,) = brought_in(path, Hints(num_experts=E, moe_layers=(2, 3, 4, 5)), kind)
    assert meta.moe_layers == (2, 3, 4, 5)
    assert np.array_equal(request.experts, rows[:, 2:])
    with pytest.raises(TraceError, match="layer 2 has differing experts, and --moe-layers says"):
        brought_in(path, Hints(num_experts=E, moe_layers=(3, 4, 5)), kind)


def saved(folder, requests):
    folder.mkdir(exist_ok=True)
    for number, rows in enumerate(requests):
        np.save(folder / f"{number}.npy", rows.astype(np.uint8))
    return folder


def test_layers_that_copy_another_are_named(tmp_path):
    requests = [experts_of(10, 8, 2, E, seed=number) for number in range(20)]
    for rows in requests:
        rows[:, 3], rows[:, 5] = rows[:, 2], rows[:, 4]
    folder = saved(tmp_path / "in", requests)
    right = "0-2,4,6-7"
    with pytest.raises(TraceError, match=rf"layers 3,5: every token has the experts of layer 2, 4 again.* {right}"):
        brought_in(folder, Hints(num_experts=E))
    _, meta, read = brought_in(folder, Hints(num_experts=E, moe_layers=(0, 1, 2, 4, 6, 7)))
    assert np.array_equal(read[3].experts, requests[3][:, list(meta.moe_layers)])
    requests[7][2, 3], requests[7][2, 5] = [14, 15], [13, 12]
    assert len(brought_in(saved(tmp_path / "other", requests), Hints(num_experts=E))[2]) == 20


def test_layers_constant_within_each_request_are_named(tmp_path):
    requests = [experts_of(10, 8, 2, E, seed=number) for number in range(20)]
    for number, rows in enumerate(requests):
        rows[:, 0], rows[:, 4] = [number % E, (number + 1) % E], [number * 3 % E, (number * 3 + 1) % E]
    folder = saved(tmp_path / "in", requests)
    with pytest.raises(TraceError, match=r"layers 0,4: all tokens of a request have the same experts, .* 1-3,5-7"):
        brought_in(folder, Hints(num_experts=E))
    assert len(brought_in(folder, Hints(num_experts=E, moe_layers=(1, 2, 3, 5, 6, 7)))[2]) == 20
    for rows in requests:
        rows[:, 4] = experts_of(10, 1, 2, E, seed=5)[:, 0]
    assert len(brought_in(saved(tmp_path / "one", requests), Hints(num_experts=E))[2]) == 20, "a single one is kept"


def test_tokens_or_layers_that_are_all_alike_are_kept(tmp_path):
    """A token that is repeated, or an example made by hand: no layer differs, so none is told to be dense."""
    alike = [np.tile(experts_of(1, 8, 2, E, seed=number), (30, 1, 1)) for number in range(20)]
    assert len(brought_in(saved(tmp_path / "tokens", alike), Hints(num_experts=E))[2]) == 20
    tiled = [np.tile(experts_of(30, 1, 2, E, seed=number), (1, 8, 1)) for number in range(20)]
    assert len(brought_in(saved(tmp_path / "layers", tiled), Hints(num_experts=E))[2]) == 20


def test_a_fused_shared_expert_of_several_ids_is_named(tmp_path):
    requests = []
    for number in range(20):
        rows = experts_of(10, 8, 3, E, seed=number)
        rows[:, :, 2] = E + np.arange(10)[:, None] % 2
        requests.append(rows)
    with pytest.raises(TraceError, match="one of experts 16, 17 is used by every token in every layer, always in"):
        brought_in(saved(tmp_path / "in", requests), Hints(num_experts=E + 2))
    grouped = [experts_of(10, 8, 4, 4, seed=number) + 4 * np.arange(4) for number in range(20)]
    assert len(brought_in(saved(tmp_path / "groups", grouped), Hints(num_experts=E))[2]) == 20, "an expert a group"


def test_honest_small_traces_are_kept(tmp_path):
    cases = [
        (np.array([[[0], [0], [0]]]), 4),  # one token
        (np.array([[[1], [0]], [[1], [0]], [[1], [0]]]), 2),  # three tokens of two experts
        (np.tile(np.arange(4), (30, 6, 1)), 4),  # all experts always
        (experts_of(40, 1, 1, 8) * 0 + 5, 8),  # one layer
        (np.stack([np.full((2, 1), 3), np.full((2, 1), 5)], axis=1), 8),  # two tokens alike
    ]
    for number, (rows, experts) in enumerate(cases):
        np.save(tmp_path / f"{number}.npy", rows.astype(np.uint8))
        done, _, (request,) = brought_in(tmp_path / f"{number}.npy", Hints(num_experts=experts))
        assert len(request.position) == len(rows), number
        assert not done.left_out


def test_a_trace_with_filler_is_said_to_be_one():
    meta = TraceMeta(
        model="m", benchmark="*", subject="*", moe_layers=(0, 1, 2, 3), num_layers=4, num_experts=E, top_k=1,
        num_requests=1, source="s", note="",
    )  # fmt: skip
    rows = experts_of(20, 4, 1, E).astype(np.int16)

    def said(rows):
        request = RequestRouting(request=0, position=np.arange(len(rows), dtype=np.int32), num_prefill=4, experts=rows)
        return filler_in([request], meta)

    assert said(rows) == []
    dense, head = rows.copy(), rows.copy()
    dense[:, :2], head[:6] = 0, 0
    assert "layers 0-1: every token uses expert 0" in said(dense)[0]
    assert "6 tokens of 1 requests have the lowest ids in every layer" in said(head)[0]
    assert len(said(head)) == 1
    head = experts_of(60, 4, 1, E).astype(np.int16)
    head[:6] = 9
    assert said(head)[0].startswith(
        "the trace holds data that is not routing: expert 9 in every layer, as filler has, at the"
    )


def test_experts_without_weights_are_counted(tmp_path):
    rows = experts_of(40, 4, 3, 12)
    np.save(tmp_path / "a.npy", rows.astype(np.int16))
    share = f"{(rows >= 8).mean():.1%} of the choices are of the 4 experts a layer without weights: no work"
    _, meta, (request,) = brought_in(tmp_path / "a.npy", Hints(num_experts=8, zero_experts=4))
    assert (meta.num_experts, meta.zero_experts, meta.num_choices) == (8, 4, 12)
    assert share in meta.note
    assert np.array_equal(request.experts, rows)
    with pytest.raises(TraceError, match=r"ids lie in 0\.\.7; if ids from 8 on .* --zero-experts"):
        brought_in(tmp_path / "a.npy", Hints(num_experts=8))
    done = CliRunner().invoke(cli, ["trace", "show", str(tmp_path / "t.parquet")])
    assert f"{(rows >= 8).mean():.1%} of the choices in decode" in done.output


def test_a_run_says_that_its_trace_holds_filler(tmp_path):
    """A trace that was imported before filler was told from routing."""
    rows = experts_of(20, 4, 1, E).astype(np.int16)
    rows[:, [0, 2]] = 0
    meta = TraceMeta(
        model="m", benchmark="*", subject="*", moe_layers=(0, 1, 2, 3), num_layers=4, num_experts=E, top_k=1,
        num_requests=1, source="s", note="",
    )  # fmt: skip
    request = RequestRouting(request=0, position=np.arange(20, dtype=np.int32), num_prefill=4, experts=rows)
    write_trace(tmp_path / "t.parquet", meta, [request])
    model = {"name": "m", "num_layers": 4, "moe_layers": [0, 1, 2, 3], "num_experts": E, "top_k": 1}
    config = {
        "model": {**model, "hidden_size": 64, "moe_intermediate_size": 64},
        "trace": {"path": str(tmp_path / "t.parquet")},
        "wafer": "dojo",
        "network": "fluid",
        "batch": 2,
        "steps": 1,
        "policies": ["ep"],
        "baseline": "ep",
    }
    (tmp_path / "r.yaml").write_text(yaml.safe_dump(config))
    done = CliRunner().invoke(cli, ["run", str(tmp_path / "r.yaml"), "--out", str(tmp_path / "r"), "--quiet"])
    assert done.exit_code == 0, done.output
    assert "the trace holds data that is not routing: layers 0,2: every token uses expert 0" in done.output
    assert "warning: layers 0,2" in CliRunner().invoke(cli, ["trace", "show", str(tmp_path / "t.parquet")]).output


def test_the_command_says_what_it_left_out_and_takes_no_option_for_nothing(tmp_path):
    rows = experts_of(20, 8, 4, E)
    rows[:5] = 0
    np.save(tmp_path / "3.npy", rows.astype(np.int16))
    command = ["trace", "import", str(tmp_path / "3.npy"), "--experts", str(E), "--out", str(tmp_path / "t"), "--quiet"]
    done = CliRunner().invoke(cli, command)
    assert done.exit_code == 0, done.output
    assert "request 3: 5 tokens without routing left out" in done.output
    for options, message in (
        (["--lengths", "3,x"], "--lengths 3,x: is not a list of lengths"),
        (["--lengths", "3"], "--lengths: for router logits alone"),
        (["--score", "sigmoid", "--groups", "2"], "--score, --groups: for router logits alone"),
        (["--drop-warmup"], "--drop-warmup: for route logs"),
    ):
        done = CliRunner().invoke(cli, [*command, "--force", *options])
        assert done.exit_code != 0
        assert message in str(done.exception), options
