# SPDX-License-Identifier: GPL-2.0
"""scripts/install puts the modules where they are loaded from, and refuses kernels that would not take them."""

import subprocess
from pathlib import Path

import pytest
from conftest import boot, owner_key, paths, values
from vmlib import initramfs

MODULES = ("snp_host.ko", "ccp.ko")
SIGN = Path(f"/usr/lib/linux-kbuild-{paths.RELEASE.removesuffix('-amd64')}/scripts/sign-file")
OURS, INTREE = "updates/ccp.ko", "kernel/drivers/crypto/ccp/ccp.ko"


def signed(scratch: Path) -> dict[str, Path]:
    """The modules signed with a new key."""
    key, certificate = owner_key(scratch, "modules")
    for name in MODULES:
        subprocess.run([SIGN, "sha256", key, certificate, paths.OUR_MODULES / name, scratch / name], check=True)
    return {name: scratch / name for name in MODULES}


@pytest.fixture(scope="module")
def tries(tmp_path_factory) -> dict[str, tuple[int, str, str]]:
    """What scripts/install did in a machine: its status, its last line, which ccp is loaded from then on. Set-up chose
    the machine's kernel there."""
    chosen = tmp_path_factory.mktemp("cache") / "kernel-release"
    chosen.write_text(f"{paths.RELEASE}\n")
    cache = "root/.cache/ccp-rs"
    files = {f"ccp-rs/scripts/{name}": paths.TOP / "scripts" / name for name in ("install", "lib.sh", "kernel-version")}
    files |= {
        f"{cache}/kernel-release": chosen,
        f"{cache}/modules/.tree": paths.OUR_MODULES / ".tree",
    }
    for directory, modules in (
        (f"{cache}/modules", {}),
        ("unsigned", {}),
        ("signed", signed(tmp_path_factory.mktemp("signed"))),
    ):
        files |= {f"{directory}/{name}": modules.get(name, paths.OUR_MODULES / name) for name in MODULES}
    files |= initramfs.with_libraries("/usr/bin/bash") | {"usr/bin/modinfo": Path("/usr/bin/kmod")}
    result = boot("install.sh", driver="intree", files=files)
    assert result.status == 0, result.lines
    loaded = dict(value.split() for value in values(result, "ccp"))
    assert values(result, "module") == ["snp_host updates/snp_host.ko", "ccp updates/ccp.ko"]
    return {
        name: (int(status), line, loaded[name])
        for name in loaded
        for status, line in [values(result, name)[0].split(" ", 1)]
    }


def test_what_is_loaded_from_then_on(tries):
    assert {name: (status == 0, ccp) for name, (status, _, ccp) in tries.items()} == {
        "other-release": (False, INTREE),
        "other-build": (False, INTREE),
        "plain": (True, OURS),
        "removed": (True, INTREE),
        "removed-twice": (False, INTREE),
        "unsigned": (False, INTREE),
        "half-signed": (False, INTREE),
        "signed": (True, OURS),
        "removed-signed": (True, INTREE),
        "enforced-signed": (True, OURS),
        "enforced": (False, OURS),  # what was there before stays
    }


@pytest.mark.parametrize(
    "name, said",
    [
        ("other-release", f"there are no modules for kernel {paths.RELEASE}, which this machine runs; run 'make"),
        (
            "other-build",
            f"the modules are built for another build of kernel {paths.RELEASE} (build ID 0123456789",
        ),
        ("removed-twice", f"our modules are not installed for kernel {paths.RELEASE}"),
        ("unsigned", "modules/snp_host.ko is not signed"),
        ("half-signed", "modules/ccp.ko is not signed"),
        ("enforced", "modules/ccp.ko is not signed"),
    ],
)
def test_refusal_says_why(tries, name, said):
    assert said in tries[name][1]
