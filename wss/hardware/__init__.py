"""The wafer: its datasheet, the known ones by name, and the sealed arrays that the simulator reads."""

from wss.hardware.faults import FaultSpec
from wss.hardware.gemm import GEMMS
from wss.hardware.specs import WAFERS, WaferSpec
from wss.hardware.wafer import Wafer, build

__all__ = ["GEMMS", "WAFERS", "FaultSpec", "Wafer", "WaferSpec", "build"]
