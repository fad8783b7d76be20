"""The discrete-event engine: one MoE layer run on a wafer, under a network, on SimPy."""

from wss.engine.alltoall import AllToAll, AllToAllSpec
from wss.engine.background import BackgroundTransfers
from wss.engine.compiled_circuit import compiled_circuit_layer
from wss.engine.die import PrefetchPlan
from wss.engine.layer import simulate_layer
from wss.engine.layer_compiled import compiled_layer
from wss.engine.llc import Llcs
from wss.engine.network.base import NETWORKS, FluidSpec, NetworkModel, NetworkSpec

__all__ = [
    "NETWORKS",
    "AllToAll",
    "AllToAllSpec",
    "BackgroundTransfers",
    "FluidSpec",
    "Llcs",
    "NetworkModel",
    "NetworkSpec",
    "PrefetchPlan",
    "compiled_circuit_layer",
    "compiled_layer",
    "simulate_layer",
]
