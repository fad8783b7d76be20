"""A batch becomes layer runs: counts, first-seen order, and a heatmap of the past alone."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wss.models import MODELS, ModelShape
from wss.traces import CountedReplay, Replay, RequestRouting, SynthReplay
from wss.traces.synthetic import source as stepped
from wss.traces.synthetic.spec import SYNTHS, SynthSpec, synthesise


def request(number, prefill, *experts, first=0):
    """One layer, top-1: *experts* one a token, the first *prefill* of them prefill."""
    routing = np.array(experts, np.int16).reshape(-1, 1, 1)
    return RequestRouting(
        request=number,
        position=np.arange(first, first + len(experts), dtype=np.int32),
        num_prefill=prefill,
        experts=routing,
    )


def kernels_of(requests, batch, steps, num_experts=4):
    return [
        (k.step, k.counts.tolist(), k.order.tolist(), k.heat.copy())
        for k in Replay(requests, batch, steps, [0], num_experts).layer_runs()
    ]


def test_prefill_is_step_0_and_decode_follows():
    requests = [request(0, 2, 3, 1, 0, 2), request(1, 1, 3, 2, 2)]
    steps = kernels_of(requests, 2, 2)
    assert [(step, counts) for step, counts, _, _ in steps] == [
        (0, [0, 1, 0, 2]),
        (1, [1, 0, 1, 0]),
        (2, [0, 0, 2, 0]),
    ]
    assert steps[0][2] == [3, 1]
    assert steps[1][2] == [0, 2]


def test_heat_counts_adjacent_tokens_up_to_the_present_step():
    steps = kernels_of([request(0, 2, 3, 1, 0, 2)], 1, 2)
    assert [np.argwhere(heat).tolist() for *_, heat in steps] == [
        [[3, 1]],
        [[1, 0], [3, 1]],
        [[0, 2], [1, 0], [3, 1]],
    ]


def test_tokens_that_are_not_neighbours_are_no_pair():
    gap = RequestRouting(
        request=0,
        position=np.array([0, 2], np.int32),
        num_prefill=1,
        experts=np.array([1, 2], np.int16).reshape(2, 1, 1),
    )
    assert kernels_of([gap], 1, 1)[1][3].sum() == 0


def test_a_request_that_has_ended_contributes_nothing():
    steps = kernels_of([request(0, 1, 0, 1), request(1, 1, 0, 2, 3)], 2, 2)
    assert [counts for _, counts, _, _ in steps] == [[2, 0, 0, 0], [0, 1, 1, 0], [0, 0, 0, 1]]


def test_a_larger_batch_repeats_the_requests_cyclically():
    requests = [request(0, 1, 0, 1), request(1, 1, 0, 2)]
    steps = kernels_of(requests, 5, 1)
    assert steps[1][1] == [0, 3, 2, 0]
    assert steps[1][3].tolist() == [[0, 3, 2, 0], [0] * 4, [0] * 4, [0] * 4]


def test_without_prefill_there_is_no_step_0():
    replay = Replay([request(0, 0, 1, 2, first=9)], 1, 2, [0], 4)
    assert not replay.has_prefill
    assert [k.step for k in replay.layer_runs()] == [1, 2]


@given(st.lists(st.lists(st.integers(0, 3), min_size=3, max_size=6), min_size=1, max_size=5), st.integers(1, 12))
def test_repeating_is_the_same_as_writing_the_requests_out(experts, batch):
    requests = [request(i, 1, *row) for i, row in enumerate(experts)][:batch]
    written_out = [request(i, 1, *experts[i % len(requests)]) for i in range(batch)]
    for short, long in zip(kernels_of(requests, batch, 2), kernels_of(written_out, batch, 2), strict=True):
        assert short[:3] == long[:3]
        assert np.array_equal(short[3], long[3])


def test_the_step_from_prompt_to_decode_can_be_left_out_of_the_heat():
    replay = Replay([request(0, 2, 3, 1, 0, 2)], 1, 2, [0], 4, across_phases=False)
    assert [np.argwhere(k.heat).tolist() for k in replay.layer_runs()][-1] == [[0, 2], [3, 1]]


def test_continuous_replay_lets_the_next_request_in_as_one_ends():
    """Two slots; requests decode 1, 3 and 2 tokens; the third takes the first's place after step 1."""
    requests = [request(0, 1, 0, 1), request(1, 1, 0, 2, 2, 2), request(2, 2, 0, 0, 3, 3), request(3, 1, 0, 1)]
    replay = Replay(requests, 2, 3, [0], 4, continuous=True)
    assert [(k.step, k.counts.tolist()) for k in replay.layer_runs()] == [
        (0, [2, 0, 0, 0]),
        (1, [0, 1, 1, 0]),
        (2, [0, 0, 1, 1]),
        (3, [0, 0, 1, 1]),
    ]
    assert [replay.tokens(step) for step in (1, 2, 3)] == [2, 2, 2]


