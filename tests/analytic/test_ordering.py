"""The forecast of a layer run, by hand and beside the engine; and the order of tasks that is looked for with it."""

from itertools import pairwise, permutations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from kit import plan_of, simulate, wafer_of

from wss.policies.balanced.estimate import forecast
from wss.policies.balanced.task_order import moves_of, reorder
from wss.policies.validation import sealed

NBYTES = 3.35e8  # 100 us of an HBM
WAFER = wafer_of((3, 3), hop=0.0, start=0.0)
ROUTES, HBM = WAFER.routes, 100e-6
# read-only, as in a run, so that the compiled functions are compiled once for both
LINKS, SLOW_LINKS, NO_LINKS = (sealed(links) for links in np.outer((1, 0.1, 0), NBYTES / WAFER.link_bandwidth))


def foreseen(begin, seconds, sources, window=2, dies=None, hbm=HBM, links=LINKS):
    """When each task should end; dies from 0 on."""
    dies = np.arange(len(begin) - 1) if dies is None else dies
    tasks = np.array(seconds, np.float64), np.array(sources, np.int64)
    return forecast(dies, np.array(begin), *tasks, ROUTES, hbm, links, window)


def test_two_reads_share_the_hbm_and_a_third_waits_for_a_slot():
    """Both are read at 200 us, when the first is done; the third has the HBM alone until 300 us."""
    ends = foreseen([0, 3], [50e-6, 200e-6, 10e-6], [0, 0, 0])
    assert ends == pytest.approx([200e-6, 400e-6, 410e-6])


def test_a_window_of_one_reads_one_after_another():
    assert foreseen([0, 2], [50e-6, 50e-6], [0, 0], window=1) == pytest.approx([100e-6, 200e-6])


def test_a_read_from_afar_goes_at_the_rate_of_its_link():
    """1.7 TB/s carry in 197 us what the HBM gives in 100; two dies that read over different links, 200 us."""
    link = NBYTES / 1.7e12
    assert foreseen([0, 1], [0.0], [1]) == pytest.approx([link])
    assert foreseen([0, 1, 1, 2], [0.0, 0.0], [1, 1]) == pytest.approx([2 * HBM, 2 * HBM])


def test_what_crosses_one_link_shares_it():
    """Dies 0 and 1 read experts of die 2: both over the link from 2 to 1."""
    link = NBYTES / 1.7e12
    assert foreseen([0, 1, 2], [0.0, 0.0], [2, 2]) == pytest.approx([2 * link, 2 * link])


def test_dies_that_are_left_out_do_not_count():
    assert foreseen([0, 1], [0.0], [4], dies=np.array([4])) == pytest.approx([HBM])
    assert foreseen([0, 0, 1], [0.0], [4], dies=np.array([1, 4])) == pytest.approx([HBM])


@st.composite
def plans(draw, remote=True):
    """Tasks of some dies, die after die: where each die's begin, seconds, sources."""
    sizes = draw(st.lists(st.integers(0, 5), min_size=9, max_size=9).filter(any))
    begin = np.concatenate(([0], np.cumsum(sizes)))
    seconds = draw(st.lists(st.integers(0, 20), min_size=int(begin[-1]), max_size=int(begin[-1])))
    sources = np.repeat(np.arange(9), sizes)
    if remote:
        away = draw(st.lists(st.integers(0, 30), min_size=len(sources), max_size=len(sources)))
        sources = np.where(np.array(away) < 9, away, sources)
    return begin, np.array(seconds) * 13e-6, sources


@settings(max_examples=40, deadline=None)
@given(plans(remote=False), st.integers(1, 3))
def test_without_reads_from_afar_it_is_what_the_engine_finds(plan, window):
    begin, seconds, sources = plan
    tasks = plan_of(*((i, die, 1, die) for i, die in enumerate(sources.tolist())))
    run = simulate(WAFER, tasks, NBYTES, seconds, window)
    assert foreseen(begin, seconds, sources, window) == pytest.approx(run.end, rel=1e-6)


