# SPDX-License-Identifier: GPL-2.0
"""Documentation/differences.md has the PCI functions and the parameters that the in-tree driver
has and ours has not."""

import re
import subprocess

from conftest import paths
from vmlib import kernels

PAGE = (paths.TOP / "Documentation/differences.md").read_text()


def info(module, field: str) -> list[str]:
    return subprocess.run(
        ["modinfo", "-F", field, module], capture_output=True, text=True, check=True
    ).stdout.splitlines()


def both(field: str, pattern: str) -> tuple[set[str], set[str]]:
    """What the in-tree driver has, and what ours has."""
    kernel = kernels.get("stock")
    intree = next(kernel.modules.glob("kernel/drivers/crypto/ccp/ccp.ko*"))
    found = [
        {match[1] for line in info(module, field) if (match := re.match(pattern, line))}
        for module in (intree, kernel.ours / "ccp.ko")
    ]
    assert all(found)
    return found[0], found[1]


def test_pci_functions():
    intree, ours = both("alias", r"pci:v00001022d0000(\w{4})sv")
    rows = {
        cells[0]: cells[2].partition(",")[0]
        for line in PAGE.splitlines()
        if re.match(r"\| [0-9A-F]{4}\b", line) and (cells := [cell.strip() for cell in line.strip("|").split("|")])
    }
    listed = {
        number: here for ids, here in rows.items() for number in re.findall(r"\b[0-9A-F]{4}\b", ids.partition("(")[0])
    }
    assert listed == {number: "SEV" if number in ours else "not claimed" for number in intree}
    assert ours < intree


def test_parameters():
    intree, ours = both("parm", r"(\w+):")
    row = next(line for line in PAGE.splitlines() if line.startswith("| parameters "))
    assert set(re.findall(r"`(\w+)`", row)) == intree - ours
    assert ours - intree == {"snp"} and "`ccp.snp=0`" in PAGE
