# SPDX-License-Identifier: GPL-2.0
"""The KUnit loop does not lie: a test that fails, is skipped or says nothing is told apart from one
that passes."""

import json
import re
import subprocess

import pytest
from vmlib import kernels, ktap, paths, test_modules
from vmlib.console import splats

REPORT = """\
KTAP version 1
1..0
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
    found = {}
    for report in ktap.reports(CONSOLE):
        found |= ktap.parse(report)[0]
    outcomes = ktap.outcomes(expected, found)
    return {f"{suite}/{test}": verdict for suite, tests in outcomes.items() for test, verdict in tests.items()}


def test_verdicts():
    assert verdicts({"mailbox": ["answer", "late", "gone"]}) == {
        "mailbox/answer": "passed",
        "mailbox/late": "failed",
        "mailbox/gone": "skipped",
    }


def test_the_kernels_parser_says_why():
    first, second = (ktap.parse(report)[1] for report in ktap.reports(CONSOLE))
    assert "late: ASSERTION FAILED at rust/ccp/mailbox.rs:12" in first and "[FAILED] late" in first
    assert "answer" not in first
    assert "[CRASHED]" in second


def test_what_the_kernel_does_not_report_is_missing():
    assert verdicts({"mailbox": ["silent"], "platform": ["start"]}) == {
        "mailbox/silent": "missing",
        "platform/start": "missing",
    }


def test_of_a_suite_that_was_cut_off_the_rest_is_missing():
    assert verdicts({"pages": ["reclaim", "leak"]}) == {"pages/reclaim": "passed", "pages/leak": "missing"}


WRONG = ["fails", "oopses", "hangs", "never_runs"]  # tests of selftests/modules/kunit_ill.c


@pytest.mark.parametrize("machine", ["small", "virtme"])
def test_what_goes_wrong_is_told(machine, long, tmp_path):
    """Of a suite that has a test that fails, one with an Oops and one that never ends."""
    if machine == "virtme" and not long:
        pytest.skip("takes long; 'make test-long' does it")
    module, report = test_modules.build("debug") / "kunit_ill.ko", tmp_path / "report.json"
    options = ["--small", "--limit", "8"] if machine == "small" else ["--limit", "40"]
    run = subprocess.run(
        [paths.TOP / "scripts/kunit", *options, "--module", module, "--report", report],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert run.returncode == 1, run.stdout
    said = json.loads(report.read_text())
    assert (said["passed"], said["skipped"]) == (1, 1), run.stdout
    *tests, machines_end = said["failed"]
    # Behind an Oops with interrupts disabled the kernel may not get as far as the verdict.
    assert [test.removesuffix(" (missing)") for test in tests] == [f"ill/{test}" for test in WRONG], run.stdout
    assert tests[0] == "ill/fails" and tests[2:] == ["ill/hangs (missing)", "ill/never_runs (missing)"], run.stdout
    for words in (
        # Of the kernel's parser, and of kunit itself.
        r"EXPECTATION FAILED at .*kunit_ill\.c:\d+",
        r"one is not two",
        r"\[FAILED\] fails",
        r"\[CRASHED\] ill",
        r"^ill: 1 passed, 1 skipped, [12] failed, [23] missing$",
        # KASAN looks at its shadow of the address first.
        r"^kunit: kernel: .*Oops: general protection fault",
        r"^kunit: the kernel has said nothing for 40 s" if machine == "virtme" else r"^kunit: no end within 32 s",
        r"^kunit: 1 passed, 5 failed, 1 skipped \(\d+ s, logs: .*\)$",
    ):
        assert re.search(words, run.stdout, re.M), f"no {words} in\n{run.stdout}"


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
