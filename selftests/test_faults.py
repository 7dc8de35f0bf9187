# SPDX-License-Identifier: GPL-2.0
"""A PSP that is silent, gone or refuses: the right errno, one clear line, no hang, and kvm-amd still
loads without SEV."""

import re

import pytest
from conftest import boot, values


def load(*faults: str, **config):
    """Load kvm-amd while the PSP misbehaves; the machine must survive and unload cleanly."""
    result = boot("load.sh", psp=[f"--fault={fault}" for fault in faults], limit=180, **config)
    assert result.status == 0, result.lines
    return result


def said(result, pattern: str) -> list[str]:
    return [line for line in result.console.splitlines() if re.search(pattern, line)]


def test_psp_that_never_answers():
    result = load("*:silent", expects=("1 page.* are lost until",))
    assert values(result, "sev") == ["N"] and values(result, "kvm") == ["yes"]
    # One command was tried, and it got the probe time-out.
    line = said(result, r"ccp .*did not answer SNP_PLATFORM_STATUS within 5 s: the mailbox is dead")
    assert len(line) == 1, said(result, "ccp")
    assert len([c for c in result.commands()]) == 1


def test_registers_all_ones():
    result = load("start:allones")
    assert not result.commands()
    assert values(result, "sev") == ["N"] and values(result, "kvm") == ["yes"]
    assert said(result, r"ccp .*(all ones|0xffffffff)")


def test_registers_all_ones_later():
    result = load("*@1:allones", expects=(" 1 lost so far", " 2 lost so far"))
    assert values(result, "sev") == ["N"] and values(result, "kvm") == ["yes"]
    assert len(said(result, r"ccp .*the registers read all ones during SNP_PLATFORM_STATUS")) == 1


@pytest.mark.parametrize(
    "status, name", [("0x3", "INVALID_CONFIG"), ("0x26", "RMP_INITIALIZATION_FAILED"), ("0x9000", "0x9000")]
)
def test_snp_init_refused(status, name):
    result = load(f"SNP_INIT_EX:status={status}")
    assert values(result, "snp") == ["N"] and values(result, "kvm") == ["yes"]
    lines = said(result, rf"ccp .*SNP_INIT_EX.*{name}")
    assert len(lines) == 1, said(result, "ccp")


@pytest.mark.parametrize(
    "status, words",
    [
        ("0x13", r"HWERROR_PLATFORM \(0x13\)"),
        # As if it were initialised, which it cannot be on CPUs without SNP_EN.
        ("0x1a", r"INVALID_PAGE_STATE \(0x1a\): SNP firmware is still initialised, but not every CPU has SNP_EN"),
    ],
)
def test_first_status_refused(status, words):
    result = load(f"SNP_PLATFORM_STATUS@1:status={status}")
    assert values(result, "kvm") == ["yes"] and values(result, "sev") == ["N"]
    assert len(said(result, rf"ccp .*SNP_PLATFORM_STATUS failed: {words}")) == 1
    assert not said(result, "hotplug window stays open")


@pytest.mark.parametrize("irq", ["msi", "none"])
def test_interrupts(irq):
    """MSI where there is no MSI-X; with neither, the device is refused and the machine lives on."""
    result = boot("load.sh", psp=[f"--irq={irq}"])
    assert result.status == 0
    assert values(result, "snp") == ["Y" if irq == "msi" else "N"]


@pytest.mark.parametrize("device", ["1456", "14ca", "156e", "17d8"])
def test_generations(device):
    """The registers of every generation are where the driver looks for them."""
    result = boot("load.sh", psp=[f"--device={device}"])
    assert result.status == 0
    assert values(result, "snp") == ["Y"]
