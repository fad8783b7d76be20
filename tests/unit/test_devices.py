"""Devices: the peaks by which kernel times scale."""

import pytest

from wss.errors import ConfigError, UnknownNameError
from wss.hardware import WAFERS
from wss.hardware.kernels import DEVICES, of_die


@pytest.mark.parametrize("name", sorted(DEVICES))
def test_a_device_has_its_name_its_source_and_positive_peaks(name):
    device = DEVICES[name]
    assert device.name == name
    assert device.source
    assert min(device.sms, device.hbm, device.hbm_bytes, device.l2, device.l2_bytes, *device.flops.values()) > 0
    assert min(device.nvlink, device.nic) >= 0


def test_halving_the_width_of_an_element_doubles_the_peak():
    for device in DEVICES.values():
        if "fp8" in device.flops:
            assert device.peak("fp8") == pytest.approx(2 * device.peak("bf16"), rel=0.02)


def test_an_h200_is_an_h100_with_other_memory():
    h100, h200 = DEVICES["H100-SXM"], DEVICES["H200-SXM"]
    assert (h200.flops, h200.sms, h200.l2, h200.nvlink) == (h100.flops, h100.sms, h100.l2, h100.nvlink)
    assert h200.hbm == 4.8e12


def test_a_die_of_an_h100_node_has_the_peaks_of_the_h100():
    die, h100 = of_die(WAFERS["h100_nvl8"].die, link=450e9), DEVICES["H100-SXM"]
    assert die.flops == h100.flops
    for figure in ("sms", "hbm", "hbm_bytes", "l2", "l2_bytes", "nvlink"):
        assert getattr(die, figure) == getattr(h100, figure), figure


def test_an_unknown_device_or_precision_is_named_in_one_line():
    with pytest.raises(UnknownNameError, match="DEVICES: 'H100' is not known; did you mean 'H100-SXM'"):
        DEVICES["H100"]
    with pytest.raises(ConfigError, match="A100-SXM: no FLOP/s in 'fp8'; known: bf16") as error:
        DEVICES["A100-SXM"].peak("fp8")
    assert len(error.value.faults) == 1
