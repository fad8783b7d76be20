"""Changes to a configuration before it is read: ``--set a.b=value``, those in Python, and those of a sweep's axes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import MISSING, dataclass
from itertools import pairwise
from typing import Any

from wss.config import document as nodes
from wss.config.document import Document, Place
from wss.config.factors import over
from wss.config.python_values import as_configured, brief, is_object, places_in
from wss.config.values import as_written
from wss.engine.specs import NETWORKS
from wss.errors import ConfigError, did_you_mean

# Keys that exclude one another: setting one replaces the whole value.
_EITHER_OR = {("trace", "path"), ("trace", "synth"), ("layers", "sample"), ("network", "kind")}


@dataclass(frozen=True)
class Setting:
    """A change of one setting.

    Attributes
    ----------
    text
        It as text, such as ``batch=1024``.
    source
        Its name in messages, such as ``--set batch=1024``.
    steps
        The path of the setting.
    value
        Its new value.
    """

    text: str
    source: str
    steps: tuple[str, ...]
    value: Any

    @property
    def key(self) -> str:
        """The path as text, such as ``wafer.link.bandwidth``."""
        return ".".join(self.steps)


def as_setting(setting: str | Setting) -> Setting:
    """Return *setting* such as ``batch=1024`` with its value parsed. Raises ConfigError if it is none."""
    if isinstance(setting, Setting):
        return setting
    source = f"--set {setting}"
    key, equals, text = setting.partition("=")
    if not equals or not all(key.split(".")):
        raise ConfigError(f"{source}: is not a setting; write --set a.b=value")
    parsed = nodes.parse(text, source)
    parsed.raise_faults()
    return Setting(setting, source, tuple(key.split(".")), parsed.value)


def python_settings(given: Mapping[str, Any] | Sequence[str | Setting]) -> list[Setting]:
    """Return settings given in Python: values by their path, such as ``wafer.link.bandwidth``, or as text.

    Raises ConfigError if one is none.
    """
    if isinstance(given, str) or not isinstance(given, Mapping | Sequence):
        right = "give a mapping, such as {'wafer.link.bandwidth': '3.4 TB/s'}"
        raise ConfigError(f"settings: {given!r:.60} is not right; {right}")
    if not isinstance(given, Mapping):
        for number, item in enumerate(given):
            if not isinstance(item, str | Setting):
                raise ConfigError(f"settings.{number}: {item!r:.60} is not right; give text, such as 'batch=1024'")
        return [as_setting(item) for item in given]
    found = []
    for key, value in given.items():
        if not isinstance(key, str) or not all(key.split(".")):
            raise ConfigError(f"settings: {key!r:.60} is not a setting; give its path, such as 'wafer.link.bandwidth'")
        text = f"{key}={brief(value)}"
        found.append(Setting(text, text, tuple(key.split(".")), as_configured(value)))
    return found


def apply_setting(document: Document, setting: str | Setting) -> None:
    """Apply one setting, such as ``a.b=value``, to the document."""
    new = as_setting(setting)
    put(document, new.steps, new.value, dict.fromkeys(places_in(new.value), new.source), new.source, typed=True)


def put(
    document: Document,
    steps: tuple[str, ...],
    value: Any,
    where: Mapping[Place, str],
    source: str,
    *,
    typed: bool = False,
) -> None:
    """Put *value* at *steps* of the document; *where* is the source location of each path in the value.

    *typed* is whether it was given on the command line rather than in a file. A factor such as ``2x`` multiplies the
    value that it replaces; see `wss.config.factors`.

    A preset's name on the path becomes ``{preset: name}``; a key that excludes another replaces it. Policies are
    selected by name, as in ``policies.allo.allocation.block``. Raises ConfigError if the path leads through a value
    that is not a mapping; *source* is the setting's name in the message.
    """
    at = document.value
    place: Place = ()
    if len(steps) > 1 and steps[0] == "policies" and isinstance(at.get("policies"), list):
        number = _number_of(at["policies"], steps[1], source)
        if len(steps) == 2:
            right = f"set a part of it, such as policies.{steps[1]}.allocation, or all policies"
            raise ConfigError(f"{source}: policies.{steps[1]} is a whole policy; {right}")
        at, place = at["policies"][number], ("policies", number)
        document.called[place] = f"policies.{steps[1]}"
        steps = steps[2:]
    for step, following in pairwise(steps):
        place = (*place, step)
        inside = _opened(step, at.get(step))
        if isinstance(inside, str) and place[0] == "policies":
            inside = {"kind": inside}
            document.typed |= {(*place, "kind")} if place in document.typed else set()
        else:
            before, inside = inside, _as_mapping(step, following, inside)
            if inside == {} and inside is not before:
                document.where[place] = source
        if not isinstance(inside, dict):
            raise ConfigError(f"{source}: {'.'.join(map(str, place))} is not a mapping there; set it whole")
        at[step] = inside
        at = inside
    place = (*place, steps[-1])
    value = over(value, at.get(steps[-1], MISSING))
    if place in _EITHER_OR:
        document.value[steps[0]] = at = {}
    at[steps[-1]] = value
    _forget(document, place)
    document.where |= {place: source, **{(*place, *new): text for new, text in where.items()}}
    document.typed |= {(*place, *new) for new in where if typed}


def _as_mapping(step: str, following: str, inside: Any) -> Any:
    """Return *inside*, the value of the key *step*, as a mapping in which *following* can be set, if there is one."""
    if isinstance(inside, str) and step == "dispatch":
        return {}  # `uniform` is the mapping without changes
    if isinstance(inside, str) and step in ("model", "wafer", "synth"):
        return {"preset": inside}
    excludes = (step, following) in _EITHER_OR
    # a setting below trace.path removes trace.synth, and the other way round
    other = step == "trace" and isinstance(inside, dict) and excludes and following not in inside
    return {} if inside is None or other or (not isinstance(inside, dict) and excludes) else inside


def _forget(document: Document, place: Place) -> None:
    """Remove the source locations at *place* and below."""
    document.typed = {old for old in document.typed if old[: len(place)] != place}
    for old in [old for old in document.where if old[: len(place)] == place]:
        del document.where[old]


def _number_of(policies: list[Any], name: str, source: str) -> int:
    """Return the index of the policy *name*, and turn its entry into a mapping if it is only a name."""
    names = [p.get("name") if isinstance(p, dict) else getattr(p, "name", p) for p in policies]
    if name not in names:
        raise ConfigError(f"{source}: there is no policy '{name}'; {did_you_mean(name, map(str, names))}")
    number = names.index(name)
    if not isinstance(policies[number], dict):
        policies[number] = {"name": name, "preset": policies[number]}
    return number


def _opened(step: str, value: Any) -> Any:
    """Return *value* of the key *step*, if it is an object, as a mapping that can be changed."""
    if not is_object(value):
        return value
    if step in ("model", "wafer", "synth"):
        return {"preset": value}
    if step == "trace" and not hasattr(value, "path"):
        return {"synth": value}
    written = as_written(value, type(value))
    kind = next((name for name, cls in NETWORKS.items() if step == "network" and type(value) is cls), None)
    return {"kind": kind, **written} if kind else written
