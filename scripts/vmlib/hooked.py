# SPDX-License-Identifier: GPL-2.0
"""A machine whose kvm-amd has our hooks (scripts/kvm-amd), and the program that launches guests
there (selftests/launcher)."""

import functools
import subprocess
from pathlib import Path

from . import initramfs, kernels, paths

MANIFEST = paths.TOP / "selftests/launcher/Cargo.toml"
LAUNCHER = paths.TARGET / "launcher"


@functools.cache
def launcher() -> Path:
    with paths.making("launcher"):
        subprocess.run(["cargo", "build", "--manifest-path", MANIFEST, "--locked", "--release", "--quiet"], check=True)
    return LAUNCHER


@functools.cache
def kvm_amd(kernel: str = "stock") -> Path:
    """kvm-amd.ko with hooks for this kernel."""
    with paths.making("kvm-amd"):
        subprocess.run([paths.TOP / "scripts/kvm-amd/build", "--kernel", kernel], check=True)
    return paths.CACHE / f"kvm-amd-hooked{'' if kernel == 'stock' else f'-{kernel}'}" / "kvm-amd.ko"


def files(kernel: str = "stock") -> dict[str, Path]:
    """What the machine has besides: name inside -> file here."""
    libraries = {
        f"usr/lib/{lib.split('/lib/', 1)[1]}": Path(lib)
        for lib in initramfs.libraries(str(launcher()))
        if "/lib/" in lib
    }
    return libraries | {
        "usr/bin/launcher": launcher(),
        f"usr/lib/modules/{kernels.get(kernel).release}/updates/kvm-amd.ko": kvm_amd(kernel),
    }
