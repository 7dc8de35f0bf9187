# SPDX-License-Identifier: GPL-2.0
"""SNP guests run in the CPU model."""

import re

from conftest import boot, paths, splats, values

OVMF = {"guest/OVMF.fd": paths.OVMF}


def refusals(result) -> list[str]:
    """Why the CPU model has ended guests."""
    return re.findall(r"guest on CPU .*", (result.run / "cpu.log").read_text())


def test_ovmf_reaches_its_shell(driver):
    """With one vCPU and with four, and nothing stays behind."""
    result = boot("guest.sh", "ovmf:1", "ovmf:4", driver=driver, guest=True, files=OVMF, limit=600)
    assert result.status == 0, result.lines
    booted = [line.split() for line in values(result, "booted")]
    assert [words[:2] for words in booted] == [["ovmf:1", "yes"], ["ovmf:4", "yes"]], result.lines
    print("seconds to the shell:", [int(words[2]) / 10 for words in booted])
    assert refusals(result) == []
    assert result.rmp["assigned"] == 0
    assert not splats(result.console)


def test_guests_are_refused_unless_asked_for():
    result = boot("guest.sh", "ovmf:1", driver="intree", files=OVMF)
    assert result.status == 0, result.lines
    assert values(result, "booted") == ["ovmf:1 no"]
    assert result.rmp["assigned"] == 0