def test_what_followed_in_the_next_layer_is_counted_of_the_steps_before():
    """One request, layer by layer: prefill 0 -> 2; decode 1 -> 2, then 1 -> 0; nothing follows the last layer."""
    experts = np.array([[[0], [2]], [[1], [2]], [[1], [0]]])
    told = RequestRouting(
        request=0, position=np.arange(3, dtype=np.int32), num_prefill=1, experts=experts.astype(np.int16)
    )
    layer_runs = list(Replay([told], 5, 2, [0, 1], 3, layer_heat=True).layer_runs())
    seen = []
    for layer_run in Replay([told], 5, 2, [0, 1], 3, layer_heat=True).layer_runs():
        seen.append(layer_run.next_heat.copy())
    assert [heat.tolist() for heat in seen[::2]] == [
        [[0, 0, 0]] * 3,
        [[0, 0, 5], [0, 0, 0], [0, 0, 0]],
        [[0, 0, 5], [0, 0, 5], [0, 0, 0]],
    ]
    assert not any(heat.any() for heat in seen[1::2])
    assert [k.next_heat for k in Replay([told], 5, 2, [0, 1], 3).layer_runs()] == [None] * len(layer_runs)


@given(
    st.lists(st.tuples(st.integers(0, 3), st.lists(st.integers(0, 5), min_size=4, max_size=9)), min_size=1, max_size=6),
    st.integers(0, 9),
    st.integers(1, 6),
)
def test_counting_a_stream_gives_the_same_kernels(drawn, more, steps):
    requests = [request(i, prefill, *experts) for i, (prefill, experts) in enumerate(drawn)]
    batch = len(requests) + more
    held = Replay(requests, batch, steps, [0], 6)
    counted = CountedReplay(iter(requests), len(requests), batch, steps, [0], 6)
    assert held.has_prefill == counted.has_prefill
    assert [held.tokens(step) for step in range(steps + 1)] == [counted.tokens(step) for step in range(steps + 1)]
    for a, b in zip(held.layer_runs(), counted.layer_runs(), strict=True):
        assert (a.step, a.layer, a.next_layer) == (b.step, b.layer, b.next_layer)
        assert a.counts.tolist() == b.counts.tolist()
        assert a.order.tolist() == b.order.tolist()
        assert a.next_seen.tolist() == b.next_seen.tolist()


def assert_same_kernels(spec, shape, seed, requests, batch, steps, layers, **how):
    """`SynthReplay` gives what `Replay` does of the whole trace; without heat, the same but for that."""
    trace = list(synthesise(spec, shape, seed, requests=requests, decode_tokens=steps))
    held = Replay(trace, batch, steps, layers, shape.num_experts, layer_heat=True, **how)
    made, cold = (
        SynthReplay(spec, shape, seed, requests, batch, steps, layers, heat=heat, layer_heat=heat, routed=routed, **how)
        for heat, routed in ((True, False), (False, True))
    )
    assert (made.has_prefill, made.num_requests, made.layers) == (held.has_prefill, held.num_requests, held.layers)
    assert [held.tokens(step) for step in range(steps + 1)] == [made.tokens(step) for step in range(steps + 1)]
    for a, b, c in zip(held.layer_runs(), made.layer_runs(), cold.layer_runs(), strict=True):
        for other in (b, c):
            assert (a.step, a.layer, a.next_layer) == (other.step, other.layer, other.next_layer)
            assert a.counts.tolist() == other.counts.tolist()
            assert a.order.tolist() == other.order.tolist()
            assert a.next_seen.tolist() == other.next_seen.tolist()
        assert np.array_equal(a.heat, b.heat)
        assert np.array_equal(a.next_heat, b.next_heat)
        assert not c.heat.any()
        assert c.next_heat is None
        is_there = c.routed.times > 0
        assert np.array_equal(a.routed.experts, c.routed.experts[is_there])
        assert np.array_equal(a.routed.times, c.routed.times[is_there])
        assert b.routed is None


@pytest.mark.parametrize("name", ["deepseek_v3", "qwen3_235b", "kimi_k2", "llama4_maverick"])
def test_a_synthetic_trace_in_the_order_of_time_is_the_same(name):
    """More tokens than are made at a time, and a batch that repeats some requests."""
    assert_same_kernels(SYNTHS[name], MODELS[name], 3, 400, 500, 2, [0, 1, 7, len(MODELS[name].moe_layers) - 1])


@settings(deadline=None, max_examples=100)
@given(st.data())
def test_any_synthetic_trace_in_the_order_of_time_is_the_same(data):
    whole, share = st.integers(1, 6), st.sampled_from([0.0, 0.3, 1.0])
    layers = data.draw(st.lists(st.integers(0, 4), min_size=1, unique=True).map(sorted))
    experts, prompt = data.draw(st.integers(1, 12)), data.draw(whole)
    spec = SynthSpec(
        clusters=data.draw(whole),
        carry=data.draw(share),
        sticky_first=data.draw(share),
        sticky_last=data.draw(share),
        subjects=data.draw(whole),
        prompt_min=prompt,
        prompt_max=prompt + data.draw(st.integers(0, 4)),
        decode_tokens=8,
        drift_at=data.draw(st.integers(0, 4)),
        drift_share=data.draw(share),
    )
    shape = ModelShape(
        name="org/tiny",
        num_layers=9,
        moe_layers=(1, 3, 4, 7, 8),
        num_experts=experts,
        top_k=min(experts, data.draw(whole)),
        hidden_size=8,
        moe_intermediate_size=8,
    )
    requests, steps = data.draw(st.integers(1, 9)), data.draw(st.integers(1, 5))
    batch = requests + data.draw(st.integers(0, 20))
    across = data.draw(st.booleans())
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(stepped, "_ROWS", data.draw(st.integers(1, 30)))
        assert_same_kernels(spec, shape, 5, requests, batch, steps, layers, across_phases=across)
