# SPDX-License-Identifier: GPL-2.0
"""A whole Debian on a disk (scripts/disk), as an SNP host. A start takes more than a minute of CPU time."""

import json
import subprocess
import time

import pytest
from conftest import paths
from vmlib import disk, psp_trace

SNP_QEMU, SNP_HOST = paths.SNP_QEMU, paths.TOP / "scripts/snp-host"


@pytest.fixture
def base(long):
    """The disk. It takes five minutes to make."""
    if not long:
        pytest.skip("in make test-long")
    return disk.base()


def snp_host(*words, limit: float = 600) -> subprocess.CompletedProcess:
    command = [str(word) for word in (SNP_HOST, "run", *words)]
    return subprocess.run(command, capture_output=True, text=True, timeout=limit, check=False)


def test_debian_starts_from_a_disk_and_restarts(base, tmp_path):
    """By BIOS and GRUB; the in-tree driver initialises SNP; after a restart, which what was written survives, again."""
    here = tmp_path / "here"
    here.write_text("from outside\n")
    before = base.stat().st_mtime_ns
    script = "cat /opt/there; [ -e /root/once ] && exit 7; touch /root/once; systemctl reboot; sleep 100"
    done = snp_host(
        "--root", base, "--out", tmp_path, "--file", f"{here}:/opt/there", "--timeout", 500, "--", "sh", "-c", script
    )
    console = (tmp_path / "console.log").read_text(errors="replace")
    assert (done.returncode, done.stdout) == (7, "from outside\n" * 2), (done.stderr, console[-2000:])
    assert console.count("SEV-SNP API:") == 2 and console.count("Linux version") == 2
    inits = [entry["status"] for entry in psp_trace.read(tmp_path / "trace.jsonl") if entry.get("cmd") == "SNP_INIT_EX"]
    assert inits == [0, 0] and base.stat().st_mtime_ns == before


def test_a_login_by_uefi(base, tmp_path):
    """A disk of its own, with a file, comes to a login on the serial port."""
    greeting, own = tmp_path / "greeting", tmp_path / "own.qcow2"
    greeting.write_text("a disk of its own\n")
    disk.overlay(own, {"/etc/issue": greeting})
    serial = tmp_path / "serial"
    words = ["-m", "2G", "-smp", "2", "-bios", paths.OVMF, "-display", "none", "-serial", f"file:{serial}"]
    with subprocess.Popen([SNP_QEMU, *words, "-drive", f"file={own},if=virtio"]) as running:
        end = time.monotonic() + 400
        while time.monotonic() < end and running.poll() is None and "login: " not in said(serial):
            time.sleep(1)
        running.terminate()
    text = said(serial)
    issue, found, _ = text.partition("snp-host login: ")
    assert found and "a disk of its own" in issue, text[-2000:]
    assert "efi: EFI v" in issue and own.stat().st_size < 64 << 20


def said(serial) -> str:
    return serial.read_text(errors="replace") if serial.exists() else ""


def test_libvirt_starts_snp_guests(base, tmp_path, note):
    """And says before that it can. One is described, the other made by virt-install."""
    names = ("libvirt-guest.sh", "libvirt-guest.xml", "virt-install.sh")
    files = [f"{paths.VM_SCRIPTS}/{name}:/root/{name}" for name in names]
    done = snp_host(
        "--root", base, "--out", tmp_path, "--memory", "3G", *(f"--file={file}" for file in files), "--timeout", 900,
        "--", "sh", "-c", "sh /root/libvirt-guest.sh && sh /root/virt-install.sh", limit=1000,
    )  # fmt: skip
    assert done.returncode == 0, (done.stdout, done.stderr)
    assert "<value>sev-snp</value>" in done.stdout and "<cbitpos>51</cbitpos>" in done.stdout
    assert "<launchSecurity type='sev-snp'" in done.stdout and "Shell>" in done.stdout
    finished = [entry for entry in psp_trace.read(tmp_path / "trace.jsonl") if entry.get("cmd") == "SNP_LAUNCH_FINISH"]
    assert [entry["status"] for entry in finished] == [0, 0]
    assert "<loader type='rom'" in done.stdout and "installed: Shell>" in done.stdout
    note(f"libvirt's guest: the whole took {json.loads((tmp_path / 'result.json').read_text())['seconds']} s")
