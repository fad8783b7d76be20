"""The all-to-all of token activations: by hand, against its bounds, against max-min fair flows and packets, in runs."""

import json
from dataclasses import replace
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from kit import plan_of, wafer_of
from kit.runs import SMALL, without_host

from wss.config import load
from wss.engine.alltoall import AllToAll
from wss.engine.network.transfers import PhaseRoutes, build_routes, network_share, proportional_share
from wss.engine.specs import NETWORKS, AllToAllSpec, CircuitSpec, FluidSpec
from wss.engine.token_counts import expected_unique_tokens
from wss.errors import ConfigError
from wss.execution import run
from wss.metrics.bounds import least_all_to_all
from wss.metrics.traffic import check_all_to_all
from wss.sweeps.outcome import outcomes_of

HIDDEN = 100  # elements of a token: 100 B there, 200 B back


def exchanged(wafer, plan, top_k=1, network="fluid", **options):
    return AllToAll(AllToAllSpec(**options), NETWORKS[network](), wafer, HIDDEN, top_k).run(plan)


def one_each(tokens):
    """A plan that computes expert d's *tokens* on die d."""
    return plan_of(*((die, die, count, die) for die, count in enumerate(tokens)))


@pytest.mark.parametrize("network", ["fluid", "packet", "circuit"])
def test_two_dies_by_hand(network):
    wafer = wafer_of((2, 1), link=1e6, hop=1e-3)
    got = exchanged(wafer, one_each([10, 6]), network=network)
    # half of the 10 come from die 1 and half of the 6 from die 0, over a link of their own
    assert got.dispatch == pytest.approx(1e-3 + 5 * 100 / 1e6)
    assert got.combine == pytest.approx(1e-3 + 5 * 200 / 1e6)
    assert got.activation_bytes == pytest.approx((5 + 3) * (100 + 200))
    assert got.link_bytes == pytest.approx([3 * 100 + 5 * 200, 5 * 100 + 3 * 200])
    held = 2e-3 if network == "circuit" else 0.0  # for the hops too, there and back
    assert got.link_busy == pytest.approx(got.link_bytes / 1e6 + held)
    # half of the 16 tokens cross a link at least, whoever computes them, and there are two links
    assert least_all_to_all(got, wafer) == pytest.approx(8 * (100 + 200) / 2e6)


def test_a_short_way_waits_for_its_own_links_alone():
    """The link numbered last takes 1 s, and the flow of most latency does not cross it."""
    wafer = wafer_of((2, 1), link=1.0)
    way = PhaseRoutes(np.array([[1, -1], [0, -1]]), np.ones(2, np.int64), np.array([0.0, 0.9]))
    assert proportional_share(way, np.array([0.05, 1.0]), wafer).end == 1.0


def test_a_line_of_three_by_hand():
    wafer = wafer_of((3, 1), link=1e6, hop=1e-3)
    got = exchanged(wafer, one_each([9, 9, 9]))
    # the link from die 0 to die 1 carries 3 tokens for die 1 and 3 for die 2, two hops away
    assert got.dispatch == pytest.approx(2e-3 + 6 * 100 / 1e6)
    assert got.combine == pytest.approx(2e-3 + 6 * 200 / 1e6)
    assert got.activation_bytes == pytest.approx(6 * 3 * 300)


def test_circuits_are_served_in_turns():
    """Four dies in a row; a token takes a link 0.1 ms. Die 3 sends die 0 its two tokens until 0.2 ms, first of all.

    Then 2 sends to 0 until 0.4, 3 to 1 its one token until 0.5, as it shares a link with that; and at last 1 sends to 0
    from 0.4 to 0.6, and 2 to 1 from 0.5 to 0.6. In the opposite order it would take until 0.7.
    """
    wafer = wafer_of((4, 1), link=1e6, hop=0.0)
    got = exchanged(wafer, one_each([8, 4]), network="circuit")
    assert got.dispatch == pytest.approx(0.6e-3)


@pytest.mark.parametrize("network", ["fluid", "packet"])
def test_equal_dies_take_what_the_bisection_takes(network):
    """The cut beside the middle column is crossed by 10 · 15 flows over 5 links."""
    wafer = wafer_of((5, 5), link=1e6, hop=1e-9)
    got = exchanged(wafer, one_each([10_000 * 25] * 25), network=network)
    assert got.dispatch == pytest.approx(10 * 15 / 5 * 10_000 * HIDDEN / 1e6, rel=0.05 if network == "packet" else 1e-6)


