"""Max-min rates against systems solved by hand, and the definition."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from wss.engine.network.maxmin import max_min
from wss.engine.network.resources import Resources, build_table
from wss.engine.network.state import FLUID, build_resources, build_state


def rates_of(capacity, flows):
    """*flows* lists, for each, {resource: weight}."""
    resources = Resources(np.asarray(capacity, np.float64), 0, np.zeros((0, 2), np.int64))
    table = build_table(len(flows), max(len(flow) for flow in flows))
    for f, flow in enumerate(flows):
        table.rows["length"][f] = len(flow)
        for k, (resource, weight) in enumerate(flow.items()):
            table.stages["resource"][f, k], table.stages["share"][f, k] = resource, weight
    state = build_state(FLUID, build_resources(resources), table, np.ones(len(flows)))
    state.transfers["row"] = np.arange(len(flows))
    max_min(np.arange(len(flows)), state)
    return np.array(state.transfers["rate"])


@pytest.mark.parametrize(
    ("capacity", "flows", "expected"),
    [
        pytest.param([10], [{0: 1}], [10], id="alone"),
        pytest.param([10], [{0: 1}, {0: 1}], [5, 5], id="two over one link"),
        pytest.param([10, 10], [{0: 1}, {1: 1}, {0: 1, 1: 1}], [5, 5, 5], id="parking lot"),
        pytest.param([10, 4], [{0: 1}, {0: 1, 1: 1}, {1: 1}], [8, 2, 2], id="what one cannot use the other gets"),
        pytest.param([10], [{0: 1}, {0: 0.25}], [8, 8], id="equal rates, unequal use"),
        pytest.param([12, 100], [{0: 1, 1: 1}, {0: 1}, {0: 1}, {1: 1}], [4, 4, 4, 96], id="two levels"),
    ],
)
def test_rates_worked_out_by_hand(capacity, flows, expected):
    assert rates_of(capacity, flows) == pytest.approx(expected, rel=1e-12)


SYSTEMS = st.integers(1, 6).flatmap(
    lambda resources: st.tuples(
        st.lists(st.floats(0.1, 100), min_size=resources, max_size=resources),
        st.lists(
            st.dictionaries(st.integers(0, resources - 1), st.sampled_from([0.25, 1.0, 2.0]), min_size=1),
            min_size=1,
            max_size=12,
        ),
    )
)


@given(SYSTEMS)
def test_no_resource_is_exceeded_and_every_flow_has_a_bottleneck(system):
    """The definition: each flow crosses a full resource on which no flow is faster than it."""
    capacity, flows = system
    rates = rates_of(capacity, flows)
    used = np.zeros(len(capacity))
    for rate, flow in zip(rates, flows, strict=True):
        for resource, weight in flow.items():
            used[resource] += weight * rate
    assert (used <= np.array(capacity) * (1 + 1e-9)).all()
    for rate, flow in zip(rates, flows, strict=True):
        assert any(
            used[r] >= capacity[r] * (1 - 1e-9)
            and all(other <= rate * (1 + 1e-9) for other, f in zip(rates, flows, strict=True) if r in f)
            for r in flow
        )
