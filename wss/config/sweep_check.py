"""What `wss check` compares of a sweep."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from annotated_types import Ge, Len, Lt

from wss.config.document import Document
from wss.errors import CHECKED, did_you_mean
from wss.metrics.figures import checkable


@dataclass(frozen=True, kw_only=True)
class CheckSpec:
    """The figures that `wss check` compares, and their relative tolerance."""

    __pydantic_config__ = CHECKED

    tolerance: Annotated[float, Ge(0), Lt(1)] = 0.01
    figures: Annotated[tuple[str, ...], Len(1)] = ("speedup", "decode_time_s", "hops")


def check_figures(document: Document, spec: CheckSpec | None) -> None:
    """Add an error for each name in *spec* that is not a figure; None: *spec* has errors already."""
    for number, figure in enumerate(spec.figures if spec is not None else ()):
        if figure not in checkable():
            fault = f"{figure!r} is not a figure; {did_you_mean(figure, checkable())}"
            document.fault(("check", "figures", number), fault)
