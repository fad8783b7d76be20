"""Routing sources: which experts the tokens of a batch are sent to, layer by layer."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, Protocol

import numpy.typing as npt

from wss.errors import CHECKED
from wss.records import Batch, IntArray, Routed


@dataclass(frozen=True, kw_only=True)
class TraceFile:
    """Routing from a Parquet trace.

    Requests are in the order of the file, in the order of their numbers as text (as in the paper's simulator), or
    shuffled by the seed. A batch holds the first of them; if continuous, the next one starts when one ends.
    """

    __pydantic_config__ = CHECKED

    path: str
    order: Literal["file", "string", "mixed"] = "file"
    replay: Literal["batch", "continuous"] = "batch"


class Chunk(NamedTuple):
    """The experts of some tokens of a step in one layer, a row a token; views that the next chunk may change.

    Attributes
    ----------
    layer
        Index among the layers of the source.
    experts
        [rows, top_k].
    multiplicity
        How often the token counts, [rows]; 0 for a token of an earlier step, which only precedes the next row.
    pairs
        How often the row counts as the successor of the row before, [rows].
    """

    layer: int
    experts: npt.NDArray[Any]
    multiplicity: IntArray
    pairs: IntArray


class RoutingSource(Protocol):
    """The experts of tokens in *layers*, indices among the MoE layers, ascending.

    A token is the same whenever it is computed. The tokens of a request are computed in order, from its first one or
    from the first one after its prompt; a request that is computed again starts again.
    """

    layers: tuple[int, ...]

    def tokens(self, batch: Batch, *, pairs: bool) -> Iterator[Chunk]:
        """Yield the tokens of *batch* layer by layer, in chunks; with *pairs*, rows that precede them too."""
        ...


@dataclass(frozen=True, eq=False, kw_only=True)
class LayerTokens:
    """The tokens of a layer run: one MoE layer of one step.

    Attributes
    ----------
    step, layer
        Its indices; *layer* is an index among the layers that are run.
    counts
        Tokens routed to each expert, [experts].
    order
        Experts with tokens in order of first appearance (request by request, token by token, rank by rank),
        [active experts].
    heat
        How often expert i was followed by expert j in the next token of the same request, in this layer, up to and
        including this step, [experts, experts]. A view that the next step of the layer changes.
    next_layer, next_seen
        The layer of the next layer run, and the tokens of each of its experts so far, [experts]. Also a view.
    next_heat
        How often a token sent to expert i of this layer was sent to expert j of the next one, up to the step before,
        [experts, experts]; nothing follows the last layer. Also a view; None if it is not counted.
    routed
        The experts of each token; None if not available.
    zero_choices
        How often the router chose a zero-computation expert; none of the counts above include these choices.
    """

    step: int
    layer: int
    counts: IntArray
    order: IntArray
    heat: IntArray
    next_layer: int
    next_seen: IntArray
    next_heat: IntArray | None = None
    routed: Routed | None = None
    zero_choices: int = 0
