"""Energy of decode, estimated from what a run counts, by kind; docs/model/energy.md.

Only what a run counts is included: FLOP and weights of routed experts, and bytes over links, activations included where
they are modelled. The kinds add up to the total.
"""

from __future__ import annotations

from wss.hardware import energy
from wss.metrics.measures import Measure, Totals
from wss.records import FloatArray


def _compute(totals: Totals) -> FloatArray:
    ledger = totals.ledger
    return totals.sum("tokens") * (ledger.flop_per_token * energy.COSTS.flop[ledger.peak])


def _hbm(totals: Totals) -> FloatArray:
    """Return the energy of reads, prefetches and writes; a hit in an LLC is no read of an HBM."""
    moved = totals.sum("local_read_bytes", "remote_read_bytes", "prefetched_bytes", "local_write_bytes")
    return (moved - totals.sum("llc_hit_bytes")) * energy.COSTS.hbm_byte


def _llc(totals: Totals) -> FloatArray:
    return totals.sum("llc_hit_bytes") * energy.COSTS.llc_byte


def _links(totals: Totals) -> FloatArray:
    """Return the energy of D2D links, or of NVLink ports; every link that a byte crosses counts."""
    return totals.link_bytes @ energy.of_links(totals.wafer)[0]


def _network(totals: Totals) -> FloatArray:
    return totals.link_bytes @ energy.of_links(totals.wafer)[1]


def _total(totals: Totals) -> FloatArray:
    return _compute(totals) + _hbm(totals) + _llc(totals) + _links(totals) + _network(totals)


def _of_token(totals: Totals) -> float | None:
    """Return the energy of a token; None unless all layers were run."""
    is_whole = len(totals.ledger.layer_links) == totals.layers_total
    return float(_total(totals)[0] / totals.tokens) if is_whole else None


COMPUTE, HBM, LLC, LINKS, NETWORK, TOTAL = map(Measure, (_compute, _hbm, _llc, _links, _network, _total))
STEP = Measure(lambda totals: _total(totals) / len(totals.step_times))
TOKEN = Measure(_total, lambda totals: totals.spread(totals.tokens), _of_token)
