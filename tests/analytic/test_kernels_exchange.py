"""Exchanges and collectives: by hand, and what holds for every set, device and size."""

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from wss.errors import ConfigError
from wss.hardware.kernels import DEVICES
from wss.hardware.kernels.collectives import (
    COLLECTIVES,
    all_gather_s,
    all_reduce_s,
    all_to_all_s,
    reduce_scatter_s,
)
from wss.hardware.kernels.exchange import EXCHANGES, Call, combine_s, dispatch_s, distinct_groups

H100 = DEVICES["H100-SXM"]
LOW = EXCHANGES["deepep_low_latency"]
NORMAL = EXCHANGES["deepep_normal"]
WITH_PORTS = sorted(name for name, device in DEVICES.items() if device.nvlink and device.nic)
DEVICE = st.sampled_from(WITH_PORTS).map(DEVICES.__getitem__)
BOTH = st.sampled_from([dispatch_s, combine_s])
REDUCING = st.sampled_from([all_reduce_s, all_gather_s, reduce_scatter_s, all_to_all_s])


@st.composite
def calls(draw):
    """Everything of a call but its tokens."""
    experts = draw(st.integers(1, 512))
    return {
        "hidden": draw(st.integers(1, 16384)),
        "top_k": draw(st.integers(1, min(experts, 22))),
        "experts": experts,
        "gpus": draw(st.sampled_from([1, 2, 8, 16, 24, 64, 320])),
        "sms": draw(st.integers(1, 64)),
    }


def test_a_low_latency_dispatch_in_one_node_worked_out_by_hand():
    """256 experts take two to an SM: 128 SMs, the fullest of which read 5 of 520 tokens; 7 of 8 copies leave."""
    call = Call(tokens=520, hidden=4096, top_k=6, experts=256, gpus=8)
    params = LOW.dispatch
    copy = 4096 * 33 / 32 + 16
    start = params.start + 256 * params.start_expert
    wire = 520 * 6 * 7 / 8 * copy / (params.nvlink_share * 450e9)
    sms = 5 * (params.sm + 4096 * params.sm_element)
    assert dispatch_s(LOW, H100, call) == pytest.approx(start + wire + sms, rel=1e-12)


def test_a_low_latency_combine_between_nodes_worked_out_by_hand():
    """On four nodes three of four copies go through the NIC, which is slower than the node."""
    call = Call(tokens=128, hidden=7168, top_k=8, experts=256, gpus=32)
    params = LOW.combine
    copy = 2 * 7168
    sent = 128 * 8 * 3 / 4 * copy
    wire = (sent + params.uneven * math.sqrt(sent * copy)) / (params.nic_share * 50e9)
    start = params.start + 256 * params.start_expert + 0.75 * params.start_away
    expected = (start**params.corner + wire**params.corner) ** (1 / params.corner)
    assert combine_s(LOW, H100, call) == pytest.approx(expected, rel=1e-12)


def test_a_normal_dispatch_worked_out_by_hand():
    """A token with one expert goes to one GPU, through the port with chance 7/8."""
    call = Call(tokens=1000, hidden=2048, top_k=1, experts=256, gpus=8, sms=20)
    params = NORMAL.dispatch
    copy = 2048 * 33 / 32 + 16
    parts = (
        50 * (params.send_copy + params.send_byte * copy),
        50 * params.receive,
        1000 * 7 / 8 * copy / (params.nvlink_share * 450e9),
    )
    body = sum(part**params.overlap for part in parts) ** (1 / params.overlap)
    body += body * params.fill / (body + params.fill)
    expected = (params.start**params.corner + body**params.corner) ** (1 / params.corner)
    assert dispatch_s(NORMAL, H100, call) == pytest.approx(expected, rel=1e-12)


def test_distinct_groups_are_those_of_random_distinct_experts():
    """Of 4 experts on 2 GPUs, two experts are on one GPU with chance 1/3, so that a token has 5/3 GPUs."""
    found = distinct_groups(np.array([4.0, 8.0, 8.0]), np.array([2.0, 8.0, 1.0]), np.array([2.0, 2.0, 5.0]))
    assert found == pytest.approx([5 / 3, 2, 1])


