"""Validated calls to a caching rule, whenever copies, buffers or migrating experts need free bytes."""

from __future__ import annotations

from wss.policies import Policy
from wss.policies.caching import Pool
from wss.policies.validation import ask, checked_victims
from wss.records import IntArray


class CheckedEviction:
    """Wraps the caching rule of *policy*; turns its exceptions and invalid results into a one-line ConfigError."""

    def __init__(self, policy: Policy) -> None:
        self._policy, self._rule = policy.name, policy.caching
        self.pins = bool(getattr(policy.caching, "pins", True))

    def victims(self, pool: Pool, count: int) -> IntArray:
        """Return the indices in *pool* that the rule evicts, checked.

        Raises
        ------
        ConfigError
            If the rule fails, or does not return *count* different indices in *pool*.
        """
        answer = ask(self._policy, "caching", self._rule.victims, pool, count)
        kind = type(self._rule)
        return checked_victims(answer, len(pool.new), count, self._policy, f"{kind.__module__}:{kind.__qualname__}")
