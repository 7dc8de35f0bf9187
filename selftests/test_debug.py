# SPDX-License-Identifier: GPL-2.0
"""The debug kernel's checks (KASAN, UBSAN, lockdep, kmemleak, atomic sleep) have nothing to report while
guests are launched; and it is the same story there as on the stock kernel."""

import pytest
from conftest import first_launch
from vmlib import launch


@pytest.mark.parametrize("driver", ["intree", "ours"])
def test_first_launch(driver, request):
    """`make test-long` has ten cycles of load, launches and unload with our driver, and the in-tree
    driver for comparison."""
    long = request.config.getoption("--long")
    if driver == "intree" and not long:
        pytest.skip("takes long; 'make test-long' does it")
    cycles = 10 if driver == "ours" and long else 1
    result, launches = first_launch(driver, "debug", cycles)
    assert result.status == 0, result.lines
    assert len(launches) == cycles * len(launch.GUESTS)
    assert all(item.equal for item in launches), "\n".join(str(item) for item in launches)
    assert result.rmp["assigned"] == 0
