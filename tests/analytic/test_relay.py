"""Tokens sent once to each node: by hand, token by token in plain Python, against sending once to each GPU, in runs."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from kit import nodes_of, plan_of, wafer_of
from kit.runs import SMALL

from wss.config import load
from wss.engine.alltoall import AllToAll, at_nodes
from wss.engine.specs import NETWORKS, AllToAllSpec
from wss.errors import ConfigError
from wss.execution import run
from wss.hardware import build
from wss.metrics.bounds import least_all_to_all
from wss.metrics.traffic import check_all_to_all
from wss.records import Routed
from wss.sweeps.outcome import outcomes_of
from wss.traces import TraceFile, write_trace
from wss.traces.synthetic.spec import synth_meta, synthesise

HIDDEN = 100  # elements of a token: 100 B there, 200 B back
ON_NODES = SMALL.replace("{preset: dojo, mesh: [2, 3]}", "{preset: h100_nvl8, nodes: 2, gpus: 3}")


def exchanged(wafer, plan, routed=None, top_k=2, network="fluid", **options):
    if routed is not None:
        options["counting"] = "exact"
        top_k = routed.experts.shape[1]
    got = AllToAll(AllToAllSpec(**options), NETWORKS[network](), wafer, HIDDEN, top_k).run(plan, routed)
    check_all_to_all(plan, got, wafer)
    return got


def whole(wafer, routed):
    """The plan that computes expert e of *routed* tokens on die e."""
    counts = np.bincount(routed.experts.ravel(), np.repeat(routed.multiplicity, routed.experts.shape[1])).astype(int)
    return plan_of(*((e, e, count, e) for e, count in enumerate(counts) if count))


def bytes_over(wafer, got):
    return {wafer.link_name(link): got.link_bytes[link] for link in range(wafer.num_links) if got.link_bytes[link]}


def test_two_nodes_of_two_gpus_by_hand():
    """Expert e on GPU e. 8 tokens have experts 0 and 1, both of node 0; 4 have 0 and 2, one in each node."""
    wafer = nodes_of(2, 2)
    routed = Routed(np.array([[0, 1], [0, 2]]), np.array([8, 4]))
    got = exchanged(wafer, whole(wafer, routed), routed, once_per="node")
    assert got.received.tolist() == [12, 8, 4, 0]
    assert got.node_tokens.tolist() == [12, 4]
    # A GPU owns 3 tokens, 2 and 1. All 3 of each of node 1's go to node 0, of node 0's the 1 to node 1, once each.
    assert {name: carried for name, carried in bytes_over(wafer, got).items() if "fabric" in name} == {
        "nic(0,0)->fabric": 1 * 100 + 3 * 200,
        "nic(0,1)->fabric": 1 * 100 + 3 * 200,
        "nic(1,0)->fabric": 3 * 100 + 1 * 200,
        "nic(1,1)->fabric": 3 * 100 + 1 * 200,
        "fabric->nic(0,0)": 3 * 100 + 1 * 200,
        "fabric->nic(0,1)": 3 * 100 + 1 * 200,
        "fabric->nic(1,0)": 1 * 100 + 3 * 200,
        "fabric->nic(1,1)": 1 * 100 + 3 * 200,
    }
    # GPU (0,0) has 6 tokens then, its own and those that came to it: 4 of them go to (0,1), whose 6 all come to it.
    assert {name: carried for name, carried in bytes_over(wafer, got).items() if "switch" in name} == {
        "(0,0)->switch(0)": 4 * 100 + 6 * 200,
        "(0,1)->switch(0)": 6 * 100 + 4 * 200,
        "switch(0)->(0,0)": 6 * 100 + 4 * 200,
        "switch(0)->(0,1)": 4 * 100 + 6 * 200,
        "(1,1)->switch(1)": 2 * 100,
        "switch(1)->(1,0)": 2 * 100,
        "(1,0)->switch(1)": 2 * 200,
        "switch(1)->(1,1)": 2 * 200,
    }
    assert got.activation_bytes == pytest.approx((2 * 3 + 2 * 1 + 6 + 4 + 2) * 300)
    way = 4 * 300e-9 + 2 * 250e-9  # to the node, and on to the other GPU there
    assert got.dispatch == pytest.approx(way + 3 * 100 / 50e9)
    assert got.combine == pytest.approx(way + 3 * 200 / 50e9)


def test_the_slowest_link_of_a_tokens_way_may_be_the_relays_port():
    """Every token has the 4 experts of node 0: of 16, a GPU there gets 12 from its own node's 3 others, 4 a sender."""
    spec = nodes_of(2, 4).spec
    wafer = build(replace(spec, link=replace(spec.link, bandwidth=50e9)))
    routed = Routed(np.array([[0, 1, 2, 3]]), np.array([16]))
    got = exchanged(wafer, whole(wafer, routed), routed, once_per="node")
    assert got.dispatch == pytest.approx(4 * 300e-9 + 2 * 250e-9 + 12 * 100 / 50e9)


