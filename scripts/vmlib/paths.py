# SPDX-License-Identifier: GPL-2.0
"""Where things are: the checkout, the cache directory, and what is in it."""

import contextlib
import fcntl
import os
import sys
from pathlib import Path

TOP = Path(__file__).resolve().parents[2]
CACHE = Path(os.environ.get("CCP_CACHE") or Path.home() / ".cache/ccp-rs")
# Scripts that scripts/platform-install has installed have the models beside them, and need no set-up.
MODELS = TOP / "models"
INSTALLED = MODELS.is_dir()


def _image(modules: Path) -> Path:
    """Of the kernel with these modules, as Debian's packages have it."""
    places = [modules / "vmlinuz.unsigned", modules / "vmlinuz", Path("/boot") / f"vmlinuz-{modules.name}"]
    return next((place for place in places if place.exists()), places[0])


def _chosen() -> str:
    """The release of the set-up's kernel; installed, that of the newest one."""
    with contextlib.suppress(FileNotFoundError):
        return (CACHE / "kernel-release").read_text().strip()
    if not INSTALLED:
        sys.exit(f"nothing has been set up in {CACHE} yet; run 'make setup' first")
    releases = [modules for modules in Path("/usr/lib/modules").glob("*") if _image(modules).exists()]
    return max(releases, key=lambda modules: _image(modules).stat().st_mtime, default=Path("none")).name


# The kernel, and what is built for it: scripts/kernel-version says the same.
RELEASE = os.environ.get("CCP_KERNEL") or _chosen()
IS_CHOSEN = RELEASE == _chosen()
OUT = CACHE if IS_CHOSEN else CACHE / f"for-{RELEASE}"
KERNEL_MODULES = Path("/usr/lib/modules") / RELEASE
KERNEL = _image(KERNEL_MODULES)
UNPACKED_KERNEL = CACHE / f"linux-{RELEASE}" / "vmlinux"
KERNEL_BUILD = CACHE / f"linux-{RELEASE}" / "build"
KERNEL_SOURCE = CACHE / f"linux-{RELEASE}" / "src"
OUR_MODULES = Path(os.environ.get("CCP_MODULES", OUT / "modules"))
DEBUG_TREE = CACHE / f"linux-{RELEASE}" / "debug"
OUR_DEBUG_MODULES = Path(os.environ.get("CCP_DEBUG_MODULES", OUT / "modules-debug"))
TARGET = MODELS if INSTALLED else CACHE / "target" / "release"
PSPD = TARGET / "pspd"
CPU_MODEL = TARGET / "libsnp_cpu.so"
COVERAGE = TARGET / "libcoverage.so"
SNP_QEMU = TOP / "scripts/snp-qemu"
TOOLS = CACHE / "tools"
SNPHOST = TOOLS / "bin" / "snphost"
SNPGUEST = TOOLS / "bin" / "snpguest"
SNP_MEASURE = TOOLS / "measure" / "bin" / "sev-snp-measure"
OVMF = Path("/usr/share/ovmf/OVMF.fd")
OVMF_AMDSEV = TOOLS / "ovmf-amdsev/usr/share/ovmf/OVMF.amdsev.fd"
RUNS = CACHE / "runs"
INITRAMFS = CACHE / "initramfs"
VM_SCRIPTS = TOP / "selftests" / "vm"


@contextlib.contextmanager
def making(what: str):
    """Held by whoever makes a part of the cache that others, tests in parallel, need as well."""
    CACHE.mkdir(parents=True, exist_ok=True)
    with (CACHE / f".{what}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
