"""What a kernel's time is scaled by: the peaks of one GPU, or of one die of a wafer.

Kernel models use shares of these peaks. A share that was fitted on an H100 is applied to the peaks of another device;
fixed costs in seconds stay as they are.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from wss.errors import ConfigError, did_you_mean
from wss.hardware.specs import DieSpec
from wss.presets import Presets


@dataclass(frozen=True, kw_only=True)
class Device:
    """The peaks of a GPU; SI units.

    Attributes
    ----------
    name
        The name in `DEVICES`.
    generation
        "ampere", "ada", "hopper" or "blackwell"; "die" for a die of a wafer.
    sms
        Streaming multiprocessors, each of which computes one output tile at a time.
    flops
        Dense (not sparse) FLOP/s by precision: "bf16", "fp8", "fp4".
    hbm, hbm_bytes
        Bandwidth, B/s, and size of the memory.
    l2, l2_bytes
        Read bandwidth, B/s, and size of the L2 (of a die: its LLC). No datasheet gives the bandwidth: it is derived, as
        each device's source says, and used only for scaling.
    nvlink, nic
        Port to the other GPUs of the node, and port between nodes; B/s in one direction. 0: there is none.
    source
        Where the figures are from.
    """

    name: str
    generation: str
    sms: int
    flops: Mapping[str, float]
    hbm: float
    hbm_bytes: float
    l2: float
    l2_bytes: float
    nvlink: float = 0.0
    nic: float = 0.0
    source: str = ""

    def peak(self, precision: str) -> float:
        """Return the dense FLOP/s of *precision*; raises ConfigError if the device has no units for it."""
        if precision not in self.flops:
            what = f"{self.name}: no FLOP/s in {precision!r}"
            raise ConfigError(f"{what}; {did_you_mean(precision, self.flops)}")
        return self.flops[precision]


# L2 bandwidth: 5120 B a cycle (NVIDIA's figure for the A100) at 1.755 GHz, the same figure as in `LlcSpec`. Devices
# with another number of SMs have the H100's bandwidth an SM. This is derived, not measured.
_H100_L2 = 8.99e12
_L2_PER_SM = _H100_L2 / 132

_H100 = Device(
    name="H100-SXM",
    generation="hopper",
    sms=132,
    flops={"bf16": 989e12, "fp8": 1979e12},
    hbm=3.35e12,
    hbm_bytes=80e9,
    l2=_H100_L2,
    l2_bytes=50e6,
    nvlink=450e9,
    nic=50e9,
    source="NVIDIA H100 datasheet (SXM); 400 Gb/s a GPU between nodes (DGX H100); L2 bandwidth: 5120 B a cycle",
)
_B200 = Device(
    name="B200-SXM",
    generation="blackwell",
    sms=148,
    flops={"bf16": 2250e12, "fp8": 4500e12, "fp4": 9000e12},
    hbm=8.0e12,
    hbm_bytes=180e9,
    l2=_L2_PER_SM * 148,
    l2_bytes=126e6,
    nvlink=900e9,
    nic=50e9,
    source="NVIDIA HGX B200 datasheet, dense (half of the sparse figures); L2 bandwidth: as the H100's, by SMs",
)
_GB200 = replace(
    _B200,
    name="GB200",
    flops={"bf16": 2500e12, "fp8": 5000e12, "fp4": 10000e12},
    hbm_bytes=186e9,
    source="NVIDIA GB200 NVL72 datasheet, dense, a GPU; L2 bandwidth: as the H100's, by SMs",
)

_DEVICES = (
    _H100,
    replace(
        _H100,
        name="H200-SXM",
        hbm=4.8e12,
        hbm_bytes=141e9,
        source="NVIDIA H200 datasheet (SXM); otherwise as the H100",
    ),
    replace(
        _H100,
        name="H800-SXM",
        nvlink=200e9,
        source="as the H100, with NVLink of 400 GB/s both ways (DeepSeek-V3 report, arXiv 2412.19437)",
    ),
    replace(
        _H100,
        name="H20-SXM",
        sms=78,
        flops={"bf16": 148e12, "fp8": 296e12},
        hbm=4.0e12,
        hbm_bytes=96e9,
        l2=_L2_PER_SM * 78,
        l2_bytes=60e6,
        source="published specifications of the H20; L2 bandwidth: as the H100's, by SMs",
    ),
    Device(
        name="A100-SXM",
        generation="ampere",
        sms=108,
        flops={"bf16": 312e12},
        hbm=2.039e12,
        hbm_bytes=80e9,
        l2=5120 * 1.41e9,
        l2_bytes=40e6,
        nvlink=300e9,
        nic=25e9,
        source="NVIDIA A100 datasheet (80 GB SXM); L2 bandwidth: 5120 B a cycle (A100 white paper) at 1.41 GHz",
    ),
    Device(
        name="L40S",
        generation="ada",
        sms=142,
        flops={"bf16": 362e12, "fp8": 733e12},
        hbm=864e9,
        hbm_bytes=48e9,
        l2=_L2_PER_SM * 142,
        l2_bytes=96e6,
        source="NVIDIA L40S datasheet; L2 bandwidth: as the H100's, by SMs",
    ),
    _B200,
    _GB200,
    replace(
        _B200,
        name="B300-SXM",
        flops={"bf16": 2250e12, "fp8": 4500e12, "fp4": 13500e12},
        hbm_bytes=270e9,
        nic=100e9,
        source="NVIDIA HGX B300 datasheet, dense; L2 bandwidth: as the H100's, by SMs",
    ),
    replace(
        _GB200,
        name="GB300",
        flops={"bf16": 2500e12, "fp8": 5000e12, "fp4": 15000e12},
        hbm_bytes=279e9,
        nic=100e9,
        source="NVIDIA GB300 NVL72 datasheet, dense, a GPU; L2 bandwidth: as the H100's, by SMs",
    ),
)
DEVICES: Presets[Device] = Presets("DEVICES", {device.name: device for device in _DEVICES})


def of_die(die: DieSpec, name: str = "die", link: float = 0.0) -> Device:
    """Return the simulated *die* as a device; its 16-bit peak is that of BF16, and *link* (B/s) is its port."""
    flops = {"bf16" if precision == "fp16" else precision: peak for precision, peak in die.flops.items()}
    return Device(
        name=name,
        generation="die",
        sms=die.sms,
        flops=flops,
        hbm=die.hbm.bandwidth,
        hbm_bytes=die.hbm.size,
        l2=die.llc.bandwidth,
        l2_bytes=die.llc.size,
        nvlink=link,
        source="the wafer's datasheet",
    )
