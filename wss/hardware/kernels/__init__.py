"""Times of GPU kernels: one module a kind of kernel, each with named sets of parameters fitted to measurements."""

from wss.hardware.kernels.device import DEVICES, Device, of_die

__all__ = ["DEVICES", "Device", "of_die"]
