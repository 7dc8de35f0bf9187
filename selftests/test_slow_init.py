# SPDX-License-Identifier: GPL-2.0
"""An SNP_INIT of 150 s, as on a machine with 8 TiB: the driver waits for it, and nobody who waits with it
looks hung."""

import re

import pytest
from conftest import boot, values


@pytest.fixture
def result(driver, request):
    if not request.config.getoption("--long"):
        pytest.skip("takes three minutes; 'make test-long' does it")
    # The in-tree driver makes no difference between commands, and would give up after 100 s.
    result = boot(
        "slow-init.sh",
        "300" if driver == "intree" else "100",
        driver=driver,
        psp=["--fault=SNP_INIT_EX:delay=150000"],
        limit=240,
    )
    assert values(result, "patience") == ["120"]
    # It was in flight from before the programs came until after one of them was killed.
    assert [value.split()[0] for value in values(result, "pending")] == ["SNP_INIT_EX"] * 2
    assert result.status == 0 and values(result, "snp") == ["Y"]
    assert values(result, "patient")[0].startswith("@ioctl platform-status 0 ")
    return result


def test_snp_init_of_150_seconds(result, driver):
    if driver == "intree":
        # What the test would see if the driver did it in the simple way.
        assert "blocked for more than" in result.console and values(result, "killed") == ["waits"]
        return
    assert values(result, "killed") == ["gone"]
    notices = re.findall(r"SNP_INIT_EX: firmware has been working for (\d+) s, waiting up to (\d+) s", result.console)
    assert notices == [("60", "200"), ("120", "200")]
