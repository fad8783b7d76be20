"""Random layer runs, and the comparison of a compiled engine with SimPy's."""

import numpy as np
from hypothesis import strategies as st

from kit import plan_of
from wss.engine import Llcs, simulate_layer
from wss.metrics.traffic import check_conservation


@st.composite
def layer_runs(draw):
    """A mesh, a plan on it with at most one task an (expert, die), computing times and a window."""
    mesh = (draw(st.integers(1, 4)), draw(st.integers(1, 4)))
    dies = mesh[0] * mesh[1]
    pairs = draw(st.lists(st.tuples(st.integers(0, 9), st.integers(0, dies - 1)), min_size=1, max_size=24, unique=True))
    tasks = []
    for expert, die in pairs:
        source = draw(st.integers(0, dies - 1))
        tasks.append((expert, die, 1, source, source != die and draw(st.booleans())))
    compute = draw(st.lists(st.floats(0, 1e-4), min_size=len(tasks), max_size=len(tasks)))
    return mesh, plan_of(*tasks), np.array(compute), draw(st.integers(1, 4))


def apart(a, b):
    """The largest difference of two arrays, as a share of the largest value."""
    return float(np.abs(a - b).max(initial=0.0) / max(np.abs(a).max(initial=0.0), 1e-30))


def check_twin(run_compiled, model, wafer, some, flushed):
    """Run layer runs one after another, twice over, on one wafer, whose LLCs, if not *flushed*, keep some experts."""
    mesh = some[0][0]
    caches = [Llcs(wafer.spec.die.llc, wafer.num_dies) for _ in range(2)]
    for drawn_mesh, plan, compute, window in [*some, *some]:
        if drawn_mesh != mesh:
            continue
        for llcs in caches:
            llcs.begin(flushed=flushed)
        reference = simulate_layer(model, caches[0], 0, plan, 88e6, compute, window)
        ours = run_compiled(model, caches[1], 0, plan, 88e6, compute, window)
        check_conservation(plan, ours, wafer, 88e6)
        assert ours.hit.tolist() == reference.hit.tolist()
        for name in ("issue", "read_end", "end", "die_end"):
            assert apart(getattr(reference, name), getattr(ours, name)) < 1e-9, name
        for name in ("hbm_read", "hbm_written", "llc_read", "link_data", "link_request", "link_busy"):
            assert apart(getattr(reference.carried, name), getattr(ours.carried, name)) < 1e-9, name
    for die in range(wafer.num_dies):
        assert list(caches[0][die].content()) == list(caches[1][die].content())
