# SPDX-License-Identifier: GPL-2.0
"""A host's life with the packages, on a whole Debian (scripts/disk): in-tree driver, apt, restart, libvirt, kexec, a
kernel without modules of ours, removal, in-tree driver. Each start takes more than a minute of CPU time."""

import re

import pytest
from conftest import paths
from debian_life import Life, check_start, kernel_packages, live, order
from test_packages import INTREE, OURS, make
from vmlib import console, debian

STARTS = ["install", "installed", "kexec", "other", "removed"]
WITH_OURS = {"installed", "kexec"}


def older_release() -> str:
    """A kernel of Debian's for which there are no modules of ours, and which GRUB does not prefer."""
    names = debian.run("apt-cache", "pkgnames", "linux-binary-")
    found = re.findall(r"^linux-binary-([\d.]+\+deb13-amd64)$", names, re.M)
    return max((release for release in found if order(release) < order(paths.RELEASE)), key=order)


@pytest.fixture(scope="module")
def life(request, tmp_path_factory) -> Life:
    if not request.config.getoption("--long"):
        pytest.skip("in make test-long")
    scratch = {name: tmp_path_factory.mktemp(name) for name in ("packages", "kernel", "tree")}
    other = older_release()
    kernel = kernel_packages(other, scratch["kernel"], scratch["tree"])
    made = make(scratch["packages"])
    ours = [file for name, file in made.items() if name.startswith("ccp-rs") and name != "ccp-rs-dkms"]
    files = {f"/root/ours/{file.name}": file for file in ours}
    files |= {f"/root/kernel/{file.name}": file for file in kernel}
    files |= {f"/root/{name}": paths.VM_SCRIPTS / name for name in ("libvirt-guest.sh", "libvirt-guest.xml")}
    seen = live("debian", "debian.sh", [paths.RELEASE, other], files)
    seen.other = other
    return seen


def test_which_driver(life):
    """Ours where its modules are installed for the kernel, loaded by udev as the in-tree one is."""
    release = {"other": life.other}
    for start in STARTS:
        ours, said = start in WITH_OURS, life.said[start]
        assert said["release"] == release.get(start, paths.RELEASE), start
        assert said["file"] == (OURS if ours else INTREE), start
        assert (said["ours"], said["window"]) == (("1", "enabled") if ours else ("0", "")), start
        # Before anybody asked for a guest.
        assert said["snp"] == "Y", start


def test_udev_loads_it_in_the_initramfs(life):
    """And kvm_amd before this test's own unit would."""
    for start in ("installed", "kexec"):
        first = life.entries(start, r"ccp .* SEV enabled|EXT4-fs .* mounted")[0]["MESSAGE"]
        assert first.startswith("ccp "), first
    for start in STARTS:
        (loaded,) = life.entries(start, "kvm_amd: SEV-SNP enabled")
        assert int(loaded["__MONOTONIC_TIMESTAMP"]) < int(life.said[start]["began"]), start


def test_a_guest(life):
    status, said = life.tried["installed"]["guest"]
    assert status == 0 and any("Shell>" in line for line in said), said
    finished = [entry["status"] for entry in life.trace if entry.get("cmd") == "SNP_LAUNCH_FINISH"]
    assert finished == [0]


def test_what_snp_does_not_allow(life):
    """Taking a CPU offline, and suspend; with the packages gone both drivers' ways are the kernel's own again."""
    tried = life.tried["installed"]
    assert tried["hotplug"] == (64, ["chcpu: CPU 1 disable failed: Device or resource busy"])
    assert tried["suspend"][0] == 1, tried["suspend"]
    assert life.tried["removed"]["hotplug"][0] == 0


def test_apt(life):
    """Packages come and go without complaint; the one that says that a kernel has no modules says it once."""
    assert [life.tried[start][what][0] for start, what in
            (("install", "apt"), ("installed", "kernel"), ("other", "purge"))] == [0, 0, 0]  # fmt: skip
    said = [line for line in life.tried["installed"]["kernel"][1] if line.startswith("ccp-rs")]
    assert said == [f"ccp-rs: there is no ccp-rs-modules-{life.other}; kernel {life.other} will run with the ccp "
                    "driver of its own"]  # fmt: skip


REFUSED = ("4", r"snp_host: suspend refused while SNP is enabled: .* \[sleep-refused\]")


@pytest.mark.parametrize("start", STARTS)
def test_journal(life, start):
    """It has each line of ours once and at its level, and where the kernel's own driver runs only that it does."""
    said, package = life.drivers_lines(start), life.package_lines(start)
    if start not in WITH_OURS:
        assert not [text for _, text in said if text.startswith("snp_host") or re.search(r"\[[a-z-]+\]$", text)]
        line = f"there is no ccp-rs-modules-{life.other}; this kernel runs with the ccp driver of its own"
        assert package == ([("5", line)] if start == "other" else [])
        return
    assert not package
    # systemd tries one way of sleeping after the other.
    attempts = len(life.entries(start, "PM: suspend entry"))
    assert (attempts > 0) == (start == "installed")
    refused = [one for one in said if re.fullmatch(REFUSED[1], one[1])]
    assert len(refused) == attempts and {level for level, _ in refused} <= {REFUSED[0]}, refused
    check_start([one for one in said if one not in refused])
    # None of the units of this host has failed for it.
    assert life.tried[start]["units"] == (0, [""])


def test_no_report_of_the_kernel(life):
    assert not console.splats(life.console)
