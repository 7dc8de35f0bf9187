# SPDX-License-Identifier: GPL-2.0
"""KVM's own selftests, built from the kernel's source and not changed, run on the platform with
both drivers, and with a kvm-amd that has our hooks; with ours, `make test-long` runs them on the debug kernel, too."""

import functools

import kvm_selftests
import pytest
from conftest import boot, values
from vmlib import hooked, kernels

# Tests that are skipped here, and the words in which they say why.
SKIPPED = {
    # Debian's kernel is built without KVM_SW_PROTECTED_VM, which is for developers of KVM.
    "private_mem_kvm_exits_test": "Requirement not met: kvm_check_cap(KVM_CAP_VM_TYPES) & BIT(KVM_X86_SW_PROTECTED_VM)",
    "private_mem_conversions_test": (
        "Requirement not met: kvm_check_cap(KVM_CAP_VM_TYPES) & BIT(KVM_X86_SW_PROTECTED_VM)"
    ),
}
TESTS = [
    "sev_init2_tests",
    "sev_migrate_tests",
    "sev_smoke_test",
    "guest_memfd_test",
    "pre_fault_memory_test",
    *SKIPPED,
]
# Tens of thousands of PSP commands.
SLOW = ["sev_dbg_test"]
# kselftest.h
KSFT_PASS, KSFT_SKIP = 0, 4

# Policies of guests.
SEV_NO_DEBUG, SEV_ES = 1 << 0, 1 << 2
SNP, SNP_DEBUG = 1 << 17, 1 << 19


@pytest.fixture(params=["intree", "ours", "ours-debug", "hooked"])
def system(request) -> tuple[str, str]:
    """Driver ("hooked": ours, and a kvm-amd with hooks) and kernel."""
    driver, _, kernel = request.param.partition("-")
    if kernel and not request.config.getoption("--long"):
        pytest.skip("takes long; 'make test-long' does it")
    return driver, kernel or "stock"


@functools.cache
def run(system: tuple[str, str], *tests: str):
    """These tests in one machine: (result, outcomes, test -> pages assigned in the RMP that were not before it)."""
    driver, kernel = system
    limit = 900 if tests == tuple(SLOW) else 200
    inside = limit * kernels.get(kernel).patience
    files = kvm_selftests.files(tests)
    if driver == "hooked":
        files |= hooked.files()
        driver = "ours"
    result = boot(
        "kvm-selftests.sh",
        str(inside),
        *tests,
        driver=driver,
        kernel=kernel,
        guest=True,
        files=files,
        limit=limit + 180,
    )
    left = {name: int(pages) for name, pages in map(str.split, values(result, "left"))}
    return result, kvm_selftests.outcomes(result), left


@pytest.mark.parametrize("name", TESTS + SLOW)
def test_kvm_selftest(name, system, request, note):
    """Passes as a whole and in each part, or is skipped for the reason that is known."""
    if name in SLOW and not request.config.getoption("--long"):
        pytest.skip("tens of thousands of PSP commands; 'make test-long' does it")
    _, outcomes, left = run(system, *(SLOW if name in SLOW else TESTS))
    outcome = outcomes[name]
    text = "\n".join(outcome.output)
    note(f"{name}, {', '.join(system)}: {outcome.seconds} s")
    assert outcome.status in (KSFT_PASS, KSFT_SKIP), text
    # Some report their parts, TAP, and end with 0 all the same.
    assert not [line for line in outcome.output if line.startswith(("not ok", "Bail out!"))], text
    assert left[name] == 0, "pages of a guest that is gone"
    skipped = outcome.status == KSFT_SKIP
    assert skipped == (name in SKIPPED), text
    if skipped:
        assert SKIPPED[name] in text
        pytest.skip(SKIPPED[name])


def test_the_host_is_well(system):
    """None of them leaves a trace in the kernel's messages, the RMP or what the CPU model reports."""
    result, outcomes, _ = run(system, *TESTS)
    assert result.status == 0 and list(outcomes) == TESTS, result.lines
    assert result.rmp["assigned"] == 0


def test_every_kind_of_guest_was_there(system):
    """sev_smoke_test leaves out what KVM does not offer: plain SEV, SEV-ES and SNP guests were all
    launched, with and without debugging."""
    trace = run(system, *TESTS)[0].commands()
    finished = {entry["cmd"] for entry in trace if entry["status"] == 0}
    assert {"LAUNCH_FINISH", "SNP_LAUNCH_FINISH"} <= finished
    policies = {(entry["cmd"], entry["policy"]) for entry in trace if "policy" in entry}
    sev = {("LAUNCH_START", policy) for policy in (0, SEV_NO_DEBUG, SEV_ES, SEV_ES | SEV_NO_DEBUG)}
    assert policies == sev | {("SNP_LAUNCH_START", SNP), ("SNP_LAUNCH_START", SNP | SNP_DEBUG)}
