"""Asking a caching rule what to give up, wherever in a run room gets short: for a copy, for buffers, for an expert."""

from __future__ import annotations

from wss.policies import Policy
from wss.policies.caching import Pool
from wss.policies.validation import ask, checked_victims
from wss.records import IntArray


class CheckedEviction:
    """The caching rule of *policy*, in whose place it stands: what the rule raises or answers wrongly is one line."""

    def __init__(self, policy: Policy) -> None:
        self._policy, self._rule = policy.name, policy.caching
        self.pins = bool(getattr(policy.caching, "pins", True))

    def victims(self, pool: Pool, count: int) -> IntArray:
        """Return the rule's answer, checked.

        Raises
        ------
        ConfigError
            If the rule fails, or gives up anything but *count* different places of the *pool*.
        """
        answer = ask(self._policy, "caching", self._rule.victims, pool, count)
        kind = type(self._rule)
        return checked_victims(answer, len(pool.new), count, self._policy, f"{kind.__module__}:{kind.__qualname__}")
