"""The discrete-event engine: one MoE kernel on a wafer, under a network, on SimPy."""

from wss.engine.compiled import compiled_kernel
from wss.engine.compiled_circuit import compiled_circuit_kernel
from wss.engine.die import Ahead
from wss.engine.exchange import Dispatch, Exchange
from wss.engine.idle import Idle
from wss.engine.llc import Llcs
from wss.engine.network import NETWORKS, FluidSpec, NetworkModel, NetworkSpec
from wss.engine.simulate import simulate_kernel

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