@settings(max_examples=40, deadline=None)
@given(plans())
def test_reads_from_afar_take_no_longer_in_the_engine_which_shares_what_others_leave(plan):
    begin, seconds, sources = plan
    dies = np.repeat(np.arange(9), np.diff(begin))
    tasks = plan_of(*((i, die, 1, int(sources[i])) for i, die in enumerate(dies.tolist())))
    run = simulate(wafer_of((3, 3), hop=0.0, start=0.0, link=1e15), tasks, NBYTES, seconds)
    # with links that never matter both share each HBM alike
    ends = foreseen(begin, seconds, sources, links=NO_LINKS)
    assert ends == pytest.approx(run.end, rel=1e-6, abs=1e-9)


@settings(max_examples=60, deadline=None)
@given(plans(), st.integers(0, 3000))
def test_a_new_order_keeps_tasks_on_their_dies_and_is_no_worse(plan, budget):
    begin, seconds, sources = plan
    order, least, left = reorder(begin, (seconds, sources), (ROUTES, HBM, LINKS, 2), 0.9, 0.0, budget)
    for first, last in pairwise(begin):
        assert sorted(order[first:last]) == list(range(first, last))
    assert least == pytest.approx(foreseen(begin, seconds[order], sources[order]).max())
    assert least <= foreseen(begin, seconds, sources).max() * (1 + 1e-9)
    if budget == 0:
        assert (order == np.arange(len(order))).all()
    assert left <= budget


def test_a_slow_read_from_afar_is_not_waited_for():
    """Die 0 reads from the busy die 4 first, and its own expert late; the other way about it computes meanwhile."""
    begin = np.array([0, 2, 3, 4, 4, 5, 5, 5, 5, 5])
    seconds, sources = np.array([150e-6, 250e-6, 1e-6, 1e-6, 1e-6]), np.array([4, 0, 4, 4, 4])
    order, least, _ = reorder(begin, (seconds, sources), (ROUTES, HBM, SLOW_LINKS, 2), 0.97, 0.0, 1000)
    assert foreseen(begin, seconds, sources, links=SLOW_LINKS).max() == pytest.approx(650e-6)
    assert order[:2].tolist() == [1, 0]
    assert least == pytest.approx(400e-6)


def test_another_die_lets_the_last_one_read_first():
    """Die 0 has one task, of 500 us computing, whose HBM die 1 reads thrice as well before it does its own."""
    begin = np.array([0, 2, 5, 5, 5, 5, 5, 5, 5, 5])
    seconds, sources = np.array([10e-6, 500e-6, 0.0, 0.0, 300e-6]), np.array([0, 0, 0, 0, 1])
    before = foreseen(begin, seconds, sources, links=SLOW_LINKS).max()
    order, least, _ = reorder(begin, (seconds, sources), (ROUTES, HBM, SLOW_LINKS, 2), 0.97, 0.0, 5000)
    assert order[2:5].tolist() != [2, 3, 4]
    assert least < before - 50e-6


def test_it_stops_when_it_is_good_enough():
    begin, seconds, sources = np.array([0, 2, 3, 4, 4, 5, 5, 5, 5, 5]), np.zeros(5), np.array([4, 0, 4, 4, 4])
    order, least, left = reorder(begin, (seconds, sources), (ROUTES, HBM, SLOW_LINKS, 2), 0.97, 1.0, 1000)
    assert order.tolist() == list(range(5))
    assert left == 1000 - 5
    assert least == pytest.approx(400e-6)


def test_every_move_of_a_die_is_tried_once():
    """Of neighbours that change places, one is moved; a die of one task has no other order."""
    assert moves_of(np.array([0, 3, 4])).tolist() == [[0, 1], [0, 2], [1, 2], [2, 0]]


@pytest.mark.parametrize("seed", range(5))
def test_of_the_orders_of_two_dies_it_finds_the_best(seed):
    """Die 0 has four tasks of its own, die 1 three, of which it reads two from die 0."""
    rng = np.random.default_rng(seed)
    begin, sources = np.array([0, 4, 7]), np.array([0, 0, 0, 0, 0, 0, 1])
    seconds, links = rng.integers(0, 300, 7) * 1e-6, SLOW_LINKS
    _, least, _ = reorder(begin, (seconds, sources), (ROUTES, HBM, links, 2), 0.5, 0.0, 10**6)
    best = min(
        foreseen(begin, seconds[list(order)], sources[list(order)], links=links).max()
        for mine in permutations(range(4))
        for order in (mine + other for other in permutations(range(4, 7)))
    )
    assert least <= 1.01 * best
