"""Simulated planning time of a layer run: the time until the plan is on the dies.

The paper's Global CP plans a layer run when it is launched. With ``planning: free`` planning is hidden behind other
work. A time such as ``20 us`` is used as given. ``charged`` is the time of planning on a host (figure 15): the expert
distribution table goes up and the plan comes down, both over PCIe, plus one round trip. Nothing is measured, so runs
are reproducible to the byte.
"""

from __future__ import annotations

from typing import Literal

from wss.policies import Policy

PCIE = 64e9  # B/s each way, PCIe 5.0 x16 (PCI-SIG)
ROUND_TRIP = 20e-6  # s, including launch and driver (assumed)
TABLE_BITS = 72  # per expert in the distribution table (the paper's table II)
TASK_BYTES = 8  # per task: expert, die, tokens (assumed)

FREE = "free"

Planning = float | Literal["free", "charged"]


def planning_notes(planning: Planning, policy: Policy) -> list[str]:
    """Return a note if planning time is charged, but not to *policy*."""
    if planning in (FREE, 0.0) or not policy.allocation.local:
        return []
    return [f"{policy.name}: every die works out its own part of the plan, so no planning is charged"]


def planning_time(planning: Planning, policy: Policy, num_experts: int, num_tasks: int) -> float:
    """Return the seconds that a layer run of *policy* waits for a plan of *num_tasks* tasks."""
    if planning in (FREE, 0.0) or policy.allocation.local:
        return 0.0
    if planning == "charged":
        return ROUND_TRIP + (num_experts * TABLE_BITS / 8 + num_tasks * TASK_BYTES) / PCIE
    assert isinstance(planning, float)
    return planning
