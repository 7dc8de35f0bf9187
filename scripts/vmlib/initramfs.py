# SPDX-License-Identifier: GPL-2.0
"""Root file systems for the machines: one or more cpio archives, put one behind the other.

The base (busybox, QEMU and its libraries, OVMF, tools) is large and the same for every run, so it is
made once and kept. The layer with the kernel modules and scripts is small and made for each run.
"""

import functools
import hashlib
import os
import re
import shutil
import subprocess
import tempfile
from pathlib import Path

from . import paths, programs
from .cpio import add_modules, depmod, pack
from .kernels import Kernel

# What a scenario may call inside the machine, and data files that those programs read.
PROGRAMS = [
    "/usr/bin/busybox",
    "/usr/bin/kmod",
    "/usr/bin/qemu-system-x86_64",
    str(paths.SNPHOST),
]
SMALL = ["/usr/bin/busybox", "/usr/bin/kmod"]
DATA = [
    "/usr/share/qemu/kvmvapic.bin",
    "/usr/share/qemu/linuxboot_dma.bin",
    "/usr/share/seabios/bios-256k.bin",
]
KMOD_LINKS = ["modprobe", "rmmod", "insmod", "lsmod", "depmod"]
# Modules a scenario may load, besides what these depend on.
MODULES = ["kvm-amd", "msr", "ccp-crypto", "amdtee"]

# The end of a module with a signature (MODULE_SIGNATURE_MARKER of include/linux/module_signature.h).
SIGNED = b"~Module signature appended~\n"


def libraries(program: str) -> set[str]:
    ldd = subprocess.run(["ldd", program], capture_output=True, text=True)
    return set(re.findall(r"(/\S+) \(0x", ldd.stdout))


def with_libraries(program: str) -> dict[str, Path]:
    """A program and what it needs, for a machine's `files`."""
    files = [program, *libraries(program)]
    return {re.sub(r"^/(lib|lib64|bin)/", r"usr/\1/", file).lstrip("/"): Path(file) for file in files}


def _copy(source: Path, stage: Path, name: str) -> None:
    target = stage / name.lstrip("/")
    target.parent.mkdir(parents=True, exist_ok=True)
    if source.suffix == ".ko":
        target.write_bytes(stripped(source))
    else:
        shutil.copy(source, target)


def stripped(module: Path) -> bytes:
    """A module as packages have it (scripts/deb): without what only debuggers read, which is nine tenths of it. The
    machine unpacks it, and reads all of it whenever it loads the module. One that is signed stays as it is."""
    return _stripped(module, module.stat().st_mtime_ns)


@functools.cache
def _stripped(module: Path, _changed: int) -> bytes:
    if (content := module.read_bytes()).endswith(SIGNED):
        return content
    with tempfile.NamedTemporaryFile(suffix=".ko") as file:
        subprocess.run(["strip", "--strip-debug", "-o", file.name, module], check=True)
        return Path(file.name).read_bytes()


def base() -> Path:
    """The archive with programs and libraries; made when one of them has changed."""
    return _programs("base", PROGRAMS, DATA)


def small() -> Path:
    """The same without QEMU, for machines that run no guest, and for a kernel that follows another one: this fits
    into a crash kernel's memory."""
    return _programs("small", SMALL, [])


def _programs(kind: str, programs: list[str], data: list[str]) -> Path:
    files = sorted(set(programs) | set(data) | set().union(*map(libraries, programs)))
    key = hashlib.sha256("".join(f"{f} {Path(f).stat().st_mtime_ns}\n" for f in files).encode()).hexdigest()[:16]
    archive = paths.INITRAMFS / f"{kind}-{key}.cpio"
    with paths.making("initramfs"):
        if not archive.exists():
            _make(archive, kind, programs, files)
    return archive


def _make(archive: Path, kind: str, programs: list[str], files: list[str]) -> None:
    """Make it, in the place of an older one."""
    paths.INITRAMFS.mkdir(parents=True, exist_ok=True)
    for old in paths.INITRAMFS.glob(f"{kind}-*"):
        shutil.rmtree(old) if old.is_dir() else old.unlink()
    stage = archive.with_suffix(".stage")
    for directory in ("dev", "proc", "sys", "tmp", "run", "root", "etc", "usr/bin", "usr/lib", "usr/lib64"):
        (stage / directory).mkdir(parents=True)
    for link in ("bin", "lib", "lib64"):
        (stage / link).symlink_to(f"usr/{link}")
    (stage / "sbin").symlink_to("usr/bin")
    (stage / "usr/sbin").symlink_to("bin")
    for file in files:
        # Libraries and programs are found by their usual names, wherever the cache is.
        name = f"/usr/bin/{Path(file).name}" if file in programs else re.sub(r"^/(lib|lib64|bin)/", r"/usr/\1/", file)
        _copy(Path(file), stage, name)
    for link in KMOD_LINKS:
        (stage / "usr/bin" / link).symlink_to("kmod")
    (stage / "usr/bin/sh").symlink_to("busybox")
    pack(stage, archive)
    shutil.rmtree(stage)


def layer(stage: Path, kernel: Kernel, driver: str, files: dict[str, Path], modules_besides: list[str] = ()) -> Path:
    """The archive of one run: `kernel`'s modules with `driver` ("intree" or "ours"), scripts, and `files`
    (name inside the machine -> file outside)."""
    modules = add_modules(stage, kernel.modules, (*MODULES, *modules_besides))
    if driver == "ours":
        # Where an installation puts them as well: updates/ goes before kernel/.
        (modules / "updates").mkdir()
        for name in ("snp_host.ko", "ccp.ko"):
            _copy(kernel.ours / name, modules / "updates", name)
    tools = {f"usr/bin/{program.name}": program for program in programs.build()}
    for name, file in (tools | files).items():
        _copy(file, stage, name)
    shutil.copytree(paths.VM_SCRIPTS, stage / "vm", dirs_exist_ok=True)
    (stage / "init").symlink_to("vm/init")
    # Last, so that a module among `files` counts.
    depmod(stage, kernel.release)
    archive = stage.with_suffix(".cpio")
    pack(stage, archive)
    shutil.rmtree(stage)
    return archive


def guest(archive: Path, init: str, contents: dict[str, Path | bytes]) -> Path:
    """The archive of a guest inside a machine: busybox, `init` as process 1, and `contents` (name -> file here,
    or what is in it). The same bytes in every run, so that its digest is the same as well."""
    stage = archive.with_suffix(".stage")
    for directory in ("proc", "sys", "dev", "bin"):
        (stage / directory).mkdir(parents=True)
    for name, content in ({"busybox": Path("/usr/bin/busybox"), "init": init.encode()} | contents).items():
        (stage / name).parent.mkdir(parents=True, exist_ok=True)
        (stage / name).write_bytes(content if isinstance(content, bytes) else content.read_bytes())
        (stage / name).chmod(0o755)
    for path in stage.rglob("*"):
        os.utime(path, (0, 0))
    pack(stage, archive)
    shutil.rmtree(stage)
    return archive


def concatenate(archives: list[Path], target: Path) -> None:
    with target.open("wb") as out:
        for archive in archives:
            with archive.open("rb") as part:
                shutil.copyfileobj(part, out)
