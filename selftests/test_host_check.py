# SPDX-License-Identifier: GPL-2.0
"""tools/host-check says what is wrong with a host, and that nothing is wrong with one that is healthy.

`make test` boots three machines, `make test-long` one for each row of host_check.toml's boots.
"""

import host_check as table
import pytest
from conftest import boot
from vmlib import host_check

SAMPLE = ("healthy",)


def look(*steps: str, **machine) -> dict[str, host_check.Look]:
    result = boot("host-check.sh", *steps, files=host_check.files(), limit=180, **machine)
    assert result.status == 0 and not [line for line in result.lines if line.startswith("@failed")], result.lines
    return host_check.looks(result)


def test_a_healthy_host(driver):
    found = look("+msr", "look,before", "+kvm_amd", "look,after", driver=driver)
    # What nobody has loaded yet.
    assert set(found["before"].of("no")) == {"psp", "kvm"} and set(found["before"].of("unknown")) == {"firmware"}
    after = found["after"]
    assert after.status == 0 and not after.of("no") and not after.of("unknown"), after
    assert after.snphost[0] == 0
    assert len(after.findings) >= 30


def test_there_are_many():
    assert len(table.WRONG) >= 30 and {wrong.boot for wrong in table.WRONG} == set(table.BOOTS)


@pytest.mark.parametrize("name", table.BOOTS)
def test_it_is_named(name, long):
    """By a line that a healthy host does not have."""
    if not long and name not in SAMPLE:
        pytest.skip("make test-long")
    looks, silent = table.found(name), []
    for wrong in [wrong for wrong in table.WRONG if wrong.boot == name]:
        found = looks[wrong.title]
        for when, lines, look in zip(("before", "after"), table.lines(wrong, found), (found.before, found.after)):
            if lines == []:
                silent.append((wrong.title, when, look))
    assert not silent
