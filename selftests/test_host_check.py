# SPDX-License-Identifier: GPL-2.0
"""tools/host-check says what is wrong with a host, and that nothing is wrong with one that is healthy."""

from conftest import boot
from vmlib import host_check


def look(*steps: str, **machine) -> dict[str, host_check.Look]:
    result = boot("host-check.sh", *steps, files=host_check.files(), limit=180, **machine)
    assert result.status == 0 and not [line for line in result.lines if line.startswith("@failed")], result.lines
    return host_check.looks(result)


def test_a_healthy_host(driver):
    found = look("+kvm_amd", "look,blind", "+msr", "look,loaded", driver=driver)
    assert found["blind"].status == 2 and set(found["blind"].of("unknown")) == {"msr"}
    loaded = found["loaded"]
    assert loaded.status == 0 and not loaded.of("no") and not loaded.of("unknown"), loaded
    assert loaded.snphost == (0, 0)
    assert len(loaded.findings) >= 15
