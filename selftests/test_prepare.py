# SPDX-License-Identifier: GPL-2.0
"""CPUs and RMPs as a BIOS may leave them: what is prepared, repaired, or refused, and in which words."""

import functools

import pytest
from conftest import boot, values

MEM_ENCRYPT, MFDM = 1 << 23, 1 << 19
CLOSED = "closed 0 allowed cpus="
ENABLED, HELD = "enabled 1 refused cpus=0-1", "held 1 refused cpus="
REFUSED = ("--fault=SNP_INIT_EX:status=3",)
# The machine; what loading kvm_amd leads to; what snp_host says of it; whether legacy SEV is there.
CASES = {
    "contiguous": ({}, ENABLED, "RMP cleared: 9 MiB", "Y"),
    "segmented": ({"segments": 30}, ENABLED, "RMP cleared: 8 MiB", "Y"),
    # The whole of either format is read then.
    "segmented-zero": ({"segments": 30, "psp": REFUSED}, "closed 0 allowed cpus=0-1", "hotplug window closed", "N"),
    "segmented-rmpread-zero": (
        {"segments": 30, "rmpread": True, "psp": REFUSED},
        "closed 0 allowed cpus=0-1",
        "hotplug window closed",
        "N",
    ),
    # The kernel compares the end alone, so a hole gets past it.
    "gap": (
        {"segments": 30, "steps": ("rst0=0",)},
        CLOSED,
        "SNP stays off: the RMP does not cover all of RAM [0x1000-0x9fbff]: nothing from 0x1000 on",
        "Y",
    ),
    # Descriptors that the kernel, which has read them at boot, would go on without.
    "overlap": (
        {"segments": 30, "steps": ("rst1=0x38100001",)},
        CLOSED,
        "SNP stays off: two parts of the RMP overlap, [0x38100000-0x384fffff] and [0x38100000-0x384fffff]",
        "Y",
    ),
    "in-ram": (
        {"segments": 30, "steps": ("rst1=0x20000001",)},
        CLOSED,
        "SNP stays off: part of the RMP, [0x20000000-0x203fffff], lies in memory that the kernel uses",
        "Y",
    ),
    # A register that only the CPU that looks does not have.
    "unreadable": (
        {"msr": ("1:RMP_BASE=absent",), "steps": ("cpu1",), "expects": ("first #GP",)},
        CLOSED,
        "SNP stays off: the RMP cannot be read",
        "Y",
    ),
    "other-rmp": (
        {"msr": ("1:RMP_BASE=0x39000000",)},
        CLOSED,
        "SNP stays off: RMP_BASE is 0x38000000 on CPU 0, but not on CPUs 1 (0x39000000 on CPU 1)",
        "Y",
    ),
    "off-mib": (
        {"msr": ("all:RMP_BASE=0x38080000",)},
        "closed 0 allowed cpus=0-1",
        "SNP_INIT was refused, perhaps because the RMP [0x38080000-0x388fffff] does not begin and end",
        "N",
    ),
    "other-tom2": (
        {"msr": ("1:TOP_MEM2=0x123000000",), "psp": REFUSED},
        "closed 0 allowed cpus=0-1",
        "SNP_INIT was refused, perhaps because TOM2 is",
        "N",
    ),
    "mfdm-ignored": (
        {"msr": (f"1:SYSCFG={MEM_ENCRYPT:#x}",)},
        CLOSED,
        "SNP stays off: SYSCFG.MFDM is missing on CPUs 1 after it was written",
        "N",
    ),
    "snp_en-ignored": (
        {"msr": (f"1:SYSCFG={MEM_ENCRYPT | MFDM:#x}",)},
        f"{HELD}0",
        "SNP stays off: SYSCFG.SNP_EN or VMPL_EN is missing on CPUs 1 after it was written",
        "N",
    ),
    "hsave_pa-ignored": (
        {"msr": ("1:VM_HSAVE_PA=0x1000",)},
        f"{HELD}0-1",
        "SNP stays off: VM_HSAVE_PA is not zero on CPUs 1 after it was written",
        "N",
    ),
    "uneven": (
        {"snp_en": "1", "found": f"{HELD}1"},
        ENABLED,
        "SYSCFG.SNP_EN is 0x0 on CPU 0, but not on CPUs 1 (0x1 on CPU 1); writing it on all CPUs",
        "Y",
    ),
}


@functools.cache
def run(name: str):
    machine = dict(CASES[name][0])
    machine.pop("found", None)
    steps = machine.pop("steps", ())
    return boot(
        "window.sh",
        *steps,
        "+snp_host",
        "+kvm_amd",
        "sev",
        limit=240,
        **{key: list(value) if isinstance(value, tuple) else value for key, value in machine.items()},
    )


@pytest.mark.parametrize("name", CASES)
def test_prepare(name):
    (machine, state, said, sev), result = CASES[name], run(name)
    assert result.status == 0, result.lines
    after = dict(line.strip().split(" ", 1) for line in values(result, "after"))
    assert after["+snp_host"] == machine.get("found", CLOSED)
    assert after["+kvm_amd"] == state, values(result, "reason")
    assert values(result, "sev") == [sev]
    lines = [line for line in result.console.splitlines() if f"snp_host: {said}" in line]
    # Once more when the machine restarts, which ends SNP.
    assert len(lines) == (2 if said.startswith("RMP cleared") else 1), [
        line for line in result.console.splitlines() if "snp_host:" in line
    ]