def test_an_expert_on_several_gpus_of_a_node_is_one_there():
    plan = plan_of((0, 0, 6, 0), (0, 1, 4, 1), (0, 2, 2, 2), (1, 3, 12, 3))
    seen = at_nodes(plan, np.array([0, 0, 1, 1]))
    assert sorted(zip(seen.expert.tolist(), seen.die.tolist(), seen.tokens.tolist(), strict=True)) == [
        (0, 0, 10),
        (0, 1, 2),
        (1, 1, 12),
    ]
    split = plan_of((0, 0, 6, 0), (0, 1, 4, 1), (0, 2, 2, 2))
    assert exchanged(
        nodes_of(2, 2), split, Routed(np.array([[0]]), np.array([12])), once_per="node"
    ).node_tokens.tolist() == [
        pytest.approx(10),
        pytest.approx(2),
    ]


@st.composite
def exchanges(draw):
    """Nodes, tokens with the experts of each, and a plan that computes experts whole or in parts, anywhere."""
    nodes, gpus = draw(st.integers(1, 4)), draw(st.integers(1, 4))
    top_k, experts, tokens = draw(st.integers(1, 4)), draw(st.integers(4, 12)), draw(st.integers(1, 30))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    popularity = rng.exponential(size=experts) ** 2 + 1e-6
    chosen = [rng.choice(experts, top_k, replace=False, p=popularity / popularity.sum()) for _ in range(tokens)]
    routed = Routed(np.array(chosen), rng.integers(1, 4, size=tokens))
    counts = np.bincount(routed.experts.ravel(), np.repeat(routed.multiplicity, top_k), experts).astype(int)
    parts = []
    for expert in np.flatnonzero(counts):
        dies = rng.permutation(nodes * gpus)[: draw(st.integers(1, 3))]
        cut = rng.multinomial(counts[expert], np.full(len(dies), 1 / len(dies)))
        parts += [(int(expert), int(die), int(n), int(die)) for die, n in zip(dies, cut, strict=True) if n]
    return nodes_of(nodes, gpus), plan_of(*parts), routed


def crossing(wafer, got):
    """Bytes over InfiniBand."""
    return sum(carried for name, carried in bytes_over(wafer, got).items() if "fabric->" in name)


@settings(deadline=None, max_examples=40)
@given(case=exchanges(), exact=st.booleans())
def test_once_a_node_never_sends_more_between_nodes_and_keeps_every_byte(case, exact):
    wafer, plan, routed = case
    known = (routed if exact else None, routed.experts.shape[1])
    node, die = (exchanged(wafer, plan, *known, once_per=once) for once in ("node", "die"))
    assert crossing(wafer, node) <= crossing(wafer, die) * (1 + 1e-9)
    assert node.received == pytest.approx(die.received)
    assert node.dispatch + node.combine >= least_all_to_all(node, wafer) * (1 - 1e-9)
    nodes = int(wafer.nodes[-1]) + 1
    if nodes == 1 or wafer.num_dies == nodes:  # one node, or one GPU a node
        assert node.link_bytes == pytest.approx(die.link_bytes)
        assert (node.dispatch, node.combine) == pytest.approx((die.dispatch, die.combine))
        assert node.activation_bytes == pytest.approx(die.activation_bytes)
    else:
        for wrong in (node.node_tokens * 0.0, np.full(nodes, node.tokens * 2)):
            with pytest.raises(AssertionError, match="tokens to the nodes"):
                check_all_to_all(plan, replace(node, node_tokens=wrong), wafer)


