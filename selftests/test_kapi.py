# SPDX-License-Identifier: GPL-2.0
"""What ccp exports to other modules: the same results, commands and page states as with the in-tree
driver. A module of ours makes the calls that kvm-amd makes for plain SEV guests, which need a driver
that changes page states behind the caller's back once SNP is initialised."""

import functools
import re

import differences
from conftest import boot, module, values
from test_traces import summary


@functools.cache
def calls(driver: str, *parameters: str):
    result = boot(
        "kapi.sh",
        "/kapi_test.ko",
        *parameters,
        driver=driver,
        files={"kapi_test.ko": module("kapi_test")},
        expects=("are lost until",) * ("lose=1" in parameters),
        # Pages that are to be lost are reclaimed once more.
        allows=(r"page named after it came back, \w+, at SNP_PAGE_RECLAIM$",) * ("lose=1" in parameters),
    )
    assert result.status == 0, result.lines
    lines = [line.removeprefix("@kapi ") for line in result.lines if line.startswith("@kapi ")]
    assert lines[-1] == "end 0"
    return lines, [summary(entry) for entry in result.commands()], result


def test_same_results_as_in_tree():
    intree, ours = calls("intree")[0], calls("ours")[0]
    assert [line.split()[0] for line in intree] == [line.split()[0] for line in ours] and len(ours) > 25
    different = [(a, b) for a, b in zip(intree, ours) if a != b]
    listed = differences.listed("kapi")
    unexplained = [pair for pair in different if differences.reason(listed, pair[1].split()[0]) is None]
    assert not unexplained, "\n".join(f"in-tree: {a}  ours: {b}" for a, b in unexplained)
    unused = [
        pattern for pattern in listed if not any(differences.matches(pattern, b.split()[0]) for _, b in different)
    ]
    assert not unused, f"listed but not seen: {unused}"


# What ours asks when firmware says that it is in no state for a command: has it been reset? (The page of the host's is
# refused: it has not. The command buffer of the second command changes hands.)
WAS_IT_RESET = ["SNP_PLATFORM_STATUS status=26", "PLATFORM_STATUS status=0", "SNP_PAGE_RECLAIM status=0"]


def without_question(commands: list[str]) -> tuple[list[str], int]:
    """The commands without that question, and how often it was asked."""
    out, asked, n = [], 0, 0
    while n < len(commands):
        if [" ".join(command.split()[:2]) for command in commands[n : n + 3]] == WAS_IT_RESET:
            asked, n = asked + 1, n + 3
        else:
            out.append(commands[n])
            n += 1
    return out, asked


def test_same_commands_as_in_tree():
    intree = calls("intree")[1]
    refused = [command for command in intree if re.search(r" status=1( |$)", command)]
    assert without_question(calls("ours")[1]) == (intree, len(refused)) and refused


def test_pages_are_the_hosts_again():
    lines = calls("ours")[0]
    assert [line for line in lines if line.startswith("guest-page-after")] == [
        f"guest-page-after {n} 0 shared" for n in range(4)
    ]
    assert "get-id-neighbours unchanged" in lines
    assert "get-id-address the caller's" in lines


def test_buffers_that_do_not_fit():
    """Refused before firmware sees anything. (The in-tree driver warns with a call trace, and frees any page.)"""
    lines = calls("ours", "mismatches=1")[0]
    for name in ("missing-buffer", "needless-buffer", "unknown-command", "truncated-command", "life-cycle-command"):
        assert f"{name} -22 0x5555" in lines
    assert calls("ours", "mismatches=1")[1] == calls("ours")[1]


def test_lost_pages_are_kept_and_counted_once():
    """Pages that firmware does not give back stay out of the allocator although their owner frees them."""
    lines, _, result = calls("ours", "lose=1")
    for line in ("lost -5", "lost-again -5", "lost-parts -5", "lost-page kept", "lost-compound kept"):
        assert line in lines
    assert values(result, "lost") == ["3"] and values(calls("ours")[2], "lost") == ["0"]
    said = [line for line in result.console.splitlines() if "page(s) from" in line]
    assert [re.search(r"(\d+) page\(s\) .* (\d+) lost so far", line).groups() for line in said] == [
        ("1", "1"),
        ("2", "3"),
    ]