@pytest.mark.parametrize(("experts", "top_k"), [(6, 1), (6, 2), (8, 3)])
def test_tokens_of_equal_experts_are_counted_exactly(experts, top_k):
    """Every choice of *top_k* experts once, three experts on die 0."""
    chosen = list(combinations(range(experts), top_k))
    count = sum(0 in choice for choice in chosen)
    plan = plan_of(*((expert, 0 if expert < 3 else 1, count, 0) for expert in range(experts)))
    expected = [sum(min(c) < 3 for c in chosen), sum(max(c) >= 3 for c in chosen)]
    assert expected_unique_tokens(plan, top_k, 2) == pytest.approx(expected)


def test_a_token_goes_once_a_die_or_once_an_expert():
    wafer = wafer_of((2, 1))
    plan = plan_of((0, 0, 10, 0), (1, 0, 10, 0))
    assert exchanged(wafer, plan, top_k=2).received == pytest.approx([10, 0])
    assert exchanged(wafer, plan, top_k=2, once_per="expert").received == pytest.approx([20, 0])


@st.composite
def plans(draw):
    """A mesh and a plan on it: of N tokens, each with *top_k* different experts, parts on any dies."""
    mesh = draw(st.tuples(st.integers(1, 4), st.integers(1, 4)))
    top_k, experts, tokens = draw(st.integers(1, 4)), draw(st.integers(4, 12)), draw(st.integers(1, 60))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    popularity = rng.exponential(size=experts) ** 2 + 1e-6
    chosen = [rng.choice(experts, top_k, replace=False, p=popularity / popularity.sum()) for _ in range(tokens)]
    die = rng.integers(mesh[0] * mesh[1], size=(experts, 2))
    parts: dict[tuple[int, int], int] = {}
    for token, own in enumerate(chosen):
        for expert in own:
            at = (int(expert), int(die[expert, token % 2]))
            parts[at] = parts.get(at, 0) + 1
    return mesh, top_k, plan_of(*((expert, at, count, at) for (expert, at), count in parts.items()))


@settings(deadline=None, max_examples=25)
@given(case=plans(), network=st.sampled_from(["fluid", "packet", "circuit"]), once=st.sampled_from(["die", "expert"]))
def test_tokens_and_bytes_are_conserved_and_no_link_is_too_fast(case, network, once):
    mesh, top_k, plan = case
    wafer = wafer_of(mesh, link=1e9, hop=1e-7)
    got = exchanged(wafer, plan, top_k, network, once_per=once)
    check_all_to_all(plan, got, wafer)
    assert got.received.sum() >= got.tokens * (1 - 1e-9)
    assert got.dispatch + got.combine >= least_all_to_all(got, wafer) * (1 - 1e-9)
    for name, wrong in {
        "received": got.received + plan.tokens.sum(),
        "link_bytes": got.link_bytes + got.link_bytes.max(initial=0.0) / 2,
        "combine": -got.dispatch,
    }.items():
        if wafer.num_links or name == "received":
            with pytest.raises(AssertionError):
                check_all_to_all(plan, replace(got, **{name: wrong}), wafer)


@pytest.mark.parametrize("mesh", [(5, 5), (3, 8)])
def test_sharing_by_bytes_takes_about_what_max_min_and_packets_take(mesh):
    """Without latency: the busiest link's time, so never longer than max-min fair rates; at most a fifth shorter."""
    wafer, slow = wafer_of(mesh, hop=0.0), []
    rng = np.random.default_rng(0)
    source, die = np.nonzero(wafer.hops)
    for _ in range(2):
        tokens = np.rint(1e6 * np.exp(0.5 * rng.standard_normal(wafer.num_dies))).astype(int)
        plan = one_each(tokens)
        ours, packets = (exchanged(wafer, plan, network=network) for network in ("fluid", "packet"))
        for a, b, size, own in ((source, die, 100, ours.dispatch), (die, source, 200, ours.combine)):
            nbytes = tokens[die] / wafer.num_dies * size
            slow.append(network_share(FluidSpec(), wafer)(build_routes(wafer, a, b), nbytes).end / own)
            routes = wafer.routes[a, b]
            loads = np.bincount(routes[routes >= 0], np.repeat(nbytes, wafer.hops[a, b]))
            assert own == pytest.approx((loads / wafer.link_bandwidth).max())  # which no schedule beats
        assert packets.dispatch == pytest.approx(ours.dispatch, rel=0.1)
        assert packets.combine == pytest.approx(ours.combine, rel=0.2)
    assert min(slow) > 1 - 1e-9
    assert max(slow) < 1.2
    if mesh == (5, 5):
        assert slow[::2] == pytest.approx([1, 1], rel=1e-9)


