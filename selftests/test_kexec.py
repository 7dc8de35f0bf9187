# SPDX-License-Identifier: GPL-2.0
"""Another kernel takes over without a reset: by kexec, or because this one has panicked."""

import pytest
from conftest import boot, values


@pytest.mark.parametrize("shutdown", ["x86", "legacy"])
def test_firmware_that_the_first_kernel_could_not_stop(shutdown):
    """It refuses SNP_SHUTDOWN_EX when kvm-amd is unloaded, when ccp is unloaded. The next kernel finds it
    initialised, stops it, and starts it anew."""
    # The next kernel does not know the IOMMU's pages, which stay firmware's: it would fault wherever it writes to the
    # 2 MiB around one of them.
    psp = ["--fault=SNP_SHUTDOWN_EX@1x2:status=0x28"]
    result = boot("kexec.sh", "next", shutdown=shutdown, psp=psp, kexec=True, limit=180, rmp="off")
    assert result.status == 0, result.lines
    assert values(result, "first") == ["found snp_en=", "loaded Y snp_en=0,1"]
    assert values(result, "second") == ["found snp_en=0,1", "loaded Y snp_en=0,1"]
    assert result.console.count("SNP firmware was left initialised, with 0 guest(s), by an earlier kernel") == 1
    inits = [n for n, entry in enumerate(result.commands()) if entry["cmd"] == "SNP_INIT_EX" and entry["status"] == 0]
    assert len(inits) == 2
    between = [(entry["cmd"], entry["status"]) for entry in result.commands()[inits[0] : inits[1]]]
    assert ("SNP_PLATFORM_STATUS", 0x1A) in between and between.count(("SNP_SHUTDOWN_EX", 0)) == 1
    assert [value.split()[0] for value in values(result, "window")] == ["closed" if shutdown == "x86" else "held"]


def test_a_command_that_was_not_answered():
    """Nobody is left who knows it but the PSP's register: the next kernel gives it no other one before it answers."""
    # SNP was not shut down, so pages of firmware stay in the RMP. The next kernel does not know them: it would fault
    # on them, and it uses them as memory.
    overwritten = "PSP model: memory of firmware overwritten"
    result = boot(
        "kexec.sh",
        "owed",
        kexec=True,
        limit=240,
        rmp="off",
        expects=("are lost until",),
        allows=(overwritten,),
    )
    assert result.status == 0, result.lines
    assert values(result, "second") == ["found snp_en=0,1", "owed ENODEV", "loaded Y snp_en=0,1"]
    owes = (
        "the PSP still owes the answer to PLATFORM_STATUS, which was issued before this driver was bound, "
        "after another 5 s: the mailbox is dead"
    )
    assert result.console.count(owes) == 1


@pytest.mark.parametrize("case", ["crash", "crash-busy"])
def test_crash_kernel(case):
    """It finds the dump, also if SNP could not be shut down because firmware was at work; then it is said so. Its
    IOMMU is up, with the buffers of the kernel that has panicked."""
    # The trace is the panic's. Nobody takes the IOMMU's pages back from firmware.
    result = boot("kexec.sh", case, kexec=True, crashkernel=256, limit=180, expects=("Call Trace", "^RMP: "))
    assert result.status == 0
    found = f"found snp_en={'' if case == 'crash' else '0,1'}"
    assert values(result, "crashed") == [found, "vmcore", "iommu ivhd0"]
    said = {
        "crash": "SNP is shut down for the panic",
        "crash-busy": "SNP is not shut down for the panic: firmware still works on PLATFORM_STATUS",
    }
    assert [result.console.count(text) for text in said.values()] == [case == name for name in said]
    crashed = result.console.rpartition("Linux version")[2]
    for taken in ("CWB buffers", "command buffer", "event buffer"):
        assert crashed.count(f"AMD-Vi: Re-using {taken} from the previous kernel") == 1, taken
    assert crashed.count("AMD-Vi: Reused DEV table from previous kernel") == 1
    assert "Completion-Wait loop timed out" not in crashed
