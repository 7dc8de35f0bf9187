# SPDX-License-Identifier: GPL-2.0
"""The KUnit loop does not lie: a test that fails, is skipped or says nothing is told apart from one
that passes."""

import pytest
from vmlib import kernels, ktap
from vmlib.console import splats

REPORT = """\
Run /init as init process
KTAP version 1
1..1
    KTAP version 1
    # Subtest: mailbox
    # module: ccp
    1..3
    ok 1 answer
    # late.speed: normal
    # late: ASSERTION FAILED at rust/ccp/mailbox.rs:12
    Expected waited to be true, but is false
    not ok 2 late
    ok 3 gone # SKIP no clock
# mailbox: pass:1 fail:1 skip:1 total:3
not ok 1 mailbox
KTAP version 1
1..1
    KTAP version 1
    # Subtest: pages
    # module: ccp
    1..2
    ok 1 reclaim
"""
CONSOLE = "\n".join(f"[   15.769114] {line}" for line in REPORT.splitlines())


def verdicts(expected: dict[str, list[str]]) -> dict[str, str]:
    outcomes = ktap.outcomes(expected, CONSOLE)
    return {f"{suite}/{test}": outcome.verdict for suite, tests in outcomes.items() for test, outcome in tests.items()}


def test_verdicts():
    assert verdicts({"mailbox": ["answer", "late", "gone"]}) == {
        "mailbox/answer": "passed",
        "mailbox/late": "failed",
        "mailbox/gone": "skipped",
    }


def test_details_belong_to_the_test_that_failed():
    outcomes = ktap.outcomes({"mailbox": ["answer", "late"]}, CONSOLE)["mailbox"]
    assert outcomes["answer"].details == []
    assert outcomes["late"].details == [
        "# late.speed: normal",
        "# late: ASSERTION FAILED at rust/ccp/mailbox.rs:12",
        "Expected waited to be true, but is false",
    ]


def test_what_the_kernel_does_not_report_is_missing():
    assert verdicts({"mailbox": ["silent"], "platform": ["start"]}) == {
        "mailbox/silent": "missing",
        "platform/start": "missing",
    }


def test_a_suite_that_was_cut_off_is_missing():
    assert verdicts({"pages": ["reclaim", "leak"]}) == {"pages/reclaim": "missing", "pages/leak": "missing"}


def test_suites_of_the_built_modules_are_found():
    try:
        suites = ktap.suites()
    except kernels.NotBuilt as error:
        pytest.skip(str(error))
    assert all(suites.values())
    assert "capability" in suites["ccp_registers"]


def test_reports_of_the_kernels_checks():
    reports = [
        "WARNING: possible circular locking dependency detected",
        "WARNING: CPU: 0 PID: 1 at rust/ccp/pages.rs:1",
        "BUG: sleeping function called from invalid context at kernel/locking/mutex.c:1",
        "BUG: KASAN: slab-use-after-free in foo+0x1/0x2",
        "UBSAN: array-index-out-of-bounds in drivers/foo.c:1:2",
        "INFO: trying to register non-static key.",
        "INFO: task modprobe:1 blocked for more than 120 seconds.",
        "rcu: INFO: rcu_preempt self-detected stall on CPU",
        "ODEBUG: free active (active state 0) object type: work_struct",
        "Oops: general protection fault, probably for non-canonical address",
    ]
    assert splats("\n".join(f"[    1.000000] {line}" for line in reports)) == [
        f"[    1.000000] {line}" for line in reports
    ]
    assert not splats(
        "kasan: KernelAddressSanitizer initialized (generic)\nkmemleak: Kernel memory leak detector initialized (mem "
        "pool available: 15656)"
    )


def test_leaks_but_not_the_one_that_is_none():
    report = """\
unreferenced object 0xffff888007cdfb80 (size 32):
  comm "swapper/0", pid 1, jiffies 4294894449
  backtrace (crc 347fe4e2):
    kmemleak_alloc+0x23/0x30
    {}+0xa3/0x150
"""
    known, other = report.format("alloc_rmp_segment_desc"), report.format("sev_do_cmd")
    assert not splats(known)
    assert splats(known + other + known) == ["unreferenced object 0xffff888007cdfb80 (size 32):"]
