# SPDX-License-Identifier: GPL-2.0
"""Packages that are signed with a key of the machine's owner, on a whole Debian with Secure Boot: OVMF with Microsoft's
keys starts Debian's signed shim, GRUB and kernel. Each start takes more than a minute of CPU time."""

from pathlib import Path

import pytest
from conftest import owner_key
from debian_life import live
from test_packages import INTREE, MODULES, OURS, make
from vmlib import debian

CODE, VARIABLES = (Path("/usr/share/OVMF", name) for name in ("OVMF_CODE_4M.secboot.fd", "OVMF_VARS_4M.ms.fd"))
OWNER = "the owner of this machine"
GUID = "5eb0ba5e-0000-4000-8000-00000000000a"
# How the key is enrolled, as a machine owner's or in the BIOS' db: virt-fw-vars' option, and what the kernel says of
# where it has found the key.
PLACES = {"--add-mok": "UEFI:MokListRT (MOKvar table)", "--add-db": "UEFI:db"}


@pytest.fixture(scope="module")
def signed(request, tmp_path_factory) -> tuple[list[Path], Path]:
    """The packages, and the certificate."""
    if not request.config.getoption("--long"):
        pytest.skip("in make test-long")
    scratch = tmp_path_factory.mktemp("signed")
    key, certificate = owner_key(scratch, OWNER)
    made = make(scratch, SIGN_KEY=str(key), SIGN_CERT=str(certificate))
    return [file for name, file in made.items() if name.startswith("ccp-rs") and name != "ccp-rs-dkms"], certificate


def start(how: str, signed, scratch: Path, *enrol: str):
    """A Debian with these packages on a machine with Secure Boot; `enrol` are options of virt-fw-vars."""
    packages, certificate = signed
    debian.tools({"virt-fw-vars": "python3-virt-firmware"})
    pem, variables = scratch / "certificate.pem", scratch / "variables"
    debian.run("openssl", "x509", "-inform", "DER", "-in", certificate, "-out", pem)
    debian.run("virt-fw-vars", "--input", VARIABLES, "--output", variables, *(
        word for option in enrol for word in (option, GUID, pem)))  # fmt: skip
    drives = " ".join(
        f"-drive if=pflash,format=raw,unit={n},file={file},{mode}"
        for n, (file, mode) in enumerate([(CODE, "readonly=on"), (variables, "snapshot=on")])
    )
    files = {f"/root/ours/{file.name}": file for file in packages}
    life = live("secure-boot", "secure-boot.sh", [how], files, f"--qemu={drives}")
    # What is not ours is signed by Debian.
    said = life.said["install"]
    assert said["secure"] == "SecureBoot enabled" and "[integrity]" in said["lockdown"]
    assert (said["file"], said["loaded"], said["sev"], said["snp"]) == (INTREE, "1", "Y", "Y")
    assert life.tried["install"]["apt"][0] == 0
    return life


@pytest.mark.parametrize("enrol", PLACES)
def test_enrolled(signed, tmp_path, enrol):
    life = start("reload", signed, tmp_path, enrol)
    said = life.said["installed"]
    assert (said["file"], said["ours"], said["sev"], said["window"]) == (OURS, "1", "Y", "enabled")
    assert life.tried["install"]["modprobe"] == (0, [""])
    loaded = [entry["MESSAGE"] for entry in life.entries("installed", "integrity: Load")]
    assert any(PLACES[enrol] in line and OWNER in after for line, after in zip(loaded, loaded[1:])), loaded
    assert not life.entries("installed", "Loading of module|Lockdown: modprobe")


def test_not_enrolled(signed, tmp_path):
    """The kernel refuses ours; the package says so, and loads the kernel's own."""
    life = start("restart", signed, tmp_path)
    said = life.said["installed"]
    assert (said["file"], said["ours"], said["loaded"], said["sev"], said["window"]) == (OURS, "0", "1", "Y", "")
    (told,) = life.entries("installed", "", "ccp-rs")
    assert told["PRIORITY"] == "4" and told["MESSAGE"].startswith(
        f"this kernel refuses the modules of {MODULES} (Key was rejected by service); the ccp driver of its own is "
    ), told
    assert len(life.entries("installed", r"ccp .* SEV API")) == 1
