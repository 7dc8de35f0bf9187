# SPDX-License-Identifier: GPL-2.0
"""The package's service (packaging/debian/fallback) loads the kernel's own driver where the kernel refuses ours."""

from pathlib import Path

from conftest import boot, paths, values
from vmlib import initramfs

RELEASE = paths.RELEASE


def test_fallback():
    # busybox' shell would take its own modprobe.
    files = {"fallback": paths.TOP / "packaging/debian/fallback", "usr/bin/modinfo": Path("/usr/bin/kmod")}
    files |= initramfs.with_libraries("/usr/bin/bash")
    result = boot("fallback.sh", files=files)
    assert result.status == 0, result.lines
    loaded = {name: modules for name, *modules in map(str.split, values(result, "loaded"))}
    ours, own = ["ccp", "snp_host"], ["ccp", "kvm_amd"]
    assert loaded == {
        "taken": ours, "loaded": ours, "without": [], "blacklisted": ["ccp"], "refused": own, "again": own,
    }  # fmt: skip
    refusal = (
        f"<4>this kernel refuses the modules of ccp-rs-modules-{RELEASE} (Exec format error); the ccp driver of "
        "its own is loaded instead. With Secure Boot their key has to be enrolled: man ccp-rs"
    )
    assert values(result, "said") == [
        f"without <5>there is no ccp-rs-modules-{RELEASE}; this kernel runs with the ccp driver of its own",
        f"blacklisted {refusal}",
        f"refused {refusal}",
    ]
    assert [value.split()[1] for value in values(result, "snp") if len(value.split()) > 1] == ["Y", "Y"]
    # The administrator's options hold for the kernel's own, too.
    assert values(result, "option") == ["7"]
