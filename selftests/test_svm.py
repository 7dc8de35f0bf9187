# SPDX-License-Identifier: GPL-2.0
"""Guests without SEV are none of the CPU model's business: KVM's own selftests for SVM, guests that
run guests of their own, end alike on QEMU's CPU alone and with the CPU model, whether that runs SEV-ES
and SNP guests or not.

Not among them are svm_lbr_nested_state and svm_nested_soft_inject_test, which are about LBR
virtualization and NRIP save: TCG has neither, and the model announces both, because kvm-amd wants them
for SEV.
"""

import re

import kvm_selftests
import pytest
from conftest import boot

TESTS = [
    "svm_vmcall_test", "svm_int_ctl_test", "svm_nested_clear_efer_svme",
    "svm_nested_pat_test", "svm_nested_shutdown_test", "svm_nested_vmcb12_gpa",
]  # fmt: skip
LIMIT = 60


def outcomes(**config) -> dict[str, tuple[int, list[str]]]:
    """Test -> status, and what it said."""
    result = boot(
        "svm.sh",
        str(LIMIT),
        *TESTS,
        driver="intree",
        files=kvm_selftests.files(TESTS),
        limit=LIMIT * len(TESTS) + 180,
        **config,
    )
    assert result.status == 0, result.lines
    # What differs from run to run.
    chance = re.compile(r"[pt]id=\d+|Random seed: \S+")
    found = kvm_selftests.outcomes(result)
    return {
        name: (outcome.status, [chance.sub("", line) for line in outcome.output]) for name, outcome in found.items()
    }


def test_other_guests_do_not_notice_the_cpu_model(request):
    if not request.config.getoption("--long"):
        pytest.skip("three machines for what seldom changes; 'make test-long' does it")
    alone = outcomes(cpu_model=False)
    assert {name: status for name, (status, _) in alone.items()} == dict.fromkeys(TESTS, 0), alone
    assert outcomes() == alone
    assert outcomes(guest=True) == alone