@settings(deadline=None, max_examples=40)
@given(case=exchanges(), seed=st.integers(0, 2**32))
def test_tokens_are_counted_as_one_by_one(case, seed):
    """Exactly where experts are whole; where they are in parts, as the mean over which token goes where."""
    wafer, plan, routed = case
    got = exchanged(wafer, plan, routed)
    share = np.zeros((int(plan.expert.max()) + 1, wafer.num_dies))
    share[plan.expert, plan.die] = plan.tokens
    share /= np.maximum(share.sum(axis=1, keepdims=True), 1)
    met = [times * (1 - (1 - share[own]).prod(axis=0)) for own, times in zip(*routed, strict=True)]
    assert got.received == pytest.approx(np.sum(met, axis=0))


def test_which_experts_tokens_have_together_is_seen_by_exact_counting_alone():
    """Half the tokens have the experts of GPU 0, half those of GPU 1: each goes to one GPU."""
    routed = Routed(np.array([[0, 1], [2, 3]]), np.array([10, 10]))
    plan = plan_of((0, 0, 10, 0), (1, 0, 10, 0), (2, 1, 10, 1), (3, 1, 10, 1))
    assert exchanged(nodes_of(2, 1), plan, routed).received.tolist() == [10, 10]
    assert exchanged(nodes_of(2, 1), plan).received == pytest.approx([20 * 5 / 6] * 2)
    with pytest.raises(ValueError, match="exact counting needs the experts of each token"):
        AllToAll(AllToAllSpec(counting="exact"), NETWORKS["fluid"](), nodes_of(2, 1), HIDDEN, 2).run(plan)


@pytest.mark.parametrize(
    ("wafer", "network", "says"),
    [
        (wafer_of((2, 2)), "fluid", "dispatch: once_per: node is for GPUs in nodes, and this wafer is a mesh"),
        (nodes_of(2, 2), "packet", "dispatch: once_per: node needs the fluid network; give network: fluid"),
        (nodes_of(2, 2), "circuit", "dispatch: once_per: node needs the fluid network; give network: fluid"),
    ],
)
def test_what_has_no_nodes_or_no_fluid_is_refused(wafer, network, says):
    with pytest.raises(ConfigError) as error:
        exchanged(wafer, plan_of((0, 0, 1, 0), (1, 1, 1, 1)), network=network, once_per="node")
    assert len(error.value.faults) == 1
    assert says in error.value.faults[0]


def test_a_node_alone_hands_nothing_on_whatever_its_network():
    plan = plan_of((0, 0, 9, 0), (1, 1, 7, 1))
    node, die = (exchanged(nodes_of(1, 2), plan, None, 1, "packet", once_per=once) for once in ("node", "die"))
    assert (node.dispatch, node.combine, node.node_tokens.size) == (die.dispatch, die.combine, 0)


@pytest.fixture
def config(tmp_path):
    path = tmp_path / "nodes.yaml"
    path.write_text(ON_NODES, encoding="utf-8")
    return path


def test_runs_count_tokens_exactly_however_they_are_replayed(config, tmp_path):
    """A synthetic batch made in steps, or from a file; alone, or in a group with one that counts nothing."""
    common = ["policies=[ep]", "baseline=ep", "steps=1"]
    exact, expected, by_die = (
        load(config, [*common, f"dispatch={{once_per: {once}, counting: {counting}}}"])
        for once, counting in (("node", "exact"), ("node", "expected"), ("die", "exact"))
    )
    sent, others = ([row.activation_bytes for row in run(one).ledgers[0].rows] for one in (exact, expected))
    assert len(sent) == 2 * 3  # prefill and a step
    assert sent == pytest.approx(others, rel=0.3)
    assert all(a != b for a, b in zip(sent, others, strict=True))

    meta = synth_meta(exact.trace, exact.model, 0)
    write_trace(tmp_path / "t.parquet", meta, synthesise(exact.trace, exact.model, 0, requests=40, decode_tokens=1))
    read = run(replace(exact, trace=TraceFile(path=str(tmp_path / "t.parquet"))))
    assert [row.activation_bytes for row in read.ledgers[0].rows] == sent

    none, *grouped = outcomes_of([replace(exact, dispatch=None), exact, by_die], lambda *_: None)
    assert not any(none["links"]["activation_bytes"])
    assert grouped[0]["figures"]["activation_bytes"] == sum(sent[3:])
    fabric = [i for i, link in enumerate(none["links"]["link"]) if link.endswith("->fabric")]
    node, die = (sum(of["links"]["activation_bytes"][i] for i in fabric) for of in grouped)
    assert 0 < node < die
