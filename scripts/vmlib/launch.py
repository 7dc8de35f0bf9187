# SPDX-License-Identifier: GPL-2.0
"""The SNP guests of the first-launch scenario, and the digests that they must have.

The expected digests come from sev-snp-measure and the files that QEMU is given, never from the
model.
"""

import dataclasses
import subprocess
from pathlib import Path

from . import initramfs, kernels, paths
from .machine import Result, VmError

# The command line of the guest with a kernel. An exit of an SNP guest is expensive: without "quiet" the characters on
# the serial port are most of a boot. pci=lastbus=0: Linux looks for PCI buses that ACPI has not named, and asks 8192
# devices of 256 buses for it, at two exits each (pcibios_fixup_peer_bridges() in arch/x86/pci/legacy.c).
APPEND = f"console=ttyS0 quiet {kernels.UNDER_TCG} pci=lastbus=0"
# Process 1 of the guest with a kernel.
GUEST_INIT = """#!/busybox sh
/busybox echo "guest user space: $(/busybox uname -r)"
/busybox poweroff -f
"""


@dataclasses.dataclass(frozen=True)
class Guest:
    name: str
    vcpus: int
    firmware: str
    hashes: bool = False


KERNEL_HASHES = Guest("kernel-hashes", 1, "OVMF.amdsev.fd", hashes=True)
GUESTS = [Guest("1-vcpu", 1, "OVMF.fd"), Guest("4-vcpus", 4, "OVMF.fd"), KERNEL_HASHES]


@dataclasses.dataclass
class Launch:
    name: str
    model: str  # digest that the PSP model computed
    expected: str  # digest that sev-snp-measure computes
    entered: bool  # whether QEMU got as far as entering the guest

    @property
    def equal(self) -> bool:
        return self.entered and bool(self.model) and self.model == self.expected

    def __str__(self) -> str:
        verdict = "EQUAL" if self.equal else "DIFFERENT"
        return f"launch {self.name}: model {self.model or 'none'} expected {self.expected} {verdict}"


def guest_files(stage: Path) -> dict[str, Path]:
    """What the guests are made of: name below /guest in the machine -> file here."""
    initrd = initramfs.guest(stage / "guest-initrd", GUEST_INIT, {})
    append = stage / "append"
    append.write_text(APPEND)
    return {
        "OVMF.fd": paths.OVMF,
        "OVMF.amdsev.fd": paths.OVMF_AMDSEV,
        "vmlinuz": paths.KERNEL,
        "initrd": initrd,
        "append": append,
    }


def expected(guest: Guest, files: dict[str, Path]) -> str:
    command = [
        paths.SNP_MEASURE, "--mode", "snp", "--vcpus", guest.vcpus, "--vcpu-type", "EPYC-v4",
        "--guest-features", "0x1", "--ovmf", files[guest.firmware], "--output-format", "hex",
    ]  # fmt: skip
    if guest.hashes:
        command += ["--kernel", files["vmlinuz"], "--initrd", files["initrd"], "--append", APPEND]
    measure = subprocess.run([str(c) for c in command], capture_output=True, text=True)
    if measure.returncode:
        raise VmError(f"sev-snp-measure failed for {guest.name}: {measure.stderr.strip()}")
    return measure.stdout.strip()


def expected_without_snp(mode: str, firmware: Path) -> str:
    """The same for a guest with one vCPU of "sev" or "seves", of which QEMU has the firmware measured
    and the registers."""
    command = [
        paths.SNP_MEASURE,
        "--mode",
        mode,
        "--vcpus",
        "1",
        "--vcpu-type",
        "EPYC-v4",
        "--ovmf",
        firmware,
        "--output-format",
        "hex",
    ]
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout.strip()


def launches(result: Result, files: dict[str, Path]) -> list[Launch]:
    """What became of each guest, in the order of the launches: the digest of the n-th SNP_LAUNCH_FINISH
    belongs to the n-th guest that was entered."""
    tried = [
        (words[1], words[2])
        for line in result.lines
        if (words := line.split()) and words[0] in ("@launched", "@booted")
    ]
    digests = iter(
        [c.get("digest", "") for c in result.commands() if c["cmd"] == "SNP_LAUNCH_FINISH" and c["status"] == 0]
    )
    right = {guest.name: expected(guest, files) for guest in GUESTS}
    out = []
    for name, state in tried:
        # Of a guest that is refused, or of one that runs: when it has said what it was to say.
        entered = state == "internal-error" or state.isdigit()
        out.append(Launch(name, next(digests, "") if entered else "", right[name], entered))
    return out
