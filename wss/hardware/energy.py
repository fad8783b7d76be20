"""Energy of what a run counts: joules a FLOP, a byte of memory, and a byte over each kind of link.

The figures are published ones of other machines, most of which no vendor gives for a wafer. They estimate; they are not
fitted. docs/model/energy.md states each source and what is left out.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from wss.hardware.specs import Precision
from wss.hardware.topology import FABRIC
from wss.hardware.wafer import Wafer
from wss.records import FloatArray

PICO = 1e-12
BYTE = 8  # bits


@dataclass(frozen=True, kw_only=True)
class EnergyCosts:
    """Energy of each use of the hardware, J.

    Attributes
    ----------
    flop
        Of a FLOP, by the format of computation.
    hbm_byte
        Of a byte read from or written to an HBM.
    llc_byte
        Of a byte read from an LLC.
    d2d_byte
        Of a byte over one D2D link of a wafer: one hop.
    nvlink_byte
        Of a byte between a GPU and the switch of its node, in one direction.
    nic_byte
        Of a byte between a network card and the fabric, in one direction: the card and its transceiver.
    """

    flop: Mapping[Precision, float]
    hbm_byte: float
    llc_byte: float
    d2d_byte: float
    nvlink_byte: float
    nic_byte: float


COSTS = EnergyCosts(
    # Board power over peak dense FLOP/s: H100 SXM, 700 W, 989 and 1979 TFLOP/s (NVIDIA H100 datasheet, 2023); B200,
    # 1000 W, 9 PFLOP/s (NVIDIA HGX B200 datasheet, 2024). The whole board at its peak: caches, leakage, idle HBM too.
    flop={"fp16": 700 / 989e12, "fp8": 700 / 1979e12, "fp4": 1000 / 9000e12},
    # HBM2, 3.9 pJ/bit: O'Connor et al., Fine-Grained DRAM, MICRO 2017. Jouppi et al., Ten Lessons From Three
    # Generations Shaped Google's TPUv4i, ISCA 2021, have 250 to 450 pJ for 64 bits: 3.9 to 7.0 pJ/bit.
    hbm_byte=3.9 * PICO * BYTE,
    # An SRAM of 1 MB at 7 nm, 14 pJ for 64 bits: Jouppi et al., ISCA 2021. Wires across the die are left out.
    llc_byte=14 / 64 * PICO * BYTE,
    # UCIe in a standard package, 0.5 pJ/bit up to 16 GT/s: Das Sharma, IEEE Hot Interconnects 2025.
    d2d_byte=0.5 * PICO * BYTE,
    # SerDes, 5.5 pJ/bit, the figure that NVIDIA compares NVLink-C2C with (1.3 pJ/bit), 2022. The switch is left out.
    nvlink_byte=5.5 * PICO * BYTE,
    # 400 Gb/s each way: a ConnectX-7 card, 25 W (assumed), and its transceiver, 9 W (NVIDIA MMS4X00-NS400 product
    # specification, 2023), over both directions at full rate. Cables and switches of the fabric are left out.
    nic_byte=(25 + 9) / (2 * 50e9),
)


def of_links(wafer: Wafer, costs: EnergyCosts = COSTS) -> tuple[FloatArray, FloatArray]:
    """Return the energy of a byte over each link, J, [links]: of D2D links and NVLink ports, and of network cards.

    Each is zero for the other's links. The way from a GPU to its own card is part of the card.
    """
    between_dies, network = np.zeros(wafer.num_links), np.zeros(wafer.num_links)
    for link, ends in enumerate(wafer.links.tolist()):
        names = [wafer.switches[end - wafer.num_dies] for end in ends if end >= wafer.num_dies]
        if FABRIC in names:
            network[link] = costs.nic_byte
        elif not any(name.startswith("nic") for name in names):
            between_dies[link] = costs.nvlink_byte if names else costs.d2d_byte
    return between_dies, network
