"""The contract that every policy keeps, as a suite that a user runs on a policy of their own.

    from wss.policies import Policy
    from wss.testing import PolicyContract

    class TestMine(PolicyContract):
        policy = Policy(name="mine", allocation=LeastLoaded())

is all that pytest needs; ``check_policy(policy)`` does the same at once, without pytest.
"""

from wss.testing.cases import WAFERS
from wss.testing.policy_contract import PolicyContract, check_policy
from wss.testing.trial import ContractError

__all__ = ["WAFERS", "ContractError", "PolicyContract", "check_policy"]
