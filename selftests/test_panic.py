# SPDX-License-Identifier: GPL-2.0
"""The kernel panics while SNP is up: firmware is shut down for the kdump kernel, or it is said why not.
And a kdump kernel leaves firmware alone."""

import pytest
from conftest import boot, values
from vmlib import paths, suite
from vmlib.machine import Config, Machine, VmError


def panic(case: str, **config):
    """What the PSP got after the panic, and the console."""
    with Machine(Config(**config), "panic") as machine:
        with pytest.raises(VmError, match="sysrq triggered crash"):
            machine.run(paths.VM_SCRIPTS / "panic.sh", [case])
        after = suite.sections(machine.trace(), r"(panic)", lambda entry: entry.get("text", ""))["panic"]
        return [entry for entry in after if "cmd" in entry], machine.console()


@pytest.mark.parametrize("case", ["idle", "guest"])
def test_snp_is_shut_down(case):
    """SEV, then SNP, and nothing else: no page is taken back. Nobody waits for an interrupt."""
    commands, console = panic(case)
    assert [(entry["cmd"], entry["status"], entry["ioc"]) for entry in commands] == [("SHUTDOWN", 0, False), ("SNP_SHUTDOWN_EX", 0, False)]
    assert console.count("SNP is shut down for the panic") == 1 and "Call Trace" in console


def test_command_in_flight():
    """Firmware takes one command at a time, and the task that waits for this one does not run any more."""
    commands, console = panic("busy")
    assert commands == []
    assert console.count("SNP is not shut down for the panic: a command is in flight") == 1


def test_refusal_is_told():
    commands, console = panic("idle", psp=["--fault=SNP_SHUTDOWN_EX:status=0x28"])
    assert [entry["cmd"] for entry in commands] == ["SHUTDOWN", "SNP_SHUTDOWN_EX"]
    assert console.count("SNP is not shut down for the panic: SNP_SHUTDOWN_EX: SHUTDOWN_INCOMPLETE (0x28)") == 1


def test_kdump_kernel_leaves_firmware_alone():
    """What makes a kernel a kdump kernel is that it is told where the crashed one's memory is described."""
    result = boot("load.sh", append="elfcorehdr=0x30000000 memmap=1M$0x30000000")
    assert result.status == 0 and not result.splats(), result.splats()
    assert values(result, "sev") == ["N"] and values(result, "kvm") == ["yes"]
    assert result.commands() == []
    assert "this is a kdump kernel: the PSP is left alone" in result.console
