"""The paper's own simulator of an MoE layer: its machine, its queues, its chains of events."""
