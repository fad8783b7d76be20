"""Test suites for the contracts, to run on a policy or a scheduler of your own.

    from wss.policies import Policy
    from wss.testing import PolicyContract

    class TestMine(PolicyContract):
        policy = Policy(name="mine", allocation=LeastLoaded())

is all that pytest needs. ``check_policy(policy)`` runs the same checks without pytest. ``check_scheduler(build)``
checks the scheduler that *build* makes of requests and a number of seats.
"""

from wss.testing.cases import WAFERS
from wss.testing.policy_contract import PolicyContract, check_policy
from wss.testing.scheduler_contract import check_scheduler
from wss.testing.trial import ContractError

__all__ = ["WAFERS", "ContractError", "PolicyContract", "check_policy", "check_scheduler"]
