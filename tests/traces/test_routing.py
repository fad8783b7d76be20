"""A batch becomes layer runs: counts, first-seen order, and transitions of the past alone."""

from functools import partial
from unittest.mock import patch

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from kit.old_replays import CountedReplay, Replay, SynthReplay

from wss.models import MODELS, ModelShape
from wss.records import Batch
from wss.serving.routing_stream import RoutingStream
from wss.serving.scheduler import Schedule
from wss.traces import RecordedRouting, RequestRouting, SyntheticRouting
from wss.traces.synthetic import source as synthetic
from wss.traces.synthetic.spec import SYNTHS, SynthSpec, prompt_lengths, synthesise
from wss.traces.transitions import RoutingCounts
from wss.workload.request import fixed_batch


def request(number, prefill, *experts, first=0):
    """One layer, top-1: *experts* one a token, the first *prefill* of them prefill."""
    routing = np.array(experts, np.int16).reshape(-1, 1, 1)
    return RequestRouting(
        request=number,
        position=np.arange(first, first + len(experts), dtype=np.int32),
        num_prefill=prefill,
        experts=routing,
    )


def stream_of(requests, batch, steps, layers, num_experts, *, scheduler="static", **signals):
    """The layer runs of recorded *requests*; transitions are counted unless *signals* says otherwise."""
    lengths = [r.num_prefill for r in requests], [r.num_decode for r in requests]
    schedule = Schedule(scheduler, fixed_batch(*lengths, batch), batch, steps)
    counts = partial(RoutingCounts, len(layers), num_experts, **{"transitions": True, **signals})
    source = RecordedRouting(requests, schedule.computed, layers, num_experts)
    return RoutingStream(schedule, source, counts, num_experts)


def synthetic_stream(spec, shape, seed, requests, batch, steps, layers, **signals):
    lengths = prompt_lengths(spec, seed, requests).tolist(), [steps] * requests
    schedule = Schedule("static", fixed_batch(*lengths, batch), batch, steps)
    counts = partial(RoutingCounts, len(layers), shape.num_experts, **signals)
    return RoutingStream(schedule, SyntheticRouting(spec, shape, seed, requests, layers), counts, shape.num_experts)


