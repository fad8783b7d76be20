"""Experts chosen from router logits as the model's router chooses them, and batches taken apart."""

import json

import numpy as np
import pytest
from kit.trace_files import save_pt

from wss.config.models import model_of
from wss.errors import TraceError
from wss.models import MODELS
from wss.models.router import Router
from wss.models.routers import ROUTERS, router_of
from wss.traces.importers import Hints, RouterHints, open_source

L, T, E, K = 2, 9, 16, 4
LOGITS = np.random.default_rng(5).normal(size=(L, T, E)).astype(np.float32)
BIAS = np.random.default_rng(6).normal(size=(L, E)) * 0.3


def chosen(logits, bias, groups, limit, score):
    """The plain twin: token by token, in words of the papers."""
    result = np.empty((*logits.shape[:2], K), int)
    for at, token in np.ndindex(logits.shape[:2]):
        x = logits[at, token].astype(float)
        s = 1 / (1 + np.exp(-x)) if score == "sigmoid" else np.exp(x) / np.exp(x).sum()
        s = s + bias[at]
        best = 2 if score == "sigmoid" else 1
        parts = s.reshape(groups, -1)
        kept = np.argsort([-np.sort(part)[-best:].sum() for part in parts], kind="stable")[:limit]
        allowed = [e for e in range(E) if e // (E // groups) in kept]
        result[at, token] = sorted(allowed, key=lambda e: (-s[e], e))[:K]
    return result


@pytest.mark.parametrize("score", ["sigmoid", "softmax"])
@pytest.mark.parametrize(("groups", "limit"), [(1, 1), (4, 2), (8, 4)])
@pytest.mark.parametrize("bias", [BIAS, BIAS * 0])
def test_a_router_chooses_as_by_hand(score, groups, limit, bias):
    router = Router(score=score, groups=groups, topk_groups=limit)
    right = chosen(LOGITS, bias, groups, limit, score)
    assert np.array_equal(router.choose(LOGITS, K, bias if bias.any() else None), right)
    if groups == 4:
        assert not np.array_equal(Router(score="softmax").choose(LOGITS, K), right), "the case would show nothing"


def read(path, top_k=K, **said):
    source = open_source(path, "logits", Hints(top_k=top_k, router=RouterHints(**said)))
    return list(source.requests()), source


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_options_choose_the_router(tmp_path, dtype):
    logits = LOGITS.astype(dtype)
    np.save(tmp_path / "l.npy", logits)
    np.save(tmp_path / "b.npy", BIAS)
    (tmp_path / "b.json").write_text(json.dumps(BIAS.tolist()))
    np.savez(tmp_path / "b.npz", **{f"layers.{at + 9}.gate.bias": BIAS[at] for at in (1, 0)})
    right = chosen(logits, BIAS, 8, 4, "sigmoid").transpose(1, 0, 2)
    for name in ("b.npy", "b.json", "b.npz"):
        (request,), source = read(tmp_path / "l.npy", score="sigmoid", groups=8, topk_groups=4, bias=tmp_path / name)
        assert np.array_equal(request.experts, right)
        assert "sigmoid scores with a correction bias, within 4 of 8 groups" in source.meta.note
        assert source.warnings == ()


def test_what_a_router_needs_is_refused_or_warned_about(tmp_path):
    np.save(tmp_path / "l.npy", LOGITS)
    _, source = read(tmp_path / "l.npy")
    assert source.warnings
    assert "the router of this model is not known" in source.meta.note
    np.save(tmp_path / "short.npy", BIAS[:1])
    wrong = [
        ({"groups": 3, "topk_groups": 2, "score": "sigmoid"}, "3 groups do not divide 16 experts"),
        ({"groups": 8, "topk_groups": 9, "score": "sigmoid"}, "topk_groups 9 of 8 groups"),
        ({"groups": 8, "topk_groups": 1, "score": "sigmoid"}, "1 groups have 2 experts, fewer than top-4"),
        ({"groups": 8, "score": "sigmoid"}, "--groups 8 needs --topk-groups"),
        ({"groups": 8, "topk_groups": 4}, "say which with --score"),
        ({"bias": tmp_path / "short.npy"}, "say which with --score"),
        ({"bias": tmp_path / "short.npy", "score": "sigmoid"}, r"has a bias \[1, 16\].* \[2, 16\]"),
        ({"bias": tmp_path / "none.npy", "score": "sigmoid"}, "cannot be read"),
    ]
    for said, message in wrong:
        with pytest.raises(TraceError, match=message):
            read(tmp_path / "l.npy", **said)
    with pytest.raises(TraceError, match="--score, --groups: for router logits alone"):
        open_source(tmp_path / "l.npy", "vllm", Hints(num_experts=4, router=RouterHints(score="sigmoid", groups=2)))


def test_known_models_say_what_their_routers_are(tmp_path):
    assert set(ROUTERS) == set(MODELS)
    assert router_of(MODELS["deepseek_v3"]) == Router(score="sigmoid", groups=8, topk_groups=4, needs_bias=True)
    for name in ("deepseek_v3", "kimi_k2"):
        model = MODELS[name]
        layers = len(model.moe_layers)
        logits = np.random.default_rng(1).normal(size=(layers, 2, model.num_experts))
        np.save(tmp_path / "l.npy", logits)
        with pytest.raises(TraceError, match=r"adds a correction bias to its scores.* give --bias FILE"):
            open_source(tmp_path / "l.npy", "logits", Hints(model=model))
        np.save(tmp_path / "b.npy", np.zeros((layers, model.num_experts)))
        hints = Hints(model=model, router=RouterHints(bias=tmp_path / "b.npy"))
        (request,) = open_source(tmp_path / "l.npy", "logits", hints).requests()
        groups = {len({e // 32 for e in ids}) for ids in request.experts.reshape(-1, 8).tolist()}
        assert max(groups) <= 4 or name == "kimi_k2"


def batch(folder, **beside):
    """Three sequences of 4 rows: 12 tokens a layer."""
    layers = [np.random.default_rng(at).normal(size=(12, E)).astype(np.float32) for at in range(L)]
    save_pt(folder / "l.pt", {"router_logits": tuple(layers), **beside})
    return folder / "l.pt", np.argsort(-np.stack(layers), axis=2, kind="stable")[..., :K].transpose(1, 0, 2)


def test_a_batch_is_a_request_a_sequence_without_padding(tmp_path):
    left = np.array([[0, 0, 1, 1], [1, 1, 1, 1], [0, 1, 1, 1]])
    right = np.array([[1, 1, 0, 0], [1, 1, 1, 1], [1, 1, 1, 0]])
    for mask, beside in ((left, {"attention_mask": left}), (right, {"lengths": np.array([2, 4, 3])})):
        path, top = batch(tmp_path, **beside)
        requests, source = read(path)
        assert [len(r.position) for r in requests] == [2, 4, 3]
        for row, request in enumerate(requests):
            assert np.array_equal(request.experts, top[4 * row : 4 * row + 4][mask[row] == 1])
            assert (request.num_prefill, request.position[0]) == (len(request.position), 0)
        assert source.remarks["rows of padding left out"] == 3
    path, top = batch(tmp_path)
    assert [len(r.position) for r in read(path)[0]] == [12]
    assert [len(r.position) for r in read(path, lengths=(5, 7))[0]] == [5, 7]
    (tmp_path / "l.json").write_text(json.dumps({"attention_mask": left.tolist()}))
    assert [len(r.position) for r in read(path)[0]] == [2, 4, 3]
    (tmp_path / "l.json").write_text(json.dumps({"attention_mask": [[1, 2]]}))
    with pytest.raises(TraceError, match=r"has attention_mask \[1, 2\] for 12 tokens"):
        read(path)
    with pytest.raises(TraceError, match="has 12 rows; --lengths says 2 sequences of up to 9 tokens"):
        read(path, lengths=(9, 1))


def test_arrays_of_a_batch_have_three_dimensions(tmp_path):
    layers = [np.random.default_rng(at).normal(size=(3, 4, E)) for at in range(L)]
    np.savez(tmp_path / "l.npz", *layers, attention_mask=np.array([[1, 1, 1, 1], [1, 1, 0, 0], [1, 0, 0, 0]]))
    assert [len(r.position) for r in list(open_source(tmp_path / "l.npz", None, Hints(top_k=K)).requests())] == [
        4,
        2,
        1,
    ]


def test_layers_of_another_type_are_refused(tmp_path):
    """Two types that have no common one cannot be stacked."""
    times = np.zeros((5, E), "datetime64[s]")
    np.savez(tmp_path / "l.npz", np.random.default_rng(0).normal(size=(5, E)), times)
    with pytest.raises(TraceError, match=rf"l.npz: holds datetime64\[s\] \[5, {E}\]; logits are floating-point"):
        read(tmp_path / "l.npz")


def test_named_layers_are_sorted_by_number_or_refused(tmp_path):
    layers = np.random.default_rng(2).normal(size=(12, 5, E))
    right = np.argsort(-layers, axis=2, kind="stable")[..., :K].transpose(1, 0, 2)
    for name in ("layer_{}", "model.layers.{}.gate2"):
        np.savez(tmp_path / "l.npz", **{name.format(at): layers[at] for at in sorted(range(12), key=str)})
        assert np.array_equal(read(tmp_path / "l.npz")[0][0].experts, right)
    np.savez(tmp_path / "l.npz", *layers)
    assert np.array_equal(read(tmp_path / "l.npz")[0][0].experts, right)
    for names in (("first", "second"), ("layer_0", "gate_1"), ("l0_s0", "l1_s1"), ("l1", "l01"), ("layer", "layer_1")):
        np.savez(tmp_path / "l.npz", **dict(zip(names, layers[:2], strict=True)))
        with pytest.raises(TraceError, match=rf"holds {', '.join(names)}, which do not say what layer each is; give"):
            read(tmp_path / "l.npz")


@pytest.mark.parametrize(
    ("beside", "message"),
    [
        ({"attention_mask": np.ones((4, 3), int)}, r"has attention_mask \[4, 3\] for logits of .* \[3, 4\]"),
        ({"mask": np.ones((2, 6), int)}, r"has mask \[2, 6\] for logits of"),
        (
            {"lengths": np.array([5, 4, 3])},
            "has 3 sequences of 4 rows; lengths says 3 sequences of up to 5 tokens; give",
        ),
        ({"lengths": np.array([3, 3, 3, 3])}, "has 3 sequences of 4 rows; lengths says 4 sequences of up to 3"),
        ({"lengths": np.array([4, 4])}, "has 3 sequences of 4 rows; lengths says 2 sequences"),
        (
            {"attention_mask": np.ones((3, 4), int), "lengths": np.array([4, 4, 3])},
            r"attention_mask has sequences of \[4, 4, 4\] tokens, lengths of \[4, 4, 3\]; keep the correct one",
        ),
    ],
)
def test_a_mask_or_lengths_fit_the_arrays(tmp_path, beside, message):
    layers = [np.random.default_rng(at).normal(size=(3, 4, E)) for at in range(L)]
    np.savez(tmp_path / "l.npz", *layers, **beside)
    with pytest.raises(TraceError, match=message):
        read(tmp_path / "l.npz")


def test_lengths_of_shaped_arrays_are_right_padded(tmp_path):
    layers = np.random.default_rng(0).normal(size=(L, 3, 4, E))
    mask = np.array([[1, 1, 1, 1], [1, 1, 0, 0], [1, 0, 0, 0]])
    np.savez(tmp_path / "l.npz", *layers, lengths=np.array([4, 2, 1]), attention_mask=mask)
    requests, _ = read(tmp_path / "l.npz")
    top = np.argsort(-layers, axis=3, kind="stable")[..., :K]
    assert np.array_equal(requests[1].experts, top[:, 1, :2].transpose(1, 0, 2))
    with pytest.raises(TraceError, match=r"attention_mask has .* --lengths of \[4, 4, 4\]"):
        read(tmp_path / "l.npz", lengths=(4, 4, 4))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("attn_mask", [[1, 1], [1, 0]]),
        ("padding_mask", [[0, 0], [0, 1]]),
        ("input_mask", [[1, 1], [1, 0]]),
        ("cu_seqlens", [0, 5, 12]),
        ("prompt_lens", [5, 7]),
        ("seq_len", 4),
    ],
)
def test_a_mask_or_lengths_by_another_name_are_refused(tmp_path, name, value):
    message = rf"l\.\w+: has {name}, which is not read: it may say which rows are padding; give attention_mask"
    path, _ = batch(tmp_path, **{name: np.array(value) if isinstance(value, list) else value})
    with pytest.raises(TraceError, match=message):
        read(path)
    np.savez(tmp_path / "l.npz", *LOGITS, **{name: np.array([value])})
    with pytest.raises(TraceError, match=message):
        read(tmp_path / "l.npz")
    np.save(tmp_path / "l.npy", LOGITS)
    (tmp_path / "l.json").write_text(json.dumps({name: value}))
    with pytest.raises(TraceError, match=message):
        read(tmp_path / "l.npy")


def test_what_else_stands_beside_logits_is_left_alone(tmp_path):
    beside = {"seqlens": np.array([5, 7]), "max_length": 99, "length_penalty": 1.0, "prompt": "a silent mask"}
    path, _ = batch(tmp_path, **beside)
    assert [len(request.position) for request in read(path)[0]] == [5, 7]


SIZES = {
    **{"num_hidden_layers": 2, "hidden_size": 64, "moe_intermediate_size": 64, "intermediate_size": 64},
    **{"num_experts": E, "num_experts_per_tok": K},
}


@pytest.mark.parametrize(
    ("config", "router"),
    [
        ({"model_type": "kimi_k2", "n_group": 1, "topk_group": 1}, Router(score="sigmoid", needs_bias=True)),
        ({"model_type": "glm4_moe"}, Router(score="sigmoid", needs_bias=True)),
        ({"use_routing_bias": True, "scoring_func": "sigmoid"}, Router(score="sigmoid", needs_bias=True)),
        (
            {"topk_method": "noaux_tc", "n_group": 8, "topk_group": 4},
            Router(score="sigmoid", groups=8, topk_groups=4, needs_bias=True),
        ),
        (
            {"n_group": 4, "topk_group": 2, "score_function": "sigmoid", "moe_router_enable_expert_bias": True},
            Router(score="sigmoid", groups=4, topk_groups=2, needs_bias=True),
        ),
        ({"model_type": "lfm2_moe", "use_expert_bias": True}, Router(score="sigmoid", needs_bias=True)),
        ({"model_type": "lfm2_moe", "use_expert_bias": False}, Router(score="sigmoid")),
        (
            {"model_type": "longcat_flash", "num_layers": 2, "router_bias": False},
            Router(score="softmax", needs_bias=True),
        ),
        (
            {"topk_method": "group_limited_greedy", "scoring_func": "softmax", "n_group": 8, "topk_group": 3},
            Router(score="softmax", groups=8, topk_groups=3),
        ),
        (
            {"model_type": "deepseek_v3", "topk_method": "greedy", "scoring_func": "softmax", "n_group": 8},
            Router(score="softmax"),
        ),
        ({"topk_method": "noaux_tc", "scoring_func": "sqrtsoftplus"}, Router(score=None, needs_bias=True)),
        ({"scoring_func": "softmax", "n_group": 8}, Router(score="softmax", groups=8, topk_groups=None)),
        ({"model_type": "qwen3_moe", "n_group": False, "topk_group": False}, None),
    ],
)
def test_a_config_says_what_the_router_needs(tmp_path, config, router):
    (tmp_path / "config.json").write_text(json.dumps(SIZES | config))
    model = model_of(str(tmp_path / "config.json"))
    assert router_of(model) == router
    np.save(tmp_path / "l.npy", LOGITS)
    np.save(tmp_path / "b.npy", BIAS)

    def take(**said):
        source = open_source(tmp_path / "l.npy", "logits", Hints(model=model, router=RouterHints(**said)))
        return next(source.requests()).experts, source

    if router is None:
        assert take()[1].warnings
    elif router.needs_bias:
        with pytest.raises(TraceError, match=r"adds a correction bias to its scores.* give --bias FILE"):
            take()
    bias = {"bias": tmp_path / "b.npy"} if router and router.needs_bias else {}
    if router and router.score is None:
        with pytest.raises(TraceError, match="by a rule that is not supported; give --score"):
            take(**bias)
    elif router and router.topk_groups is None:
        with pytest.raises(TraceError, match="has 8 groups; give --topk-groups, how many a token may use"):
            take()
    elif router:
        right = chosen(LOGITS, BIAS if bias else BIAS * 0, router.groups, router.topk_groups, router.score)
        experts, source = take(**bias)
        assert np.array_equal(experts, right.transpose(1, 0, 2))
        assert source.warnings == ()
