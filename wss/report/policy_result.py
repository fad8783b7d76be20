"""The result of one policy: its figures, and its layer runs and links as tables."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import pyarrow as pa

from wss.hardware import Wafer
from wss.metrics import Ledger
from wss.metrics.figures import Value
from wss.report.tables import layers_table, links_table


@dataclass(frozen=True, eq=False, kw_only=True)
class PolicyResult:
    """The result of one policy.

    Attributes
    ----------
    policy
        Its name.
    figures
        Its figures by name, in the order of the table of figures; with several seeds, means over them.
    by_seed
        The figures of each seed.
    ledgers
        The ledger of each seed.
    wafer
        The wafer.
    planning
        CPU time of the policy's calls, of the first seed; see `PolicyHost.cost`.
    """

    policy: str
    figures: Mapping[str, Value]
    by_seed: tuple[Mapping[str, Value], ...]
    ledgers: tuple[Ledger, ...]
    wafer: Wafer
    planning: dict[str, Any]

    @cached_property
    def layers(self) -> pa.Table:
        """The rows of layers.parquet."""
        return layers_table(self.ledgers)

    @cached_property
    def links(self) -> pa.Table:
        """The rows of links.parquet."""
        return links_table(self.ledgers, self.wafer)
