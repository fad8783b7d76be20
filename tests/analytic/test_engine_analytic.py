"""The engine against schedules worked out by hand."""

from dataclasses import replace

import numpy as np
import pytest
from kit import plan_of, simulate, wafer_of

from wss.engine.network.compiled import CompiledNetwork
from wss.hardware import WAFERS, build
from wss.models import MODELS

MB = 1e6
US = 1e-6


@pytest.mark.parametrize(("source", "die"), [(0, 0), (0, 1), (0, 24), (24, 0), (7, 18)])
@pytest.mark.parametrize("name", sorted(WAFERS))
def test_one_read_alone(name, source, die):
    wafer = build(WAFERS[name])
    die = min(die, wafer.num_dies - 1)
    source = min(source, wafer.num_dies - 1)
    run = simulate(wafer, plan_of((0, die, 1, source)), 88 * MB)
    hbm, link = wafer.spec.die.hbm.bandwidth, wafer.spec.link.bandwidth
    hops = wafer.hops[source, die]
    expected = 110e-9 + 300e-9 + 2 * hops * wafer.spec.link.latency + 88 * MB / (min(hbm, link) if hops else hbm)
    assert run.time == pytest.approx(expected, rel=1e-12)


def test_a_heavy_request_stream_is_the_bottleneck():
    """With 64 B asked for by 128 B, the way back carries twice the data and halves the rate."""
    spec = WAFERS["dojo"]
    heavy = type(spec.link)(bandwidth=1.7e12, request=128.0)
    wafer = build(type(spec)(mesh=(1, 2), die=spec.die, link=heavy))
    run = simulate(wafer, plan_of((0, 1, 1, 0)), 88 * MB)
    assert run.time == pytest.approx(410e-9 + 400e-9 + 88 * MB / (1.7e12 / 2), rel=1e-12)


def test_two_reads_over_one_link_take_twice_the_bandwidth_term():
    wafer = wafer_of((1, 2))
    alone = simulate(wafer, plan_of((0, 1, 1, 0)), 88 * MB)
    both = simulate(wafer, plan_of((0, 1, 1, 0), (1, 1, 1, 0)), 88 * MB)
    latency = 410e-9 + 400e-9
    assert both.time - latency == pytest.approx(2 * (alone.time - latency), rel=1e-12)
    assert both.read_end[0] == pytest.approx(both.read_end[1], rel=1e-12)


def test_a_later_read_shares_only_what_is_left():
    """Reads of 2 MB from one HBM of 1 MB/us, to dies 0 and 2 hops away: 0.5 us and 0.5 + 0.8 us after their issue.

    From 0.5 to 1.3 the first is alone (0.8 MB); then each gets 0.5 MB/us: the first needs 1.2 / 0.5 = 2.4 us more.
    By then the second has 1.2 of its 2 MB; the rest goes at 1 MB/us.
    """
    wafer = wafer_of((1, 3), hbm=MB / US, link=10 * MB / US, start=0.5 * US)
    run = simulate(wafer, plan_of((0, 0, 1, 0), (1, 2, 1, 0)), 2 * MB)
    assert run.read_end == pytest.approx([3.7 * US, 4.5 * US], rel=1e-12)


def test_a_copy_is_also_written_to_the_dies_own_hbm():
    """The die reads 2 MB of its own while 2 MB come in to be kept; its HBM of 1 MB/us carries 4 MB."""
    wafer = wafer_of((1, 2), hbm=MB / US, link=10 * MB / US, hop=0.0, start=0.0)
    kept = simulate(wafer, plan_of((0, 1, 1, 1), (1, 1, 1, 0, True)), 2 * MB)
    only_read = simulate(wafer, plan_of((0, 1, 1, 1), (1, 1, 1, 0, False)), 2 * MB)
    assert kept.time == pytest.approx(4 * US, rel=1e-12)
    assert only_read.time == pytest.approx(2 * US, rel=1e-12)
    assert kept.traffic.hbm_written.tolist() == pytest.approx([0, 2 * MB])


ALONE = {"mesh": (1, 1), "hbm": MB / US, "start": 0.5 * US}


def test_window_one_reads_after_the_task_before_has_ended():
    """Reads take 0.5 + 1 us. Computing 1, 3, 1 us: ends 1.5; issue 1.5, end 1.5 + 3; issue 4.5, end 4.5 + 1.5."""
    run = simulate(
        wafer_of(**ALONE), plan_of((0, 0, 1, 0), (1, 0, 1, 0), (2, 0, 1, 0)), MB, [1 * US, 3 * US, 1 * US], 1
    )
    assert run.issue == pytest.approx([0, 1.5 * US, 4.5 * US])
    assert run.read_end == pytest.approx([1.5 * US, 3.0 * US, 6.0 * US])
    assert run.end == pytest.approx([1.5 * US, 4.5 * US, 6.0 * US])


def test_window_two_overlaps_the_next_read_with_computing():
    """Two reads share the HBM from 0.5 to 2.5. Task 0 computes 1 us from 0: ends 2.5 with its read. Task 1, 3 us, from
    2.5 to 5.5; read 2 is issued at 2.5 and done at 4.0. Task 2, 1 us, from 5.5 to 6.5.
    """
    run = simulate(
        wafer_of(**ALONE), plan_of((0, 0, 1, 0), (1, 0, 1, 0), (2, 0, 1, 0)), MB, [1 * US, 3 * US, 1 * US], 2
    )
    assert run.issue == pytest.approx([0, 0, 2.5 * US])
    assert run.read_end == pytest.approx([2.5 * US, 2.5 * US, 4.0 * US])
    assert run.end == pytest.approx([2.5 * US, 5.5 * US, 6.5 * US])