def kernels_of(requests, batch, steps, num_experts=4):
    return [
        (k.step, k.counts.tolist(), k.order.tolist(), k.transitions.copy())
        for k in stream_of(requests, batch, steps, [0], num_experts).layer_runs()
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
    stream = stream_of([request(0, 0, 1, 2, first=9)], 1, 2, [0], 4)
    assert not stream.schedule.has_prefill
    assert [k.step for k in stream.layer_runs()] == [1, 2]


@given(st.lists(st.lists(st.integers(0, 3), min_size=3, max_size=6), min_size=1, max_size=5), st.integers(1, 12))
def test_repeating_is_the_same_as_writing_the_requests_out(experts, batch):
    requests = [request(i, 1, *row) for i, row in enumerate(experts)][:batch]
    written_out = [request(i, 1, *experts[i % len(requests)]) for i in range(batch)]
    for short, long in zip(kernels_of(requests, batch, 2), kernels_of(written_out, batch, 2), strict=True):
        assert short[:3] == long[:3]
        assert np.array_equal(short[3], long[3])


def test_the_step_from_prompt_to_decode_can_be_left_out_of_the_heat():
    stream = stream_of([request(0, 2, 3, 1, 0, 2)], 1, 2, [0], 4, across_phases=False)
    assert [np.argwhere(k.transitions).tolist() for k in stream.layer_runs()][-1] == [[0, 2], [3, 1]]


def test_slot_refill_lets_the_next_request_in_as_one_ends():
    """Two slots; requests decode 1, 3 and 2 tokens; the third takes the first's place after step 1."""
    requests = [request(0, 1, 0, 1), request(1, 1, 0, 2, 2, 2), request(2, 2, 0, 0, 3, 3), request(3, 1, 0, 1)]
    stream = stream_of(requests, 2, 3, [0], 4, scheduler="slot_refill")
    assert [(k.step, k.counts.tolist()) for k in stream.layer_runs()] == [
        (0, [2, 0, 0, 0]),
        (1, [0, 1, 1, 0]),
        (2, [0, 0, 1, 1]),
        (3, [0, 0, 1, 1]),
    ]
    assert stream.schedule.tokens == {0: 2, 1: 2, 2: 2, 3: 2}


def test_what_followed_in_the_next_layer_is_counted_of_the_steps_before():
    """One request, layer by layer: prefill 0 -> 2; decode 1 -> 2, then 1 -> 0; nothing follows the last layer."""
    experts = np.array([[[0], [2]], [[1], [2]], [[1], [0]]])
    told = RequestRouting(
        request=0, position=np.arange(3, dtype=np.int32), num_prefill=1, experts=experts.astype(np.int16)
    )
    layer_runs = list(stream_of([told], 5, 2, [0, 1], 3, layer_transitions=True).layer_runs())
    seen = []
    for layer_run in stream_of([told], 5, 2, [0, 1], 3, layer_transitions=True).layer_runs():
        seen.append(layer_run.layer_transitions.copy())
    assert [heat.tolist() for heat in seen[::2]] == [
        [[0, 0, 0]] * 3,
        [[0, 0, 5], [0, 0, 0], [0, 0, 0]],
        [[0, 0, 5], [0, 0, 5], [0, 0, 0]],
    ]
    assert not any(heat.any() for heat in seen[1::2])
    assert [k.layer_transitions for k in stream_of([told], 5, 2, [0, 1], 3).layer_runs()] == [None] * len(layer_runs)


def assert_same(old, new, last=None):
    """The layer runs of *new* are those of *old*, up to step *last*; what only one of them counts is left out."""
    runs = [layer_run for layer_run in old.layer_runs() if last is None or layer_run.step <= last]
    assert new.schedule.has_prefill == old.has_prefill
    assert new.layers == old.layers
    assert new.num_layer_runs == len(runs)
    for step, tokens in new.schedule.tokens.items():
        assert tokens == old.tokens(step)


def assert_same_run(a, b, *, transitions):
    assert (a.step, a.layer, a.next_layer) == (b.step, b.layer, b.next_layer)
    assert a.counts.tolist() == b.counts.tolist()
    assert a.order.tolist() == b.order.tolist()
    assert a.next_seen.tolist() == b.next_load.tolist()
    assert np.array_equal(a.heat, b.transitions) if transitions else not b.transitions.any()


def assert_same_tokens(a, b):
    assert np.array_equal(a.routed.experts, b.routed.experts)
    assert np.array_equal(a.routed.multiplicity, b.routed.multiplicity)


@pytest.mark.slow
@settings(deadline=None, max_examples=300)
@given(st.data())
def test_recorded_requests_give_the_layer_runs_of_the_replays(data):
    """Any lengths, gaps in the positions, requests without prefill or decode, a batch below or above their number."""
    num_layers, top_k, num_experts = data.draw(st.integers(1, 3)), data.draw(st.integers(1, 2)), 5
    rng = np.random.default_rng(data.draw(st.integers(0, 1000)))
    lengths = data.draw(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 5)), min_size=1, max_size=9))
    lengths = [(prefill, decode) for prefill, decode in lengths if prefill + decode] or [(1, 1)]
    requests = [
        RequestRouting(
            request=i,
            position=np.sort(rng.choice(12, prefill + decode, replace=False)).astype(np.int32),
            num_prefill=prefill,
            experts=rng.integers(0, num_experts, (prefill + decode, 3, top_k)).astype(np.int16),
        )
        for i, (prefill, decode) in enumerate(lengths)
    ]
    continuous = data.draw(st.booleans())
    batch = data.draw(st.integers(1, 12)) if continuous else len(requests) + data.draw(st.integers(0, 9))
    steps, layers = data.draw(st.integers(1, 9)), list(range(3 - num_layers, 3))
    across = data.draw(st.booleans())
    common = (requests, batch, steps, layers, num_experts)
    old = Replay(*common, across_phases=across, continuous=continuous, layer_heat=True)
    how = {"scheduler": "slot_refill" if continuous else "static", "across_phases": across}
    new = stream_of(*common, layer_transitions=True, routed=True, **how)
    cold = stream_of(*common, transitions=False, routed=True, **how)
    last = new.schedule.steps
    assert all(old.tokens(step) == 0 for step in range(last + 1, steps + 1))
    assert_same(old, new, last)
    for a, b, c in zip(old.layer_runs(), new.layer_runs(), cold.layer_runs(), strict=last == steps):
        assert_same_run(a, b, transitions=True)
        assert_same_run(a, c, transitions=False)
        assert np.array_equal(a.next_heat, b.layer_transitions)
        assert_same_tokens(a, b)
        assert_same_tokens(a, c)
    if not continuous:
        counted = CountedReplay(iter(requests), len(requests), batch, steps, layers, num_experts)
        assert_same(counted, cold, last)
        for a, b in zip(counted.layer_runs(), cold.layer_runs(), strict=last == steps):
            assert_same_run(a, b, transitions=True)


