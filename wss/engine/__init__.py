"""The discrete-event engine: one MoE kernel on a wafer, under a network, on SimPy."""

from wss.engine.alltoall import Dispatch, Exchange
from wss.engine.background import Idle
from wss.engine.compiled_circuit import compiled_circuit_kernel
from wss.engine.die import Ahead
from wss.engine.layer import simulate_kernel
from wss.engine.layer_compiled import compiled_kernel
from wss.engine.llc import Llcs
from wss.engine.network.base import NETWORKS, FluidSpec, NetworkModel, NetworkSpec

__all__ = [
    "NETWORKS",
    "Ahead",
    "Dispatch",
    "Exchange",
    "FluidSpec",
    "Idle",
    "Llcs",
    "NetworkModel",
    "NetworkSpec",
    "compiled_circuit_kernel",
    "compiled_kernel",
    "simulate_kernel",
]
