# SPDX-License-Identifier: GPL-2.0
"""Archives that a kernel unpacks into its first root directory, and a kernel's modules for them."""

import functools
import lzma
import re
import shutil
import subprocess
from pathlib import Path


def pack(stage: Path, archive: Path) -> None:
    """Pack `stage` into `archive`, which appears whole or not at all."""
    names = subprocess.run(
        ["find", ".", "-mindepth", "1", "-print0"], cwd=stage, check=True, stdout=subprocess.PIPE
    ).stdout
    names = b"\0".join(sorted(names.strip(b"\0").split(b"\0")))
    partial = archive.with_suffix(".new")
    with partial.open("wb") as out:
        subprocess.run(
            ["cpio", "--null", "--create", "--format=newc", "--owner=0:0", "--quiet", "--reproducible"],
            cwd=stage,
            input=names,
            stdout=out,
            check=True,
        )
    partial.rename(archive)


def dependencies(directory: Path) -> dict[str, list[Path]]:
    """Of each module in a kernel's module directory: its file, and those of the modules that it depends on."""
    depends = {}
    for line in (directory / "modules.dep").read_text().splitlines():
        file, _, needs = line.partition(":")
        depends[re.sub(r"\.ko.*", "", Path(file).name)] = [directory / name for name in (file, *needs.split())]
    return depends


def unpacked(file: Path) -> bytes:
    """A module without compression: an emulated CPU takes a quarter of a second to unpack kvm.ko."""
    content = file.read_bytes()
    return lzma.decompress(content) if file.suffix == ".xz" else content


@functools.cache
def module_files(directory: Path, wanted: tuple[str, ...]) -> dict[Path, bytes]:
    """These modules and their dependencies: file, relative to the kernel's module directory, and what is in it."""
    depends = dependencies(directory)
    return {
        Path(str(file.relative_to(directory)).removesuffix(".xz")): unsigned(unpacked(file))
        for file in sorted({file for name in wanted for file in depends[name]})
    }


def unsigned(module: bytes) -> bytes:
    """A module without the signature behind it (scripts/sign-file.c). The kernel has no key for it here (machine.py),
    which it finds out after it has computed the digest of the module."""
    magic = b"~Module signature appended~\n"
    if not module.endswith(magic):
        return module
    # Before it, the signature's size is the last field of 12 bytes.
    end = len(module) - len(magic)
    return module[: end - 12 - int.from_bytes(module[end - 4 : end], "big")]


def add_modules(stage: Path, directory: Path, wanted: tuple[str, ...]) -> Path:
    """Put these modules of a kernel, with what they need, below `stage`. `depmod()` has to follow."""
    modules = stage / "usr/lib/modules" / directory.name
    for file, content in module_files(directory, wanted).items():
        (modules / file).parent.mkdir(parents=True, exist_ok=True)
        (modules / file).write_bytes(content)
    for name in ("modules.builtin", "modules.builtin.modinfo", "modules.order"):
        shutil.copy(directory / name, modules / name)
    return modules


def depmod(stage: Path, release: str) -> None:
    subprocess.run(["depmod", "--basedir", str(stage / "usr"), "--moduledir", "/lib/modules", release], check=True)