def test_a_ring_worked_out_by_hand():
    """An all-gather of 8 MiB on 4 GPUs sends 3/4 of it in three steps, an all-reduce twice as much."""
    nccl = COLLECTIVES["nccl"]
    ring, size = nccl.ring, 2**23
    for time, steps in ((all_gather_s, 3), (all_reduce_s, 6)):
        moving = steps / 4 * size / (ring.nvlink_share * 450e9) + 2 * size / (ring.copy * 3.35e12)
        expected = ring.start + steps * ring.step + moving + moving * ring.fill / (moving + ring.fill)
        assert time(nccl, H100, size, 4) == pytest.approx(expected, rel=1e-12)


def test_a_custom_all_reduce_takes_the_fastest_way():
    vllm = COLLECTIVES["vllm"]
    assert all_reduce_s(vllm, H100, 1024, 8) == pytest.approx(
        vllm.shots.one_start + 7 * 1024 / (vllm.shots.one_share * 450e9)
    )
    middle = 2**20
    assert all_reduce_s(vllm, H100, middle, 8) == pytest.approx(
        vllm.shots.two_start + 1.75 * middle / (vllm.shots.two_share * 450e9)
    )
    assert all_reduce_s(vllm, H100, 2**29, 8) == all_reduce_s(COLLECTIVES["nccl"], H100, 2**29, 8)


@given(st.sampled_from(sorted(EXCHANGES)).map(EXCHANGES.__getitem__), BOTH, DEVICE, calls(), st.integers(1, 10**6))
def test_no_exchange_is_faster_than_its_ports_or_falls_with_tokens(exchange, time, device, call, tokens):
    few, more, twice = time(exchange, device, Call(tokens=np.array([tokens, tokens + 1, 2 * tokens]), **call))
    assert few <= more * (1 + 1e-12)
    assert few <= twice * (1 + 1e-12)
    nodes = math.ceil(call["gpus"] / 8)
    groups, port = (nodes, device.nic) if nodes > 1 else (call["gpus"], device.nvlink)
    sent = tokens * distinct_groups(*map(np.array, (float(call["experts"]), float(groups), float(call["top_k"]))))
    element = 33 / 32 if time is dispatch_s else 2
    assert few >= sent * (groups - 1) / groups * element * call["hidden"] / port * (1 - 1e-12)


@given(st.sampled_from(sorted(COLLECTIVES)), REDUCING, DEVICE, st.integers(1, 8), st.integers(0, 2**32))
def test_no_collective_is_faster_than_its_port_or_falls_with_bytes(name, time, device, gpus, size):
    few, twice = time(COLLECTIVES[name], device, np.array([size, 2 * size]), gpus)
    assert few <= twice
    rounds = 2 if time is all_reduce_s else 1
    assert few >= rounds * (gpus - 1) / gpus * size / device.nvlink * (1 - 1e-12)


def test_a_group_of_one_takes_no_time_in_a_collective():
    for time in (all_reduce_s, all_gather_s, reduce_scatter_s, all_to_all_s):
        assert time(COLLECTIVES["vllm"], H100, [0, 2**20], 1).tolist() == [0, 0]


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        ({"tokens": -1}, "tokens must be a number of at least 0"),
        ({"hidden": math.nan}, "hidden must be a number of at least 1"),
        ({"gpus": 0}, "gpus must be a number of at least 1"),
        ({"top_k": 9, "experts": 8}, "top_k must be at most experts"),
    ],
)
def test_bad_sizes_of_an_exchange_are_named(change, fault):
    call = replace(Call(tokens=8, hidden=4096, top_k=2, experts=64, gpus=8), **change)
    with pytest.raises(ConfigError, match=fault):
        dispatch_s(LOW, H100, call)


def test_a_device_without_ports_has_no_exchange():
    call = Call(tokens=8, hidden=4096, top_k=2, experts=64, gpus=16)
    with pytest.raises(ConfigError, match="no port between nodes"):
        combine_s(LOW, replace(H100, nic=0), call)
    for time in (lambda: dispatch_s(LOW, DEVICES["L40S"], call), lambda: _all_reduce_on(DEVICES["L40S"], 4)):
        with pytest.raises(ConfigError, match="L40S: no port to other GPUs"):
            time()


def test_a_collective_of_more_than_one_node_is_refused():
    with pytest.raises(ConfigError, match="gpus must be 1 to 8, those of one node"):
        _all_reduce_on(H100, 16)
    with pytest.raises(ConfigError, match="message must be a number of bytes of at least 0"):
        all_gather_s(COLLECTIVES["nccl"], H100, -1, 4)


def _all_reduce_on(device, gpus):
    return all_reduce_s(COLLECTIVES["nccl"], device, 1024, gpus)
