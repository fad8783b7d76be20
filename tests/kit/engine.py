"""Random layer runs, and the comparison of a compiled engine with SimPy's."""

import numpy as np
from hypothesis import strategies as st

from kit import plan_of
from wss.engine.layer import simulate_layer
from wss.engine.layer_compiled import compiled_layer
from wss.engine.llc import Llcs
from wss.engine.work import LayerWork, WaferNetwork
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


ENGINES = {"simpy": simulate_layer, "compiled": compiled_layer}


def check_twin(network, wafer, some, flushed, prefetch=None):
    """Run layer runs one after another, twice over, in both engines, on one wafer.

    The LLCs keep some experts if not *flushed*. In each layer run *prefetch* is prefetched.
    """
    mesh, on_wafer = some[0][0], WaferNetwork(wafer, network)
    caches = {name: Llcs(wafer.spec.die.llc, wafer.num_dies, 88e6) for name in ENGINES}
    for drawn_mesh, plan, compute, window in [*some, *some]:
        if drawn_mesh != mesh:
            continue
        work = LayerWork(layer=0, plan=plan, nbytes=88e6, compute=compute, window=window, prefetch=prefetch)
        runs = {}
        for name, engine in ENGINES.items():
            caches[name].begin(flushed=flushed)
            runs[name] = engine(on_wafer, caches[name], work)
        ours, reference = runs["compiled"], runs["simpy"]
        check_conservation(plan, ours, wafer, 88e6)
        assert ours.hit.tolist() == reference.hit.tolist()
        assert ours.prefetched.tolist() == reference.prefetched.tolist()
        for name in ("issue", "read_end", "end", "die_end"):
            assert apart(getattr(reference, name), getattr(ours, name)) < 1e-9, name
        for name in ("hbm_read", "hbm_written", "llc_read", "link_data", "link_request", "link_busy"):
            assert apart(getattr(reference.traffic, name), getattr(ours.traffic, name)) < 1e-9, name
    for name in ("key", "pin"):
        kept, same = (getattr(each.caches, name).tolist() for each in caches.values())
        assert kept == same
