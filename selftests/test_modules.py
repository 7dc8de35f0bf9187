# SPDX-License-Identifier: GPL-2.0
"""The modules fit the kernel, and a module that does not is found out; machines have Debian's modules as they are, but
for the signatures."""

import lzma
import struct
import subprocess

import pytest
from vmlib import cpio, initramfs, kernels, paths


def check_modules(*arguments: str) -> subprocess.CompletedProcess:
    return subprocess.run([paths.TOP / "scripts/check-modules", *arguments], capture_output=True, text=True)


def test_modules_fit():
    run = check_modules()
    assert run.returncode == 0, run.stderr


def test_misfits_are_found():
    run = check_modules("--self-test")
    assert run.returncode == 0, run.stdout


def test_debians_modules_lose_nothing_but_their_signatures(tmp_path):
    kernel = kernels.get("stock")
    for name, content in cpio.module_files(kernel.modules, tuple(initramfs.MODULES)).items():
        packed, file = kernel.modules / f"{name}.xz", tmp_path / name.name
        original = lzma.decompress(packed.read_bytes()) if packed.exists() else (kernel.modules / name).read_bytes()
        signer = [
            subprocess.run(["modinfo", "-F", "sig_id", file], check=True, capture_output=True, text=True).stdout.strip()
            for what in (original, content)
            if file.write_bytes(what)
        ]
        assert signer == ["PKCS#7", ""], name
        assert original.startswith(content) and len(original) - len(content) < 1024, name
        # The section headers are the last that is in it.
        (start,), (size, count) = struct.unpack_from("<Q", content, 0x28), struct.unpack_from("<HH", content, 0x3A)
        assert len(content) == start + size * count, name


@pytest.mark.parametrize("module", [b"", b"\x7fELF and more", b"~Module signature appended~"])
def test_a_module_without_a_signature_stays_as_it_is(module):
    assert cpio.unsigned(module) == module