def test_sharing_max_min_is_what_reads_do():
    """Dies 0 and 1 of three in a row send 1 and 3 bytes to die 2, over one link of 1 B/us, and die 0 sends 2 to die 1.

    Max-min: each has 0.5 B/us of its link until 2 us, when the 1 byte is there; 2 bytes are left at 2 us on one link
    and 1 on the other, so the phase ends after 4 us, when the busiest link has carried all.
    """
    wafer = wafer_of((1, 3), link=1e6, hop=0.0)
    flows = build_routes(wafer, np.array([0, 1, 0]), np.array([2, 2, 1])), np.array([1.0, 3.0, 2.0])
    assert network_share(FluidSpec(), wafer)(*flows).end == pytest.approx(4e-6)
    spec = AllToAllSpec(sharing="max_min")
    plan = one_each(np.array([3, 5, 40]))
    found = AllToAll(spec, FluidSpec(), wafer, 1024, 1).run(plan)
    source, die = (array.ravel() for array in np.indices((3, 3)))
    order = [i for i in range(9) if source[i] != die[i]]
    sent = plan.tokens[die[order]] / 3 * 1024
    expected = network_share(FluidSpec(), wafer)(build_routes(wafer, source[order], die[order]), sent)
    assert found.dispatch == pytest.approx(expected.end)
    check_all_to_all(plan, found, wafer)


@pytest.fixture
def small(tmp_path):
    path = tmp_path / "small.yaml"
    path.write_text(SMALL, encoding="utf-8")
    return path


def test_a_kernel_is_dispatch_experts_and_combine(small, tmp_path):
    plain = run(load(small))
    result = run(load(small, ["dispatch=uniform"]))
    assert json.dumps(without_host(plain.to_dict())) == json.dumps(
        without_host(run(load(small, ["dispatch=none"])).to_dict())
    )
    assert "once per die, expected counts" in result.table()
    assert "once per" not in plain.table()
    for before, after in zip(plain.ledgers, result.ledgers, strict=True):
        for alone, row in zip(before.rows, after.rows, strict=True):
            assert row.time_s == pytest.approx(row.dispatch_s + alone.time_s + row.combine_s)
            around = row.dispatch_s + row.combine_s
            assert row.mean_die_time_s == pytest.approx(around + alone.mean_die_time_s)
            assert alone.lower_bound_s < row.lower_bound_s < alone.lower_bound_s + around
            assert row.max_link_bytes > alone.max_link_bytes
            assert alone.dispatch_s == alone.combine_s == alone.activation_bytes == 0 < row.dispatch_s < row.combine_s
        assert after.link_data == pytest.approx(before.link_data)
        assert after.link_bytes.sum() == pytest.approx(before.link_bytes.sum() + after.link_activation.sum())
    figures = {own["policy"]: own for own in result.to_dict()["runs"]}
    ep = figures["ep"]
    assert ep["hops"] == 0 < ep["activation_bytes"] < ep["link_bytes"]
    assert ep["exchange_share"] == pytest.approx((ep["dispatch_time_s"] + ep["combine_time_s"]) / ep["decode_time_s"])
    assert "exchange" in result.table()
    assert "exchange" not in plain.table()
    result.write(tmp_path / "out")


