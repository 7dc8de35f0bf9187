# SPDX-License-Identifier: GPL-2.0
"""A machine whose kvm-amd has our hooks (scripts/kvm-amd), and the program that launches guests
there (selftests/launcher)."""

import dataclasses
import functools
import subprocess
from pathlib import Path

from . import initramfs, kernels, paths

MANIFEST = paths.TOP / "selftests/launcher/Cargo.toml"
LAUNCHER = paths.TARGET / "launcher"
# Of scripts/kvm-amd/build.
NOT_FOR_THIS_KERNEL = 3


@functools.cache
def launcher() -> Path:
    with paths.making("launcher"):
        subprocess.run(["cargo", "build", "--manifest-path", MANIFEST, "--locked", "--release", "--quiet"], check=True)
    return LAUNCHER


@functools.cache
def kvm_amd(kernel: str = "stock") -> Path:
    """kvm-amd.ko with hooks for this kernel."""
    release = kernels.get(kernel).release
    with paths.making("kvm-amd"):
        run = subprocess.run([paths.TOP / "scripts/kvm-amd/build", "--kernel", kernel])
        if run.returncode == NOT_FOR_THIS_KERNEL:
            raise kernels.NotBuilt(f"the patches of scripts/kvm-amd are not for {release}")
        run.check_returncode()
    return paths.OUT / f"kvm-amd-hooked{'' if kernel == 'stock' else f'-{kernel}'}" / "kvm-amd.ko"


def launcher_files() -> dict[str, Path]:
    """The launcher and its libraries: name inside -> file here."""
    libraries = {
        f"usr/lib/{lib.split('/lib/', 1)[1]}": Path(lib)
        for lib in initramfs.libraries(str(launcher()))
        if "/lib/" in lib
    }
    return libraries | {"usr/bin/launcher": launcher()}


def files(kernel: str = "stock") -> dict[str, Path]:
    """What the machine has besides: name inside -> file here."""
    return launcher_files() | {
        f"usr/lib/modules/{kernels.get(kernel).release}/updates/kvm-amd.ko": kvm_amd(kernel)
    }


@dataclasses.dataclass
class Launch:
    """What a launch and the guest's end have taken."""

    commands: list[str]
    counts: dict[str, int]  # RMPUPDATEs and the like
    seconds: float  # to the end of the guest


def launches(trace: list[dict]) -> dict[str, list[Launch]]:
    """Those of vm/launch-cost.sh, by the module that made them."""
    found = {"stock": [], "hooked": []}
    for n, entry in enumerate(trace):
        if entry.get("event") != "mark":
            continue
        when, module = entry["text"].split()
        if when == "begin":
            begin = n
            continue
        counts = {key: entry[key] - trace[begin][key] for key in ("rmpupdate", "psmash", "wbinvd")}
        commands = [entry["cmd"] for entry in trace[begin:n] if "cmd" in entry]
        found[module].append(Launch(commands, counts, (entry["t_us"] - trace[begin]["t_us"]) / 1e6))
    return found
