"""The discrete-event engine: MoE layer runs on a wafer, over a network, on SimPy and in compiled code."""
