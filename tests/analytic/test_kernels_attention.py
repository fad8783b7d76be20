"""Times of attention and elementwise kernels: sums over sequences, bounds, monotony, and what is refused."""

import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wss.errors import ConfigError
from wss.hardware.kernels.attention import Heads, equal, gqa, mla_absorbed, mla_expanded, of_lengths
from wss.hardware.kernels.decode_attention import DECODE_ATTENTION, decode_attention_s
from wss.hardware.kernels.device import DEVICES
from wss.hardware.kernels.elementwise import ELEMENTWISE, elementwise_s
from wss.hardware.kernels.prefill_attention import PREFILL_ATTENTION, prefill_attention_s

H100 = DEVICES["H100-SXM"]
devices = st.sampled_from(sorted(DEVICES)).map(lambda name: DEVICES[name])
lengths = st.integers(1, 200_000)
counts = st.integers(1, 2000)
groups = st.sampled_from([1, 2, 4, 8, 16, 32])


def decode_heads(name: str, kv: int, group: int) -> Heads:
    """Return heads of the kind that the set *name* is for."""
    return mla_absorbed(kv * group) if "mla" in name else gqa(kv * group, kv)


@given(st.sampled_from(list(DECODE_ATTENTION)), devices, counts, lengths, st.sampled_from([1, 2, 8]), groups)
@settings(deadline=None, max_examples=150)
def test_decode_is_above_the_roofline_and_grows(name, device, count, tokens, kv, group):
    params, heads = DECODE_ATTENTION[name], decode_heads(name, kv, group)
    of = lambda count, tokens: float(decode_attention_s(params, device, equal(count, 1, tokens - 1), heads))  # noqa: E731
    seconds = of(count, tokens)
    moved = count * (tokens * params.kv_bytes * heads.cached + 2 * heads.query * heads.dims)
    flop = 2 * count * tokens * heads.query * heads.dims
    assert seconds >= max(moved / device.hbm, flop / device.peak("bf16"))
    assert seconds <= of(2 * count, tokens)
    assert seconds <= of(count, 2 * tokens)
    assert 0.95 * seconds <= of(count + 1, tokens)
    assert 0.95 * seconds <= of(count, tokens + 1)


@given(st.sampled_from(list(PREFILL_ATTENTION)), devices, counts, st.integers(1, 20_000), lengths, groups)
@settings(deadline=None, max_examples=150)
def test_prefill_is_above_the_roofline_and_grows(name, device, count, new, before, group):
    params, heads = PREFILL_ATTENTION[name], gqa(8 * group, 8)
    of = lambda *sizes: float(prefill_attention_s(params, device, equal(*sizes), heads))  # noqa: E731
    seconds = of(count, new, before)
    moved = count * (2 * new * heads.query * heads.dims + (before + new) * params.kv_bytes * heads.cached)
    flop = 2 * count * new * (before + (new + 1) / 2) * heads.query * heads.dims
    assert seconds >= max(moved / device.hbm, flop / device.peak("bf16"))
    assert seconds <= min(of(2 * count, new, before), of(count, 2 * new, before), of(count, new, 2 * before))
    assert 0.95 * seconds <= of(count, new + 1, before)


@given(st.lists(st.tuples(st.integers(0, 500), st.integers(0, 5000)), min_size=1, max_size=20))
def test_sums_over_sequences_are_those_of_a_loop(sequences):
    found = of_lengths([q for q, _ in sequences], [k for _, k in sequences])
    live = [(q, k) for q, k in sequences if q]
    assert found.count == len(live)
    assert found.new == sum(q for q, _ in live)
    assert found.context == sum(k + q for q, k in live)
    assert found.pairs == sum(k + i for q, k in live for i in range(1, q + 1))
    assert found.longest == max((k + q for q, k in live), default=0)


def test_sequences_of_equal_lengths_are_one_case_of_unequal_ones():
    one, other = equal(3, 7, 100), of_lengths([7] * 3, [100] * 3)
    assert vars(one) == vars(other)


