"""Policies and parts of policies from installed packages, by entry points; a plug-in is loaded only when it is named.

A package's pyproject.toml has

    [project.entry-points."wss.policies"]
    mine = "my_package:MINE"          # a wss.policies.Policy, or a function that returns one

    [project.entry-points."wss.allocations"]
    least_loaded = "my_package:LeastLoaded"

and likewise for ``wss.placements``, ``wss.predictions``, ``wss.cachings``, ``wss.prefetchings``, ``wss.rebalancings``
and ``wss.networks``.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable
from dataclasses import replace
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from wss.config.code import ADDED
from wss.config.import_faults import place_of
from wss.engine.specs import NETWORKS, FluidSpec
from wss.errors import ConfigError
from wss.policies import SEAMS, Policy, Seam

NETWORK = Seam(name="network", base=object, method="model", classes=NETWORKS, default=FluidSpec)
BY_KIND = SEAMS | {NETWORK.name: NETWORK}  # what a configuration chooses by the name of a class
POLICY_GROUP = "wss.policies"


def offered(group: str) -> dict[str, list[EntryPoint]]:
    """Return the entry points of installed packages in *group*, by name; several packages may use the same name."""
    found: dict[str, list[EntryPoint]] = {}
    for point in _points(group, tuple(folder for folder in sys.path if folder not in ADDED)):
        found.setdefault(point.name, []).append(point)
    return found


@cache
def _points(group: str, path: tuple[str, ...]) -> tuple[EntryPoint, ...]:
    """Return the entry points of *group*, cached for each *path*, as the search takes 50 ms."""
    before = sys.path[:]
    sys.path[:] = path
    try:
        return tuple(entry_points(group=group))
    finally:
        sys.path[:] = before


def plugin(group: str, name: str, built_in: Iterable[str]) -> Any:
    """Return the object of the plug-in *name*, loaded; None if there is no such plug-in.

    Raises ConfigError if its name is taken, by a *built_in* or by another plug-in, or if it cannot be loaded.
    """
    points = offered(group).get(name, [])
    if not points:
        return None
    owners = [_owner(point) for point in points]
    if name in built_in:
        raise ConfigError(f"'{name}' is built in, and {owners[0]} has a plug-in of that name; rename or uninstall that")
    if len(points) > 1:
        raise ConfigError(f"'{name}' is offered by {' and '.join(sorted(owners))}; uninstall all but one")
    try:
        return points[0].load()
    except (Exception, SystemExit) as error:  # a plug-in may raise anything while it is imported
        what = f"'{name}', {points[0].value} of {owners[0]}, cannot be loaded ({_reason(error)}){_at(error)}"
        raise ConfigError(f"{what}; fix or uninstall it") from error


def plugin_policy(name: str, built_in: Iterable[str]) -> Policy | None:
    """Return the policy of the plug-in *name*, under that name; None if there is no such plug-in.

    Raises ConfigError as `plugin`; or if it is neither a policy nor a function that returns one.
    """
    found = plugin(POLICY_GROUP, name, built_in)
    if found is None:
        return None
    owner = _owner(offered(POLICY_GROUP)[name][0])
    if not isinstance(found, Policy) and callable(found):
        try:
            found = found()
        except (Exception, SystemExit) as error:
            what = f"'{name}' of {owner} cannot be made ({_reason(error)}){_at(error)}"
            raise ConfigError(f"{what}; fix or uninstall it") from error
    if not isinstance(found, Policy):
        what = f"is a {type(found).__name__}; it should be a wss.policies.Policy, or a function that returns one"
        raise ConfigError(f"'{name}' of {owner} {what}")
    return replace(found, name=name)


def listed() -> str:
    """Return a line for each installed plug-in, with its package; none of them is loaded."""
    lines = [
        f"  {group.removeprefix('wss.')}: {name}  {point.value}, of {_owner(point)}"
        for group in (POLICY_GROUP, *(seam.group for seam in BY_KIND.values()))
        for name, points in sorted(offered(group).items())
        for point in points
    ]
    return "\n".join(["plug-ins", *(lines or ["  none is installed"])])


def _reason(error: BaseException) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"


def _at(error: BaseException) -> str:
    """Return the line at which *error* was raised, as text; empty if it is in no file of the plug-in."""
    where = place_of(error)
    return "" if where is None else f" at {where}"


def _owner(point: EntryPoint) -> str:
    """Return the name of the package of *point*."""
    return f"the package {point.dist.name}" if point.dist is not None else "a package"
