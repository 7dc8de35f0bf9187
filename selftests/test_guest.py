# SPDX-License-Identifier: GPL-2.0
"""SNP guests run in the CPU model."""

import re

import pytest
from conftest import boot, launch, paths, splats, values


def run(tmp_path, driver: str, *guests: str, **config):
    """Run the guests in one machine: (result, the words of each "@booted" line)."""
    files = {f"guest/{name}": file for name, file in launch.guest_files(tmp_path).items()}
    result = boot("guest.sh", *guests, driver=driver, files=files, limit=300 * len(guests), **config)
    assert result.status == 0, result.lines
    assert result.rmp["assigned"] == 0, "pages of a guest that is gone"
    assert not splats(result.console)
    return result, [line.split() for line in values(result, "booted")]


def refusals(result) -> list[str]:
    """Why the CPU model has ended guests."""
    return re.findall(r"guest on CPU .*", (result.run / "cpu.log").read_text())


@pytest.mark.parametrize("guests, end", [(("ovmf:1", "ovmf:4"), "host-qmp-quit"), (("linux:1",), "guest-shutdown")], ids=["ovmf", "linux"])
def test_guests_run(tmp_path, driver, guests, end):
    """OVMF to its shell; Linux, loaded by OVMF after a look at its hash, to user space, and off."""
    result, booted = run(tmp_path, driver, *guests, guest=True)
    said = {words[0]: " ".join(words[1:]) for words in map(str.split, values(result, "serial"))}
    assert said == {name: "Shell>" if name.startswith("ovmf") else f"guest user space: {paths.RELEASE}" for name in guests}
    assert [(name, *rest) for name, _, *rest in booted] == [(name, end) for name in guests], result.lines
    print("seconds:", {name: int(tenths) / 10 for name, tenths, _ in booted})
    assert refusals(result) == []


def test_guests_are_refused_unless_asked_for(tmp_path):
    result, booted = run(tmp_path, "intree", "ovmf:1")
    assert booted == [["ovmf:1", "never", "host-qmp-quit"]]
    assert "guest execution: not modelled" in (result.run / "cpu.log").read_text()
