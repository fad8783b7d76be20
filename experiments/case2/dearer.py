"""Algorithm 1 that takes reads from other dies for dearer than they are: what its estimate leaves out, made up for."""

from __future__ import annotations

from dataclasses import dataclass, replace

from wss.policies import LayerView
from wss.policies.allocation.basic import Algorithm1
from wss.records import Plan


@dataclass(frozen=True, kw_only=True)
class Dearer(Algorithm1):
    """Algorithm 1 with each read from another die *factor* times as long."""

    factor: float = 1.0

    def allocate(self, view: LayerView) -> Plan:
        """Return what Algorithm 1 answers then."""
        costs = replace(view.costs, transfers=view.transfers * self.factor)
        return super().allocate(replace(view, costs=costs))
