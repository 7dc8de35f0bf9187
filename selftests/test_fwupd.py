# SPDX-License-Identifier: GPL-2.0
"""fwupd says the same of the PSP with both drivers. Only in test-long: it is in a root directory of its own, made of
Debian's packages."""

import json
import os
import subprocess
from pathlib import Path

import pytest
from conftest import paths
from vmlib import debian

# What the feature register has without the PSP being asked: SEV, TEE, and of the security bits fused_part,
# debug_lock_on, tsme_status, anti_rollback_status, rpmc_production_enabled and rpmc_spirom_available.
GENOA = ("profile=genoa", "psp=--capability=3a583")
# Attribute of fwupd's -> its result. As its plugin pci_psp reads them:
USUAL = {
    "PlatformFused": "locked",
    "Amd.SpiWriteProtection": "enabled",
    "PlatformDebugLocked": "locked",
    "Amd.SpiReplayProtection": "not-supported",
    "Amd.RollbackProtection": "enabled",
    "EncryptedRam": "not-supported",
}
OTHER = USUAL | {
    "Amd.SpiWriteProtection": "not-enabled",
    "Amd.SpiReplayProtection": "enabled",
    "EncryptedRam": "encrypted",
}
SCRIPT = """
for ask in security get-devices; do
    fwupdtool $ask --plugins pci_psp --json 2>/dev/null | tr -d '\\n'
    echo
done
"""


@pytest.fixture(scope="module")
def root(request) -> Path:
    if not request.config.getoption("--long"):
        pytest.skip("in make test-long")
    directory = paths.CACHE / "fwupd"
    with paths.making("fwupd"):
        if not (directory / "usr/bin/fwupdtool").exists():
            debian.bootstrap(directory, "minbase", ["fwupd", "kmod"], [], os.environ)
    return directory


def ask(driver: str, root: Path, snp: tuple[str, ...], out: Path) -> tuple[dict, list]:
    """What is so of the platform, and the devices."""
    options = [word for option in snp for word in ("--snp", option)]
    run = [paths.TOP / "scripts/snp-host", "run", "--root", root, "--driver", driver, "--out", out, *options]
    done = subprocess.run([*run, "--", "sh", "-c", SCRIPT], capture_output=True, text=True, timeout=400, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    said = [json.loads(line[line.index("{") :]) for line in done.stdout.splitlines() if "{" in line]
    attributes, devices = said[0]["SecurityAttributes"], said[1]["Devices"]
    for thing in (*attributes, *devices):
        thing.pop("Created", None)
    told = [row for row in attributes if row["Plugin"] == "pci_psp"]
    return {row["AppstreamId"].removeprefix("org.fwupd.hsi."): row for row in told}, devices


@pytest.mark.parametrize("snp, right", [((), USUAL), (GENOA, OTHER)], ids=["usual", "genoa"])
def test_the_same_on_both_drivers(root, snp, right, tmp_path):
    results, devices = ask("ccp-rs", root, snp, tmp_path)
    assert {name: row.get("HsiResult") for name, row in results.items()} == right
    assert [device["Name"] for device in devices] == ["Secure Processor"]
    assert (results, devices) == ask("intree", root, snp, tmp_path)
