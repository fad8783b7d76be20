"""A policy's placement of all MoE layers as a layout file, without running the policy."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from wss import hardware
from wss.config import Experiment
from wss.config.plugins import plugin_policy
from wss.errors import ConfigError, did_you_mean
from wss.execution.memory_use import check_memory
from wss.execution.routing import build_routing_history
from wss.hardware import Wafer
from wss.memory.hbm import bytes_of_experts
from wss.policies import POLICIES, Policy
from wss.policies.placement import layout_text
from wss.records import IntArray
from wss.serving.placement import RoutingHistory, costs_of, placement_view, placing_notes
from wss.serving.policy_host import PolicyHost


@dataclass(frozen=True, eq=False)
class Layout:
    """A layout as JSON (see `wss.policies.placement.layout_file`), a one-line description, and notes for the reader.

    *placed* is the replicas on each die before spare slots are filled, [MoE layers, experts, dies].
    """

    text: str
    about: str
    notes: tuple[str, ...]
    placed: IntArray


def layout_of(experiment: Experiment, name: str) -> Layout:
    """Return the layout of all MoE layers by policy *name*, one of the experiment's policies, a preset or a plug-in.

    Raises
    ------
    WssError
        If there is no such policy, or its placement does not fit the wafer.
    """
    policies = {**POLICIES, **{policy.name: policy for policy in experiment.policies}}
    policy = policies.get(name) or plugin_policy(name, POLICIES)
    if policy is None:
        raise ConfigError(f"--policy {name}: is not a policy here; {did_you_mean(name, policies)}")
    return layouts_of(experiment, [policy])[0]


def layouts_of(experiment: Experiment, policies: Sequence[Policy]) -> list[Layout]:
    """Return the layout of all MoE layers by each of *policies*; raise WssError if one does not fit the wafer."""
    everything = replace(experiment, layers="all")
    check_memory(everything, policies)
    wafer = hardware.build(experiment.wafer, experiment.faults).achieving(everything.setup.hbm_share)
    history = build_routing_history(everything)
    return [_layout(everything, wafer, policy, history) for policy in policies]


def _layout(everything: Experiment, wafer: Wafer, policy: Policy, history: RoutingHistory) -> Layout:
    setup, model = everything.setup, everything.model
    view = placement_view(setup, wafer, policy, history, costs_of(setup, wafer))
    placed = PolicyHost(policy).place(view)
    bytes_of_experts(policy.name, placed, model, everything.precision, wafer)  # raises if they do not fit
    layers, experts, dies = placed.shape
    slots = placed.sum(axis=1).max()
    text = layout_text(placed, model.moe_layers, model.num_layers)
    return Layout(
        text=text,
        about=f"{layers} MoE layers, {experts} experts on {dies} dies, {slots} slots a die and layer",
        notes=(*placing_notes(setup, wafer, policy, placed, history), *_empty_slots(text)),
        placed=placed,
    )


def _empty_slots(text: str) -> list[str]:
    """Return a note if slots are empty, which inference engines reject."""
    empty = text.count("-1")
    if not empty:
        return []
    why = "a die has fewer experts than the fullest, and none that it holds alone to repeat"
    return [f"{empty} slots are empty (-1): {why}; engines do not take empty slots"]