def test_a_long_sequence_among_short_ones_costs_more_than_the_mean_length():
    heads = gqa(8, 1)
    mixed = of_lengths(np.ones(9), [130_000] + [100] * 8)
    even = equal(9, 1, mixed.context / 9 - 1)
    for params in DECODE_ATTENTION.values():
        if params.rows == 64:
            assert decode_attention_s(params, H100, mixed, heads) > decode_attention_s(params, H100, even, heads)


def test_prefill_in_two_chunks_has_the_pairs_of_one():
    whole, first, second = equal(1, 1000), equal(1, 600), equal(1, 400, 600)
    assert whole.pairs == first.pairs + second.pairs


def test_a_small_cache_is_read_from_the_l2_only_in_replays():
    params, heads = DECODE_ATTENTION["fa3"], gqa(32, 8)
    small, large = equal(8, 1, 511), equal(64, 1, 32767)
    of = lambda sequences, replayed: decode_attention_s(params, H100, sequences, heads, replayed=replayed)  # noqa: E731
    assert of(small, True) < of(small, False)
    assert of(large, True) == pytest.approx(of(large, False), rel=1e-6)


def test_no_sequence_takes_no_time():
    assert decode_attention_s(DECODE_ATTENTION["fa3"], H100, equal([0, 1], 1, 10), gqa(8, 1))[0] == 0
    assert prefill_attention_s(PREFILL_ATTENTION["fa3"], H100, equal([0, 1], 5), gqa(8, 1))[0] == 0
    assert of_lengths([0, 0], [5, 6]).longest == 0
    assert elementwise_s(ELEMENTWISE["serving"], H100, [0, 8])[0] == 0


def test_elementwise_by_hand():
    seconds = elementwise_s(ELEMENTWISE["serving"], H100, moved=3.35e6, kernels=2)
    assert seconds == pytest.approx(2 * 2.5e-6 + 1e-6 / 0.8)


def test_h200_gains_at_most_its_bandwidth():
    heads, long = gqa(32, 8), equal(64, 1, 65535)
    times = [decode_attention_s(DECODE_ATTENTION["fa3"], DEVICES[gpu], long, heads) for gpu in ("H100-SXM", "H200-SXM")]
    assert 1.3 < times[0] / times[1] < 4.8 / 3.35


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: gqa(6, 4), "does not divide 6"),
        (lambda: gqa(0, 1), "query_heads: 0 is not right"),
        (lambda: gqa("many", 1), "is not a size"),
        (lambda: mla_absorbed(0), "query_heads"),
        (lambda: equal(1, -1), "new: -1"),
        (lambda: of_lengths([1, 2], [3, 4, 5]), "sizes differ in shape"),
        (lambda: decode_attention_s(DECODE_ATTENTION["fa3"], H100, equal(1, 2), gqa(8, 1)), "one new token"),
        (lambda: decode_attention_s(DECODE_ATTENTION["trtllm_gqa"], H100, equal(1), gqa(64, 1)), "at most 32"),
        (lambda: prefill_attention_s(PREFILL_ATTENTION["fa3"], H100, equal(1), mla_absorbed(8)), "absorbed"),
        (lambda: DECODE_ATTENTION["fa"], "fa3"),
    ],
)
def test_bad_sizes_are_refused(call, words):
    with pytest.raises(ConfigError, match=words):
        call()


def test_mla_expanded_has_own_keys_for_each_head():
    heads = mla_expanded(128)
    assert (heads.dim_k, heads.dim_v, heads.cached) == (192, 128, 128 * 320)


def test_ten_thousand_calls_take_less_than_50_ms():
    sizes = np.arange(1.0, 10_001)
    taken = []
    for _ in range(5):  # the least of five: another process may have the core
        started = time.perf_counter()
        decode_attention_s(DECODE_ATTENTION["fa3"], H100, equal(sizes, 1, sizes), gqa(32, 8))
        prefill_attention_s(PREFILL_ATTENTION["fa3"], H100, equal(1, sizes), gqa(32, 8))
        taken.append(time.perf_counter() - started)
    assert min(taken) < 0.05