def assert_same_kernels(spec, shape, seed, requests, batch, steps, layers, **how):
    """Synthetic routing gives what `SynthReplay` does, and what `Replay` does of the whole trace."""
    trace = list(synthesise(spec, shape, seed, requests=requests, decode_tokens=steps))
    whole = Replay(trace, batch, steps, layers, shape.num_experts, layer_heat=True, **how)
    common = (spec, shape, seed, requests, batch, steps, layers)
    old = SynthReplay(*common, heat=True, layer_heat=True, routed=True, **how)
    new = synthetic_stream(*common, transitions=True, layer_transitions=True, routed=True, **how)
    cold = synthetic_stream(*common, **how)
    assert_same(old, new)
    assert_same(whole, cold)
    assert new.schedule.num_requests == whole.num_requests
    for a, b, c, d in zip(old.layer_runs(), new.layer_runs(), cold.layer_runs(), whole.layer_runs(), strict=True):
        for other in (a, d):
            assert_same_run(other, b, transitions=True)
            assert_same_run(other, c, transitions=False)
            assert np.array_equal(other.next_heat, b.layer_transitions)
        assert_same_tokens(d, b)
        assert c.layer_transitions is None
        assert c.routed is None


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
    with patch.object(synthetic, "_ROWS", data.draw(st.integers(1, 30))):
        assert_same_kernels(spec, shape, 5, requests, batch, steps, layers, across_phases=across)


def batch_of(request, context, new):
    """A step of these requests, [slots] each."""
    request, context, new = (np.array(column, np.int64) for column in (request, context, new))
    return Batch(
        step=5, request=request, context=context, new_tokens=new, is_prefill=context > 99, multiplicity=new * 0 + 1
    )


@settings(deadline=None)
@given(st.data())
def test_a_token_has_the_same_experts_whenever_it_is_computed(data):
    """In any chunks, with requests left out, begun after their prompt, or computed again."""
    shape = ModelShape(
        name="org/tiny",
        num_layers=4,
        moe_layers=(1, 2, 3),
        num_experts=6,
        top_k=2,
        hidden_size=8,
        moe_intermediate_size=8,
    )
    spec = SynthSpec(clusters=3, sticky_first=0.5, sticky_last=0.5, prompt_min=2, prompt_max=4, decode_tokens=6)
    whole = list(synthesise(spec, shape, 1, requests=4))
    layers = [0, 2]
    made = SyntheticRouting(spec, shape, 1, 4, layers)
    held = RecordedRouting(whole, np.array([len(r.position) for r in whole]), layers, 6)
    done = [0] * 4
    for _ in range(data.draw(st.integers(1, 6))):
        who = data.draw(st.lists(st.integers(0, 3), min_size=1, unique=True).map(sorted))
        start = [data.draw(st.sampled_from([done[i], 0, whole[i].num_prefill])) for i in who]
        start = [min(at, len(whole[i].position) - 1) for i, at in zip(who, start, strict=True)]
        new = [data.draw(st.integers(1, len(whole[i].position) - at)) for i, at in zip(who, start, strict=True)]
        step = batch_of(who, start, new)
        found = [[], []]
        for source, rows in ((made, found[0]), (held, found[1])):
            for chunk in source.tokens(step, pairs=True):
                is_own, follows = chunk.multiplicity > 0, np.flatnonzero(chunk.pairs)
                rows.append((chunk.layer, chunk.experts[is_own].tolist()))
                rows.append((chunk.experts[follows - 1].tolist(), chunk.experts[follows].tolist()))
        assert found[0] == found[1]
        for i, at, count in zip(who, start, new, strict=True):
            done[i] = at + count
