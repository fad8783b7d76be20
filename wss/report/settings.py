"""Settings of experiments side by side: flat keys such as ``wafer.link.bandwidth``, and where two differ.

Configurations are as in summary.json and sweep.json: plain data in SI units, without the settings that are none.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

SET = "set"  # in place of a whole part that only one of two has
DEEPEST = 20  # parts of a key


class Change(NamedTuple):
    """A setting that differs: its key, and its values; None if it is not set."""

    key: str
    was: Any
    now: Any

    def texts(self) -> tuple[str, str]:
        """Return both values as text, with as many digits as it takes to tell them apart."""
        short = tuple(f"{each:.6g}" if isinstance(each, float) else setting_text(each) for each in self[1:])
        return (short[0], short[1]) if short[0] != short[1] else (repr(self.was), repr(self.now))


def setting_text(value: Any) -> str:
    """Return the value of a setting as text."""
    if value is None:
        return "none"
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(setting_text, value))}]"
    return str(value)


def flat_settings(config: Any, prefix: str = "") -> dict[str, Any]:
    """Return *config* with dotted keys; policies, and other lists of mappings with names, are keyed by these names."""
    if isinstance(config, list) and config and all(isinstance(each, dict) and "name" in each for each in config):
        config = {str(each["name"]): {key: item for key, item in each.items() if key != "name"} for each in config}
    if not isinstance(config, dict):
        return {prefix: config}
    found: dict[str, Any] = {}
    for key, item in config.items():
        found |= flat_settings(item, f"{prefix}.{key}" if prefix else str(key))
    return found


def changes(was: Mapping[str, Any], now: Mapping[str, Any]) -> list[Change]:
    """Return the settings that differ between *was* and *now*, both flat; a part that only one has is one change."""
    found: dict[str, Change] = {}
    parts = {each: _parts(keys) for each, keys in (("was", was), ("now", now))}
    for key in dict.fromkeys((*was, *now)):
        if was.get(key) == now.get(key) and type(was.get(key)) is type(now.get(key)):
            continue
        lacking = parts["now"] if key not in now else parts["was"] if key not in was else None
        part = (
            key if lacking is None else next(each for each in (*_above(key), key) if each not in lacking or each == key)
        )
        if part == key:
            found[key] = Change(key, was.get(key), now.get(key))
        else:
            found[part] = Change(part, SET, None) if key in was else Change(part, None, SET)
    return list(found.values())


def _parts(keys: Mapping[str, Any]) -> set[str]:
    """Return *keys* and the parts that they lie in."""
    return {each for key in keys for each in (key, *_above(key))}


def _above(key: str) -> list[str]:
    """Return the parts in which *key* lies, the outermost first."""
    steps = key.split(".", DEEPEST)
    return [".".join(steps[:size]) for size in range(1, len(steps))]
