# SPDX-License-Identifier: GPL-2.0
"""A kvm-amd with our hooks on the debug kernel: no report of its checks when guests are launched, when firmware is
asked about all of them, and when an allocation fails."""

import re

from conftest import boot, values
from test_allocations import text_size, where, without_injection
from test_hooked import GOES_ON, REFUSED_GUEST, asked, ends
from vmlib import console, hooked, suite


def test_guests_and_one_that_firmware_refuses():
    result, cases = asked(REFUSED_GUEST, kernel="debug")
    first, second, third = cases[REFUSED_GUEST].values()
    assert GOES_ON <= set(first) and ends(second) and GOES_ON <= set(third), cases
    assert values(result, "module")[-1] == "kvm_amd updates/kvm-amd.ko" and values(result, "lost") == ["0"]


def test_every_allocation_fails(long, note):
    """Those that are made below kvm-amd while a guest is launched, run and ended, which has those of ccp for it among
    them: nothing is lost or left, and the next guest runs."""
    rounds = ("1", "1", "9999") if long else ("3", "11", "14")
    result = boot(
        "hooked-allocations.sh", text_size(hooked.kvm_amd("debug")), *rounds, kernel="debug", guest=True,
        files=hooked.files("debug"), limit=3000 if long else 300,
        # A failure is announced with a call trace, unless it is one with __GFP_NOWARN; below each is looked at.
        allows=("Call Trace",),
    )  # fmt: skip
    assert result.status == 0, result.lines
    lines = [re.sub(r"^\[ *[\d.]+\] ", "", line) for line in result.console.splitlines()]
    kernel = suite.sections(lines, r"round (\S+)", str)
    ends, left = values(result, "end"), [int(value) for value in values(result, "fail-nth")]
    numbers = values(result, "round")[:-1]
    assert len(ends) == len(left) == len(numbers)
    failed = [n for n, rest in zip(numbers, left) if rest == 0]
    # The last one of all did not come any more.
    assert failed == (numbers[:-1] if long else numbers) and len(failed) > 1
    reports = [
        f"allocation {n} ({where(kernel[n])}): {line}"
        for n in numbers
        for line in console.splats("\n".join(without_injection(kernel[n])))
    ]
    assert not reports, "\n".join(reports)
    assert set(values(result, "lost")) == {"0"} and {line.split()[1] for line in values(result, "left")} == {"0"}
    noticed = [n for n, end in zip(numbers, ends) if end != "0"]
    # Without some of them it goes on with less: which those are, differs between boots.
    assert len(noticed) > len(failed) / 2 if long else noticed, (ends, left)
    note(f"{len(failed)} allocations have failed, the launcher has noticed {len(noticed)}")
