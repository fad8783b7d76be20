"""Serving a model with a policy: calling the policy, placing and migrating experts, executing layer runs."""
