"""What planning costs a layer run, where it is charged: the time until the plan is on the dies.

The paper's Global CP plans a layer run when it is launched. ``planning: free`` takes it to be hidden behind other work,
a time such as ``20 us`` is taken as it is, and ``charged`` is what planning on a host would take (figure 15): the
expert distribution table goes up, the plan comes down, both over PCIe, and a round trip is waited for. Nothing here is
measured while the run goes on, so a run repeats to the byte.
"""

from __future__ import annotations

from typing import Literal

from wss.policies import Policy
from wss.policies.allocation.basic import FIXED

PCIE = 64e9  # B/s each way, PCIe 5.0 x16 (PCI-SIG)
ROUND_TRIP = 20e-6  # s, with a layer run's launch and the driver (assumed)
TABLE_BITS = 72  # of an expert in the distribution table (the paper's table II)
TASK_BYTES = 8  # expert, die, tokens (assumed)

FREE = "free"

Planning = float | Literal["free", "charged"]


def planning_notes(planning: Planning, policy: Policy) -> list[str]:
    """Return what a reader should know: whether nothing is charged to *policy*, where it is to others."""
    if planning in (FREE, 0.0) or type(policy.allocation) not in FIXED:
        return []
    return [f"{policy.name}: every die works out its own part of the plan, so no planning is charged"]


def planning_time(planning: Planning, policy: Policy, num_experts: int, num_tasks: int) -> float:
    """Return the seconds for which a layer run of *policy* waits for a plan of *num_tasks*."""
    if planning in (FREE, 0.0) or type(policy.allocation) in FIXED:
        return 0.0
    if planning == "charged":
        return ROUND_TRIP + (num_experts * TABLE_BITS / 8 + num_tasks * TASK_BYTES) / PCIE
    assert isinstance(planning, float)
    return planning
