"""The wafer: datasheets, presets by name, faults, routes, and the read-only arrays that the simulator uses."""

from wss.hardware.faults import FaultSpec, faults_on
from wss.hardware.gemm import GEMMS
from wss.hardware.presets import WAFERS
from wss.hardware.specs import SwitchedSpec, SystemSpec, WaferSpec
from wss.hardware.wafer import Wafer, build

__all__ = ["GEMMS", "WAFERS", "FaultSpec", "SwitchedSpec", "SystemSpec", "Wafer", "WaferSpec", "build", "faults_on"]
