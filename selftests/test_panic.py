# SPDX-License-Identifier: GPL-2.0
"""The kernel panics while SNP is up: firmware is shut down for the kdump kernel, or it is said why not and what is
left. And a kdump kernel leaves firmware alone."""

import re

import pytest
from conftest import boot, module, values
from vmlib import paths, suite
from vmlib.machine import Config, Machine, VmError

FAILED = "SNP is not shut down for the panic: "


def panic(case: str, *more: str, message: str = "sysrq triggered crash", **config):
    """All that the PSP got, what it got after the panic, the console, and the RMP in the end."""
    with Machine(Config(**config), "panic") as machine:
        with pytest.raises(VmError, match=message):
            machine.run(paths.VM_SCRIPTS / "panic.sh", [case, *more])
        parts = suite.sections(machine.trace(), r"(panic)", lambda entry: entry.get("text", ""))
        commands = [entry for entry in machine.trace() if "cmd" in entry]
        after = [entry for entry in parts.get("panic", []) if "cmd" in entry]
        console = machine.console()
        assert "lock up" not in console and "BUG" not in console, console[-4000:]
        return commands, after, console, machine.rmp()


def told(commands: list[dict]) -> list[tuple]:
    return [(entry["cmd"], entry["status"], entry["ioc"]) for entry in commands]


def test_snp_is_shut_down():
    """SEV, then SNP, and nothing else: no page is taken back. Nobody waits for an interrupt."""
    _, commands, console, rmp = panic("idle")
    assert told(commands) == [("SHUTDOWN", 0, False), ("SNP_SHUTDOWN_EX", 0, False)]
    assert console.count("SNP is shut down for the panic, SNP_EN is clear: a kdump kernel can use all memory") == 1
    assert "Call Trace" in console and rmp["cpus_with_snp_en"] == []


def test_where_snp_en_stays_no_page_does():
    """As in the in-tree driver: the TMR is taken back page by page, then the IOMMU's pages."""
    _, commands, console, rmp = panic("idle", shutdown="legacy")
    reclaims = [("SNP_PAGE_RECLAIM", 0, False)] * 512
    assert told(commands) == [("SHUTDOWN", 0, False), *reclaims, ("SNP_SHUTDOWN_EX", 0, False)]
    left = "the RMP has the memory of 0 guest(s) and 0 page(s) of firmware"
    assert console.count(f"SNP is shut down for the panic, but SNP_EN stays set, and {left}") == 1
    assert rmp["cpus_with_snp_en"] == [0, 1] and rmp["assigned"] == 0


def test_guest():
    """Firmware does not stop while a guest has an ASID, and that cannot be taken away in a panic."""
    _, commands, console, rmp = panic("guest")
    done = [("SHUTDOWN", 0), ("SNP_SHUTDOWN_EX", 0xF), ("SNP_DF_FLUSH", 0), ("SNP_SHUTDOWN_EX", 0xF)]
    assert [(entry["cmd"], entry["status"]) for entry in commands] == done
    # Its context, KVM's page for answers, and the TMR.
    left = "SNP_EN is set, the RMP has the memory of 1 guest(s) and 514 page(s) of firmware"
    why = re.escape(FAILED) + r"SNP_SHUTDOWN_EX: DFFLUSH_REQUIRED \(0xf\).*"
    assert len(re.findall(why + re.escape(left), console)) == 1
    assert rmp["cpus_with_snp_en"] == [0, 1]


def test_command_that_failed_is_named():
    """As on hosts with guests that are ended behind KVM's back: WBINVD is owed by CPUs that are stopped."""
    faults = ["--fault=SNP_SHUTDOWN_EX:status=0xf", "--fault=SNP_DF_FLUSH@2:status=0xe"]
    _, commands, console, _ = panic("idle", psp=faults)
    done = [("SHUTDOWN", 0), ("SNP_SHUTDOWN_EX", 0xF), ("SNP_DF_FLUSH", 0xE)]
    assert [(entry["cmd"], entry["status"]) for entry in commands] == done
    assert console.count(f"{FAILED}SNP_DF_FLUSH: WBINVD_REQUIRED (0xe)") == 1 and console.count(FAILED) == 1


def test_iommu_pages_that_stay():
    """Firmware says that it has stopped SNP, and has not."""
    _, _, console, rmp = panic("idle", shutdown="legacy", psp=["--fault=SNP_SHUTDOWN_EX:status=0"])
    assert console.count("SNP is shut down for the panic, but pages of the IOMMU could not be taken back") == 1
    assert FAILED not in console and rmp["assigned"] > 0


def test_refusal_is_told():
    _, commands, console, _ = panic("idle", psp=["--fault=SNP_SHUTDOWN_EX:status=0x28"])
    assert [entry["cmd"] for entry in commands] == ["SHUTDOWN", "SNP_SHUTDOWN_EX"]
    assert console.count(f"{FAILED}SNP_SHUTDOWN_EX: SHUTDOWN_INCOMPLETE (0x28)") == 1


def test_command_in_flight():
    """Firmware takes one command at a time, and this one takes longer than a dump is to wait."""
    _, commands, console, _ = panic("busy")
    assert commands == []
    assert console.count(f"{FAILED}firmware still works on PLATFORM_STATUS; SNP_EN is set") == 1


def test_command_in_flight_that_is_answered():
    """The task that waits for it does not run any more, but firmware is done with it."""
    _, commands, console, _ = panic("late")
    done = [(entry["cmd"], entry["status"]) for entry in commands if entry["cmd"] != "PLATFORM_STATUS"]
    assert done == [("SHUTDOWN", 0), ("SNP_SHUTDOWN_EX", 0)]
    assert console.count("SNP is shut down for the panic, SNP_EN is clear") == 1 and FAILED not in console


def test_holder_of_the_lock_between_two_commands():
    """It waits for a CPU, at the latest in the WBINVD between INIT and DF_FLUSH: firmware is idle."""
    commands, _, console, _ = panic("holder", message="CPU 1 was deaf", files={"deaf.ko": module("deaf")})
    # INIT wants a flush, which the holder has not come to.
    done = [("INIT", 0), ("SHUTDOWN", 0), ("SNP_SHUTDOWN_EX", 0xF), ("SNP_DF_FLUSH", 0), ("SNP_SHUTDOWN_EX", 0)]
    assert [(entry["cmd"], entry["status"]) for entry in commands][-5:] == done
    assert console.count("SNP is shut down for the panic, SNP_EN is clear") == 1 and FAILED not in console


def test_kdump_kernel_leaves_firmware_alone():
    """What makes a kernel a kdump kernel is that it is told where the crashed one's memory is described."""
    result = boot("load.sh", append="elfcorehdr=0x30000000 memmap=1M$0x30000000")
    assert result.status == 0, result.lines
    assert values(result, "sev") == ["N"] and values(result, "kvm") == ["yes"]
    assert result.commands() == []
    assert "this is a kdump kernel: the PSP is left alone" in result.console
