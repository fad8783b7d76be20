"""Validation of what policies return, which may be a user's own: every result is checked, and copied, before use."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from wss.errors import ConfigError
from wss.policies import LayerView
from wss.records import BoolArray, FloatArray, IntArray, Plan

MOST_REPLICAS = 4096  # of an expert on one die


def sealed(array: Any) -> Any:
    """Return a read-only copy of *array*."""
    copy = np.array(array)
    copy.flags.writeable = False
    return copy


def _array(value: Any, what: str) -> npt.NDArray[Any]:
    """Return *value* as an array; raise ConfigError if it is not one, such as ragged lists."""
    try:
        return np.asarray(value)
    except ValueError as error:
        raise ConfigError(f"{what} is not an array ({error}); give all rows one length") from None


def validate_number(value: Any, what: str, *, above_zero: bool = False) -> float:
    """Return *value* as a float >= 0, or > 0 if *above_zero*; raise ConfigError, naming it *what*, if it is not."""
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if not is_number or not 0 <= value < np.inf or (above_zero and value == 0):
        raise ConfigError(f"{what} is {value!r}; it should be a number {'above 0' if above_zero else 'of at least 0'}")
    return float(value)


def validate_placement(placed: Any, shape: tuple[int, int, int], policy: str) -> IntArray:
    """Return a placement as replicas on each die, [layers, experts, dies]; raise ConfigError if it is not valid."""
    array = _array(placed, f"policy {policy}: its placement")
    fault = None
    if array.shape != shape or array.dtype.kind not in "biu":
        right = f"whole numbers (or bool) {list(shape)}, replicas by [layers, experts, dies]"
        fault = f"is {array.dtype} {list(array.shape)}; it should be {right}"
    elif array.dtype.kind != "b" and not ((array >= 0) & (array <= MOST_REPLICAS)).all():
        odd = array[(array < 0) | (array > MOST_REPLICAS)][0]
        fault = f"has {odd} replicas of an expert on a die; it should be 0 to {MOST_REPLICAS}"
    elif not array.any(axis=2).all():
        layer, expert = np.argwhere(~array.any(axis=2))[0]
        fault = f"puts expert {expert} of layer {layer} on no die; put each on at least one"
    if fault:
        raise ConfigError(f"policy {policy}: its placement {fault}")
    result: IntArray = sealed(array.astype(np.int64))
    return result


def validate_selected(selected: Any, num_tasks: int, policy: str) -> BoolArray:
    """Return a prediction as bool [tasks]; raise ConfigError if it is not one."""
    array = _array(selected, f"policy {policy}: its prediction")
    if array.shape != (num_tasks,) or array.dtype != np.bool_:
        what = f"is {array.dtype} {list(array.shape)}; it should be bool [{num_tasks}], one per task"
        raise ConfigError(f"policy {policy}: its prediction {what}")
    return array


def validate_expected(expected: Any, shape: tuple[int, int], policy: str) -> FloatArray:
    """Return the predicted use as floats [dies, experts]; raise ConfigError if it is not valid."""
    array = _array(expected, f"policy {policy}: what its prediction expects")
    if array.shape != shape or array.dtype.kind not in "iuf" or not np.isfinite(array).all():
        what = f"is {array.dtype} {list(array.shape)}; it should be finite numbers {list(shape)}, [dies, experts]"
        raise ConfigError(f"policy {policy}: what its prediction expects {what}")
    return array.astype(np.float64)


def validate_load(load: Any, shape: tuple[int, ...], policy: str) -> IntArray:
    """Return a load to rebalance by as int [layers, experts]; raise ConfigError if it is not valid."""
    array = _array(load, f"policy {policy}: its rebalancing")
    if array.shape != shape or array.dtype.kind not in "iu" or (array < 0).any():
        right = f"whole numbers of at least 0, {list(shape)}, [layers, experts]"
        what = f"gives a load of {array.dtype} {list(array.shape)}; it should be {right}"
        raise ConfigError(f"policy {policy}: its rebalancing {what}")
    return array.astype(np.int64)


def validate_evicted(evicted: Any, size: int, count: int, policy: str, rule: str) -> IntArray:
    """Return what *rule* evicts as indices in a pool of *size*, [count]; raise ConfigError if they are not valid."""
    start = f"policy {policy}: its caching, {rule}, evicts"
    array = _array(evicted, f"policy {policy}: the result of its caching, {rule},")
    whole = array.ndim == 1 and (array.dtype.kind in "iu" or not array.size)
    if not whole or len(array) != count or len(set(array.tolist()) & set(range(size))) != count:
        right = f"{count} different indices, whole numbers in 0..{size - 1}"
        raise ConfigError(f"{start} {' '.join(repr(array.tolist()).split())[:200]}; it should be {right}")
    return array.astype(np.int64)


def validate_prefetch(prefetch: Any, holders: BoolArray, policy: str) -> list[list[int]]:
    """Return the experts to prefetch as a list for each die; raise ConfigError if they are not valid."""
    array = _array(prefetch, f"policy {policy}: its prefetching")
    experts, dies = holders.shape
    fault = None
    if array.size == 0 and len(array) in (0, dies):
        return [[] for _ in range(dies)]
    if array.ndim != 2 or len(array) != dies or not np.issubdtype(array.dtype, np.integer):
        fault = f"is {array.dtype} {list(array.shape)}; it should be whole numbers [{dies}, any], experts of each die"
    elif ((array < -1) | (array >= experts)).any():
        fault = f"names experts that do not exist; there are 0..{experts - 1}, and -1 for none"
    elif not (holders.T[np.arange(dies)[:, None], array] | (array < 0)).all():
        fault = "names experts that the die does not hold; use holders"
    if fault:
        raise ConfigError(f"policy {policy}: its prefetching {fault}")
    return [[expert for expert in row if expert >= 0] for row in array.tolist()]


def validate_plan(plan: Any, view: LayerView, policy: str) -> Plan:
    """Return a read-only copy of *plan*, without copies.

    Raises ConfigError if it does not compute every token once, on dies that exist, from dies that hold the weights; one
    line per error.
    """
    start = f"policy {policy}: its plan of layer {view.layer}"
    if not isinstance(plan, Plan):
        raise ConfigError(f"{start} is a {type(plan).__name__}; it should be a wss.records.Plan")
    columns = {
        name: _array(getattr(plan, name), f"{start}: its {name}") for name in ("expert", "die", "tokens", "source")
    }
    sizes = {array.shape for array in columns.values()}
    whole = all(array.dtype.kind in "iu" for array in columns.values())
    if not whole or len(sizes) != 1 or len(next(iter(sizes))) != 1:
        kinds = ", ".join(f"{name} {array.dtype} {list(array.shape)}" for name, array in columns.items())
        raise ConfigError(f"{start} has {kinds}; it should have whole numbers [tasks], one length")
    expert, die, tokens, source = (sealed(array.astype(np.int64)) for array in columns.values())
    ranges = ("experts", expert, len(view.counts)), ("dies", die, view.num_dies), ("source dies", source, view.num_dies)
    faults = [
        f"uses {name} that do not exist; there are 0..{most - 1}"
        for name, array, most in ranges
        if array.size and (array.min() < 0 or array.max() >= most)
    ]
    if not faults:
        broken = _broken((expert, die, tokens, source), view)
        faults = [line for line, is_broken in zip(RULES, broken, strict=True) if is_broken]
    if faults:
        raise ConfigError(*(f"{start} {fault}" for fault in faults))
    return Plan(expert=expert, die=die, tokens=tokens, source=source, copy=sealed(np.zeros(len(expert), np.bool_)))


RULES = (
    "reads an expert from a die that does not hold it or does not serve others; use view.sources, or the die itself if "
    "it is one of view.holders",
    "has a task without tokens; leave it out",
    "does not compute every token once; assign all of view.counts",
    "has an (expert, die) twice; merge the tasks",
)


def _broken(plan: tuple[IntArray, IntArray, IntArray, IntArray], view: LayerView) -> tuple[bool, bool, bool, bool]:
    """Return for each of the `RULES` whether a plan, with all indices in range, breaks it."""
    expert, die, tokens, source = plan
    can_serve = np.where(source == die, view.holders[expert, source], view.sources[expert, source])
    left = view.counts.astype(np.int64)
    np.subtract.at(left, expert, tokens)
    pairs = np.unique(expert * view.num_dies + die)
    return not can_serve.all(), bool((tokens <= 0).any()), bool(left.any()), pairs.size < expert.size
