"""The averages of a sweep: means of one figure over points, beside the values that others report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated

from annotated_types import Len

from wss.config.document import Document
from wss.errors import CHECKED, did_you_mean
from wss.metrics.figures import numbers

Label = str | int | float | bool


@dataclass(frozen=True, kw_only=True)
class Reported:
    """Averages that a publication reports for one policy.

    Attributes
    ----------
    source
        The heading of its column.
    policy
        The policy that they are of.
    axis
        One of the axes of `AveragesSpec.by`.
    values
        The reported value by label of *axis*, as text.
    """

    __pydantic_config__ = CHECKED

    source: Annotated[str, Len(1)]
    policy: str
    axis: str
    values: Annotated[Mapping[str, float], Len(1)]


@dataclass(frozen=True, kw_only=True)
class AveragesSpec:
    """Means of *figure* over all points that share their labels on the axes *by*; arithmetic means, as papers report.

    Attributes
    ----------
    by
        Axes; a mean for each combination of their labels. Without any, one mean over all points.
    figure
        A figure of the results.
    reported
        What others report for the same means.
    """

    __pydantic_config__ = CHECKED

    by: tuple[str, ...] = ()
    figure: str = "speedup"
    reported: tuple[Reported, ...] = ()


def check_averages(
    document: Document, spec: AveragesSpec, axes: Mapping[str, Sequence[Label]], policies: Sequence[str]
) -> None:
    """Add an error to *document* for every name in *spec* that the sweep does not have.

    Parameters
    ----------
    document
        The sweep's file.
    spec
        Its averages.
    axes
        The labels of each axis.
    policies
        The policies that all points have.
    """
    if spec.figure not in numbers():
        fault = f"{spec.figure!r} is not a figure; {did_you_mean(spec.figure, numbers())}"
        document.fault(("averages", "figure"), fault)
    for number, axis in enumerate(spec.by):
        if axis not in axes:
            document.fault(
                ("averages", "by", number), f"{axis!r} is not an axis of the grid; {did_you_mean(axis, axes)}"
            )
        elif axis in spec.by[:number]:
            document.fault(("averages", "by", number), f"{axis!r} is there twice; keep one")
    for number, each in enumerate(spec.reported):
        place = ("averages", "reported", number)
        if each.policy not in policies:
            document.fault(
                (*place, "policy"),
                f"{each.policy!r} is not a policy of all points; {did_you_mean(each.policy, policies)}",
            )
        if each.axis not in spec.by:
            document.fault((*place, "axis"), f"{each.axis!r} is not in averages.by; {did_you_mean(each.axis, spec.by)}")
            continue
        labels = [str(label) for label in axes.get(each.axis, ())]
        for label in each.values:
            if label not in labels:
                right = did_you_mean(label, labels)
                document.fault((*place, "values", label), f"{label!r} is not a label of axis {each.axis}; {right}")
