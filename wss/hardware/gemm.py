"""The models of a die's computing time, by the names that configurations use."""

from __future__ import annotations

from wss.hardware.measured import MEASURED, Measured
from wss.hardware.roofline import H800, Ideal, SmoothRoofline

GemmModel = Ideal | SmoothRoofline | Measured
GEMMS: dict[str, GemmModel] = {"ideal": Ideal(), "h800": H800, "measured": MEASURED}
