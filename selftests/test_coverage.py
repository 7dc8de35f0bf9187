# SPDX-License-Identifier: GPL-2.0
"""`make coverage` tells lines that were run from lines that were not."""

import pytest
from conftest import boot, paths, script

DRIVER = "rust/ccp/driver.rs"


@pytest.fixture
def coverage():
    return script("coverage")


def line_of(text: str) -> tuple[str, int]:
    numbers = [n for n, line in enumerate((paths.TOP / DRIVER).read_text().splitlines(), 1) if text in line]
    assert len(numbers) == 1, f"{DRIVER} has {len(numbers)} lines with {text}"
    return DRIVER, numbers[0]


def test_lines_that_ran_and_lines_that_did_not(coverage, monkeypatch):
    """The modules are loaded, bound and unloaded; nothing is amiss with the PSP."""
    blocks = paths.CACHE / "coverage/test"
    blocks.mkdir(parents=True, exist_ok=True)
    for old in blocks.iterdir():
        old.unlink()
    monkeypatch.setenv("CCP_COVERAGE", str(blocks))
    assert boot("load.sh").status == 0
    images = coverage.all_images({"stock"})
    ran = coverage.executed(blocks, images)
    code = set().union(*(image.all_lines() for image in images.values()))
    for line, expected in {
        "let address = pci_adapter::address(dev);": True,
        "psps::add(psps::Candidate {": True,
        "this PSP has no SEV": False,
        "this is a kdump kernel": False,
    }.items():
        assert line_of(line) in code, line
        assert (line_of(line) in ran) == expected, line
    assert {file for file, _ in ran} >= {"rust/snp_host/host.rs", "rust/ccp/mailbox.rs", "rust/sys/percpu.rs"}


def test_list_of_lines(coverage):
    assert coverage.ranges([7, 1, 2, 3, 9]) == "1-3 7 9"
