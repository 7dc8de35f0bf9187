# SPDX-License-Identifier: GPL-2.0
"""The models of one machine: the PSP models that run beside QEMU, and what QEMU has to be told."""

import contextlib
import dataclasses
import fcntl
import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path

from . import paths

MIB = 1 << 20
GIB = 1 << 30
# Without these the kernel clears and copies eight bytes at a time and not one by one, which is what TCG does for REP
# STOSB and REP MOVSB.
FASTER = "erms=off,fsrm=off"
# The machine's CPU: Linux wants no hypervisor below an SNP host, TCG's page walks must take the C-bit for an address
# bit, and CPUID 8000001F must be within the limit (the CPU model's README). Nobody wants to read each time what else
# TCG has not got.
CPU_PROPERTIES = f"xlevel=0x80000025,hypervisor=off,phys-bits=52,check=off,{FASTER}"
ACCELERATOR = "tcg,thread=multi"
# In snp-qemu's environment: the process that waits for it. The machine ends with that.
WAITS = "SNP_QEMU_WAITS"
# And where large temporary files go, if not where those of all its children do.
TEMPORARY = "SNP_QEMU_TMPDIR"
IOMMU = "amd-iommu,xtsup=on,dma-remap=on"


@dataclasses.dataclass(frozen=True)
class Profile:
    """A generation of processors, as far as it is told to QEMU and the models from here. What firmware has of it, they
    know by its name."""

    cpu: str  # QEMU's
    model: tuple[str, ...]  # arguments of the CPU model


PROFILES = {
    "milan": Profile("EPYC-Milan", ()),
    "genoa": Profile("EPYC-Genoa", ()),
    # Zen 5 has RMPREAD and can have a segmented RMP (the kernel's patches for both), which BIOSes have a switch for.
    "turin": Profile("EPYC-Turin", ("rmpread=on", "rmp_segments=on")),
}


class ModelError(Exception):
    """A model did not start; says why."""


