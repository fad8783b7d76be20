"""A test suite for the policy contract, to run on a policy of your own.

    from wss.policies import Policy
    from wss.testing import PolicyContract

    class TestMine(PolicyContract):
        policy = Policy(name="mine", allocation=LeastLoaded())

is all that pytest needs. ``check_policy(policy)`` runs the same checks without pytest.
"""

from wss.testing.cases import WAFERS
from wss.testing.policy_contract import PolicyContract, check_policy
from wss.testing.trial import ContractError

__all__ = ["WAFERS", "ContractError", "PolicyContract", "check_policy"]
