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


@functools.cache
def module_files(directory: Path, wanted: tuple[str, ...]) -> dict[Path, bytes]:
    """These modules and their dependencies: file, relative to the kernel's module directory, and what is in it."""
    depends = {}
    for line in (directory / "modules.dep").read_text().splitlines():
        file, _, needs = line.partition(":")
        depends[re.sub(r"\.ko.*", "", Path(file).name)] = [file, *needs.split()]
    out = {}
    for file in map(Path, sorted({f for name in wanted for f in depends[name]})):
        content = (directory / file).read_bytes()
        # An emulated CPU takes a quarter of a second for it.
        compressed = file.suffix == ".xz"
        module = unsigned(lzma.decompress(content) if compressed else content)
        out[file.with_suffix("") if compressed else file] = module
    return out


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
