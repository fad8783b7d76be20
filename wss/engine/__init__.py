"""The discrete-event engine: one MoE kernel on a wafer, under a network, on SimPy."""

from wss.engine.network import NETWORKS, NetworkModel
from wss.engine.simulate import simulate_kernel

__all__ = ["NETWORKS", "NetworkModel", "simulate_kernel"]