def rmp_size(end: int) -> int:
    """Bytes for memory that ends at this address: 16 per page and 16 KiB of bookkeeping, in whole MiB."""
    return -(-(end // 4096 * 16 + 16384) // MIB) * MIB


def directory(size: int = 0) -> tuple[Path, int]:
    """A new directory on a tmpfs, and the lock that says that it is in use. Those of runners that were killed go away.

    Where /dev/shm has no room for `size` bytes, the directory for temporary files has to do."""
    ram = Path("/dev/shm")
    with paths.making("machines"):
        for old in ram.glob("ccp-rs-*"):
            with contextlib.suppress(OSError):  # in use, gone meanwhile, or not ours
                lock = _locked(old)
                shutil.rmtree(old, ignore_errors=True)
                os.close(lock)
        room = os.statvfs(ram)
        enough = room.f_blocks * room.f_frsize >= size
        new = Path(tempfile.mkdtemp(prefix="ccp-rs-", dir=ram if enough else os.environ.get(TEMPORARY)))
        return new, _locked(new)


def _locked(directory: Path) -> int:
    lock = os.open(directory, os.O_RDONLY)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(lock)
        raise
    return lock


def with_defaults(defaults: Iterable[str], given: list[str]) -> list[str]:
    """What is given for the CPU model counts, which takes nothing twice."""
    names = {word.split("=")[0] for word in given}
    return [*(word for word in defaults if word.split("=")[0] not in names), *given]


@dataclasses.dataclass
class Platform:
    """What is to be modelled, and where its files are."""

    files: Path  # RAM, the link page, sockets: on a tmpfs
    logs: Path  # what the models write
    memory: int  # bytes
    low: int  # how many of them lie below 4 GiB
    rmp: range  # addresses that the BIOS sets aside for the RMP
    psps: list[list[str]]  # arguments of each PSP model
    cpu: list[str] | None  # arguments of the CPU model; None: the CPUs are TCG's alone
    profile: str = "milan"  # one of PROFILES
    smt: bool = False  # cores have several threads
    trace: Path | None = None  # of the first PSP, if not among the logs

    def __post_init__(self):
        self.ram, self.link = self.files / "ram", self.files / "link"
        self.running: list[subprocess.Popen] = []

    @staticmethod
    def suffix(n: int) -> str:
        """The first one is the PSP; the others have a number behind their name."""
        return f"-{n + 1}" if n else ""

    def socket(self, n: int = 0) -> Path:
        return self.files / f"psp{self.suffix(n)}.sock"

    def control(self, n: int = 0) -> Path:
        return self.files / f"psp{self.suffix(n)}.ctl"

    def trace_file(self, n: int = 0) -> Path:
        return self.trace if self.trace and not n else self.logs / f"trace{self.suffix(n)}.jsonl"

    def start(self, before_exec: Callable[[], None] | None = None) -> None:
        """Start the PSP models; `before_exec` runs in each of the new processes."""
        self.link.write_bytes(bytes(65536))
        for n, more in enumerate(self.psps):
            log = self.logs / f"pspd{self.suffix(n)}.log"
            command = [
                paths.PSPD, "--socket", self.socket(n), "--link", self.link, "--trace", self.trace_file(n),
                "--control", self.control(n), *(["--smt"] if self.smt else []), f"--part={self.profile}", *more,
            ]  # fmt: skip
            with log.open("w") as file:
                psp = subprocess.Popen(
                    [str(c) for c in command], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=file, text=True,
                    preexec_fn=before_exec,
                )  # fmt: skip
            self.running.append(psp)
            line = psp.stdout.readline().strip()
            if line != "ready":
                raise ModelError(f"the PSP model did not start: {log.read_text().strip() or line}")

    def stop(self) -> None:
        for psp in self.running:
            if psp.poll() is None:
                psp.kill()
                psp.wait()

    def qemu(self, iommu: bool = True) -> list[str]:
        """QEMU's arguments for IOMMU, PSPs and the CPU model."""
        return [
            *(["-device", IOMMU] if iommu else []),
            *(argument for n, _ in enumerate(self.psps) for argument in self._device(n)),
            *self._plugin(),
        ]

    def _plugin(self) -> list[str]:
        if self.cpu is None:
            return []
        arguments = [
            f"file={paths.CPU_MODEL}", f"ram={self.ram}", f"low={self.low}", f"link={self.link}",
            f"rmp_base={self.rmp.start:#x}", f"rmp_end={self.rmp.stop - 1:#x}", f"log={self.logs / 'cpu.log'}",
            *with_defaults(PROFILES[self.profile].model, self.cpu),
        ]  # fmt: skip
        return ["-plugin", ",".join(arguments)]

    def _device(self, n: int) -> list[str]:
        """The PSP of the n-th socket: 0000:41:00.0, 0000:61:00.0, …"""
        name = f"snp{self.suffix(n)}"
        device = {
            "driver": "vfio-user-pci",
            "socket": {"path": str(self.socket(n)), "type": "unix"},
            "bus": f"{name}-port",
            "rombar": 0,
        }
        return [
            # The PSP is given physical addresses, so no IOMMU may stand between.
            "-device", f"pxb-pcie,id={name}-bus,bus_nr={64 + 32 * n},bus=pcie.0,bypass_iommu=on",
            "-device", f"pcie-root-port,id={name}-port,bus={name}-bus,chassis={200 + n}",
            "-device", json.dumps(device),
        ]  # fmt: skip

    def scan(self) -> dict:
        """What a scan of the whole RMP finds, and what the CPU model has reported."""
        scan = subprocess.run(
            [paths.PSPD, "scan", "--ram", self.ram, "--link", self.link], capture_output=True, text=True
        )
        if scan.returncode:
            raise ModelError(f"the RMP cannot be scanned: {scan.stderr.strip()}")
        return json.loads(scan.stdout)