def test_both_engines_and_groups_exchange_alike(small):
    common = ["dispatch={combine_bytes: 1, once_per: expert}", "policies=[ep]", "baseline=ep"]
    fast, slow = (run(load(small, [*common, f"engine={engine}"])).to_dict()["runs"][0] for engine in ("auto", "simpy"))
    for key in ("decode_time_s", "dispatch_time_s", "combine_time_s", "activation_bytes"):
        assert fast[key] == pytest.approx(slow[key])
    (of_group,) = outcomes_of([load(small, common)], lambda *_: None)
    assert of_group["figures"]["exchange_share"] == fast["exchange_share"]
    assert sum(of_group["links"]["activation_bytes"]) == pytest.approx(fast["link_bytes"])


@pytest.mark.parametrize(
    ("setting", "says"),
    [
        ("dispatch=unifrom", "'unifrom' is not known; did you mean 'uniform'? (or a mapping such as {dispatch_bytes"),
        ("dispatch={combine: 2}", "dispatch.combine: is not a key here"),
        ("dispatch.combine_bytes=0", "dispatch.combine_bytes: 0 is not right; it should be greater than 0"),
        ("dispatch.once_per=nodes", "dispatch.once_per: 'nodes' is not right; it should be 'die', 'expert' or 'node'"),
    ],
)
def test_wrong_dispatch_is_one_line(small, setting, says):
    with pytest.raises(ConfigError) as error:
        load(small, [setting])
    assert len(error.value.faults) == 1
    assert says in error.value.faults[0]


def test_the_papers_simulator_refuses_it(small):
    changes = [
        "model=deepseek_v3",
        "trace.synth=deepseek_v3",
        "physics=paper",
        "dispatch=uniform",
        "wafer=dojo",
    ]
    with pytest.raises(ConfigError) as error:
        run(load(small, changes))
    assert "physics: paper sends no token activations; give dispatch: none" in error.value.faults[0]


@pytest.mark.parametrize("network", ["fluid", "packet", "circuit"])
def test_a_die_that_gets_nothing_is_sent_nothing(network):
    """All is computed in the middle of three dies: no flow of no bytes crosses two links, or holds them."""
    wafer = wafer_of((3, 1), link=1e6, hop=1e-3)
    got = exchanged(wafer, one_each([0, 9, 0]), network=network)
    assert got.dispatch == pytest.approx(1e-3 + 3 * 100 / 1e6)
    assert got.combine == pytest.approx(1e-3 + 3 * 200 / 1e6)


def test_a_far_flow_beside_the_busiest_link_does_not_wait_for_it():
    """Four dies in a line; the busiest link, 2 to 1, is on ways of two hops at most, the way of three is elsewhere."""
    got = exchanged(wafer_of((4, 1), link=1e6, hop=1e-3), one_each([0, 400, 0, 4]))
    assert got.dispatch == pytest.approx(2e-3 + 200 * 100 / 1e6)


def test_circuits_go_in_turns():
    """Each die to the next first: 0-1, 1-2 and 2-0 at once, then 0-2 after the first two, and the others after 2-0."""
    wafer = wafer_of((3, 1), link=1e6, hop=1e-3)
    got = exchanged(wafer, one_each([9, 9, 9]), network="circuit")
    assert got.dispatch == pytest.approx(3e-3 + 2 * 3 * 100 / 1e6)
    half = AllToAll(AllToAllSpec(), CircuitSpec(link_share=0.5), wafer, HIDDEN, 1).run(one_each([9, 9, 9]))
    assert half.dispatch == pytest.approx(3e-3 + 2 * 3 * 100 / 0.5e6)


def test_the_part_with_most_tokens_is_counted_first():
    """Of 8 tokens with two experts, 6 have expert 0; of the rest, expert 1 is one of the choices that are left."""
    plan = plan_of((1, 0, 2, 0), (0, 0, 6, 0), (2, 1, 8, 1))
    assert expected_unique_tokens(plan, 2, 2) == pytest.approx([6 + 2 * (2 / 8) * 2 / (2 - 6 / 8), 8])


@pytest.mark.parametrize("wrong", [0.0, 21.0])
def test_too_few_and_too_many_tokens_are_noticed_where_there_is_no_link(wrong):
    wafer, plan = wafer_of((1, 1)), plan_of((0, 0, 10, 0), (1, 0, 10, 0))
    got = exchanged(wafer, plan, top_k=2)
    with pytest.raises(AssertionError, match="tokens received"):
        check_all_to_all(plan, replace(got, received=np.array([wrong])), wafer)
