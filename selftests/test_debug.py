# SPDX-License-Identifier: GPL-2.0
"""The debug kernel's checks (KASAN, UBSAN, lockdep, kmemleak, atomic sleep) have nothing to report while
guests are launched; and it is the same story there as on the stock kernel."""

import pytest
from conftest import first_launch
from vmlib import launch

CYCLES = {"intree": 1, "ours": 10}


@pytest.mark.parametrize("driver", CYCLES)
def test_first_launch(driver):
    result, launches = first_launch(driver, "debug", CYCLES[driver])
    assert result.status == 0, result.lines
    assert not result.splats()
    assert len(launches) == CYCLES[driver] * len(launch.GUESTS)
    assert all(item.equal for item in launches), "\n".join(str(item) for item in launches)
    assert result.rmp["assigned"] == 0
