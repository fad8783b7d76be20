"""A policy's placement of all MoE layers as a layout file, without running the policy."""

from __future__ import annotations

from dataclasses import dataclass, replace

from wss import hardware
from wss.config import Experiment
from wss.config.plugins import plugin_policy
from wss.errors import ConfigError, did_you_mean
from wss.execution.memory_use import check_memory
from wss.execution.routing import build_routing_history
from wss.hardware import GEMMS
from wss.memory.hbm import bytes_of_experts
from wss.policies import POLICIES
from wss.policies.placement import layout_text
from wss.serving.placement import costs_of, placement_view, placing_notes
from wss.serving.policy_host import PolicyHost


@dataclass(frozen=True)
class Layout:
    """A layout as JSON (see `wss.policies.placement.layout_file`), a one-line description, and notes for the reader."""

    text: str
    about: str
    notes: tuple[str, ...]


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
    everything = replace(experiment, layers="all")
    check_memory(everything, [policy])
    wafer = hardware.build(experiment.wafer, experiment.faults).achieving(GEMMS[experiment.gemm].hbm_share())
    setup, history = everything.setup, build_routing_history(everything)
    view = placement_view(setup, wafer, policy, history, costs_of(setup, wafer))
    placed = PolicyHost(policy).place(view)
    bytes_of_experts(name, placed, everything.model, everything.precision, wafer)  # raises if they do not fit
    layers, experts, dies = placed.shape
    slots = placed.sum(axis=1).max()
    text = layout_text(placed, experiment.model.moe_layers, experiment.model.num_layers)
    return Layout(
        text=text,
        about=f"{layers} MoE layers, {experts} experts on {dies} dies, {slots} slots a die and layer",
        notes=(*placing_notes(setup, wafer, policy, placed, history), *_empty_slots(text)),
    )


def _empty_slots(text: str) -> list[str]:
    """Return a note if slots are empty, which inference engines reject."""
    empty = text.count("-1")
    if not empty:
        return []
    why = "a die has fewer experts than the fullest, and none that it holds alone to repeat"
    return [f"{empty} slots are empty (-1): {why}; engines do not take empty slots"]