def test_weights_are_used_as_they_stream_in():
    """A task of 5 us whose read of 1.5 us is issued at 0 ends at 5 us, not at 6.5."""
    assert simulate(wafer_of(**ALONE), plan_of((0, 0, 1, 0)), MB, 5 * US).time == pytest.approx(5 * US)


def test_all_dies_wait_for_the_last():
    wafer = wafer_of((1, 3), hbm=MB / US, start=0.5 * US)
    run = simulate(wafer, plan_of((0, 0, 1, 0), (1, 1, 1, 1), (2, 1, 1, 1)), MB)
    assert run.die_end == pytest.approx([1.5 * US, 2.5 * US, 0.0])
    assert run.time == pytest.approx(2.5 * US)


@pytest.mark.parametrize("tokens", [1, 64, 300, 1000, 5000])
def test_one_dies_kernel_is_the_ideal_roofline(tokens):
    """Equal tasks: max(total FLOP / peak, total bytes / HBM), to within one start latency and one task."""
    wafer = build(WAFERS["dojo"])
    model = MODELS["deepseek_v3"]
    nbytes, count = model.expert_bytes("fp16"), 12
    compute = tokens * model.flop_per_token / 989e12
    run = simulate(wafer, plan_of(*((e, 3, tokens, 3) for e in range(count))), nbytes, compute)
    roofline = max(count * compute, count * nbytes / 3.35e12)
    one_task = max(compute, nbytes / 3.35e12)
    assert roofline * (1 - 1e-12) <= run.time <= roofline + 410e-9 + one_task


def test_expert_parallelism_takes_what_the_slowest_die_takes():
    """Die 0 computes 1 us on each of 2 experts, die 1 reads 3 experts of 1 MB at 1 MB/us with a window of 2:
    two together from 0.5 to 2.5, the third issued at 2.5, done at 4.0.
    """
    wafer = wafer_of((1, 2), hbm=MB / US, start=0.5 * US)
    plan = plan_of((0, 0, 1, 0), (1, 0, 1, 0), (2, 1, 1, 1), (3, 1, 1, 1), (4, 1, 1, 1))
    run = simulate(wafer, plan, MB, [1 * US, 1 * US, 0, 0, 0])
    assert wafer.hops[plan.source, plan.die].sum() == 0
    assert run.die_end == pytest.approx([3.5 * US, 4.0 * US])
    assert run.traffic.link_data.sum() == 0


def test_reads_that_join_and_end_together_are_settled_together(monkeypatch):
    """Symmetric reads need one settling to join and one to end, however many they are: events are counted."""
    calls = []
    advance = CompiledNetwork.advance
    monkeypatch.setattr(CompiledNetwork, "advance", lambda *own: calls.append(1) or advance(*own))
    wafer = wafer_of((1, 4), hbm=MB / US)
    run = simulate(wafer, plan_of(*((d, d, 1, d) for d in range(4))), MB)
    assert len(set(run.read_end.tolist())) == 1
    assert len(calls) == 2


def test_without_any_latency_the_engine_still_moves_on():
    wafer = wafer_of((2, 2), hbm=MB / US, link=MB / US, hop=0.0, start=0.0)
    run = simulate(wafer, plan_of((0, 0, 1, 0), (1, 1, 1, 0), (2, 3, 1, 0)), MB)
    assert run.time == pytest.approx(3 * US)
    assert np.isfinite(run.end).all()


def test_a_faster_link_can_slow_a_kernel():
    """The case of docs/model/networks.md: under max-min, a read that ends earlier lets a rival in earlier."""
    plan = plan_of((0, 0, 1, 2), (1, 1, 1, 1), (2, 0, 1, 1), (3, 0, 1, 1))
    wafer = wafer_of((1, 3), hbm=MB / US, link=MB / US, hop=0.0, start=0.0)
    (link,) = np.flatnonzero((wafer.links == (1, 0)).all(axis=1))
    faster = wafer.link_bandwidth.copy()
    faster[link] *= 2
    times = [simulate(w, plan, MB, [0, 1 * US, 0, 2 * US]).time for w in (wafer, replace(wafer, link_bandwidth=faster))]
    assert times == pytest.approx([4.0 * US, 4.5 * US])


def test_a_link_is_busy_while_it_carries_anything():
    """Die 2 reads 2 MB from die 0 (from 0.5 to 2.5 us), die 1 from die 0 too, over the first link alone, shared: both
    end at 4.5 us; the second link carries the one read all that time.
    """
    wafer = wafer_of((1, 3), hbm=10 * MB / US, link=MB / US, hop=0.0, start=0.5 * US)
    run = simulate(wafer, plan_of((0, 2, 1, 0), (1, 1, 1, 0)), 2 * MB)
    busy = {tuple(link): run.traffic.link_busy[i] for i, link in enumerate(wafer.links.tolist())}
    assert busy[0, 1] == pytest.approx(4 * US)
    assert busy[1, 2] == pytest.approx(4 * US)
    assert busy[1, 0] == pytest.approx(4 * US), "the requests of both"
