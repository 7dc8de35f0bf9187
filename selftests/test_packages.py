# SPDX-License-Identifier: GPL-2.0
"""The Debian packages (scripts/deb), installed, upgraded and removed with apt in a copy of the root directory: which
driver modprobe finds, which the initramfs has, what is said of a kernel without modules, and what stays behind."""

import hashlib
import lzma
import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from conftest import owner_key, paths
from vmlib.source_copy import SourceCopy

OURS, DKMS, INTREE = "updates/ccp.ko", "updates/dkms/ccp.ko.xz", "kernel/drivers/crypto/ccp/ccp.ko.xz"
RELEASE = paths.RELEASE
VERSION = re.search(r"\((.*)\)", (paths.TOP / "packaging/debian/changelog").read_text())[1]
MODULES = f"ccp-rs-modules-{RELEASE}"
HEADERS = f"ccp-rs-headers-{RELEASE}"
INSTALL = "apt-get install -y --no-install-recommends"


def make(kept: Path, releases=(), **environment) -> dict[str, Path]:
    """Makes the packages, in `kept`, with modules for that of set-up or for `releases`; gives name -> file."""
    with paths.making("deb"):
        run = subprocess.run(
            [paths.TOP / "scripts/deb", *releases],
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=os.environ | environment,
        )  # fmt: skip
        assert run.returncode == 0, run.stdout
        made = [Path(shutil.copy(file, kept)) for file in (paths.CACHE / "deb").glob("*.deb")]
    return {file.name.split("_")[0]: file for file in made}


def digests(files) -> dict[str, str]:
    return {file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in files}


class Root:
    """A copy of the root directory, in which nothing lasts. Only in a mount namespace of its own, as in-root's is."""

    def __init__(self, scratch: Path):
        self.top = scratch / "root"
        for name in ("up", "work", "root"):
            (scratch / name).mkdir()
        layers = f"lowerdir=/,upperdir={scratch}/up,workdir={scratch}/work"
        self.mount("-t", "overlay", "overlay", "-o", layers, self.top)
        for name in ("proc", "dev"):
            self.mount("--rbind", f"/{name}", self.top / name)
        for name in ("resolv.conf", "hosts"):
            (self.top / "etc" / name).write_bytes(Path("/etc", name).read_bytes())
        # The mirror may no longer have what the lists name.
        install = f"{INSTALL} initramfs-tools dkms"
        self.run(f"{install} || {{ apt-get update && {install}; }}")
        self.run(f"depmod {RELEASE}; echo ccp >>/etc/initramfs-tools/modules; update-initramfs -c -k {RELEASE}")

    @staticmethod
    def mount(*arguments) -> None:
        subprocess.run(["mount", *map(str, arguments)], check=True)

    def run(self, command: str, status: int = 0) -> str:
        environment = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
        run = subprocess.run(
            ["chroot", self.top, "sh", "-c", command],
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment,
        )  # fmt: skip
        assert run.returncode == status, run.stdout
        return run.stdout

    def put(self, file: Path) -> str:
        """Shows it in the copy."""
        shutil.copy(file, self.top / "tmp" / file.name)
        return f"/tmp/{file.name}"

    def drivers(self) -> tuple[str, str]:
        """The ccp that modprobe finds, and the one in the initramfs, below the kernel's directory."""
        found = self.run(f"modinfo -n -k {RELEASE} ccp").strip()
        listed = self.run(f"lsinitramfs /boot/initrd.img-{RELEASE}").splitlines()
        packed = [name for name in listed if re.search(r"/ccp\.ko", name)]
        assert len(packed) == 1, packed
        return found.partition(f"/{RELEASE}/")[2], packed[0].partition(f"/{RELEASE}/")[2]

    def close(self) -> None:
        subprocess.run(["umount", "--lazy", "--recursive", self.top], check=True)


@pytest.fixture(scope="module")
def packages(tmp_path_factory):
    return make(tmp_path_factory.mktemp("packages"))


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    root = Root(tmp_path_factory.mktemp("root"))
    yield root
    root.close()


def test_what_is_made(packages):
    assert sorted(packages) == sorted([MODULES, "ccp-rs-modules", "ccp-rs-tools", "ccp-rs-dkms", "snp-host"])


def test_versions(packages):
    """Those of modules, and of the package that depends on them, have the kernel's in them: the next build of a kernel
    makes an upgrade."""
    of_kernel = subprocess.run(
        ["dpkg-query", "-W", "-f", "${Version}", f"linux-modules-{RELEASE}"], check=True, capture_output=True, text=True
    ).stdout
    for name, file in packages.items():
        version = subprocess.run(
            ["dpkg-deb", "-f", file, "Version"], check=True, capture_output=True, text=True
        ).stdout.strip()
        assert version == (f"{VERSION}+{of_kernel}" if name.startswith("ccp-rs-modules") else VERSION), name


def test_manual_page_has_the_parameters():
    """Those that modinfo shows, and no others. tio is there to be refused."""
    parameters = subprocess.run(
        ["modinfo", "-F", "parm", paths.OUR_MODULES / "ccp.ko"], check=True, capture_output=True, text=True
    ).stdout
    page = (paths.TOP / "packaging/man/ccp-rs.4").read_text().partition(".SH PARAMETERS")[2].partition(".SH")[0]
    assert re.findall(r"^\.TP\n\.B (\w+)$", page, re.M), page
    assert set(re.findall(r"^\.TP\n\.B (\w+)$", page, re.M)) | {"tio"} == set(re.findall(r"^(\w+):", parameters, re.M))


def test_two_builds_are_the_same(packages, long, tmp_path):
    """Of the same modules; `make test-long`: of modules that were built in another directory, too."""
    assert digests(make(tmp_path).values()) == digests(packages.values())
    if long:
        copy = SourceCopy("packages")
        copy.refresh()
        for command in ("build-modules", "deb"):
            run = copy.run(copy.tree / "scripts" / command, limit=900)
            assert run.returncode == 0, run.stdout
        assert digests((copy.cache / "deb").glob("*.deb")) == digests(packages.values())


def upgraded(root: Root, file: Path) -> str:
    """The same package with a newer version."""
    root.run(f"rm -rf /tmp/x; dpkg-deb -R {root.put(file)} /tmp/x; sed -i 's/^Version: .*/&+1/' "
             f"/tmp/x/DEBIAN/control; dpkg-deb -b /tmp/x /tmp/newer.deb")  # fmt: skip
    return "/tmp/newer.deb"


def test_install_upgrade_remove_purge(root, packages):
    assert root.drivers() == (INTREE, INTREE)

    files = " ".join(root.put(packages[name]) for name in (MODULES, "ccp-rs-modules", "ccp-rs-tools"))
    root.run(f"{INSTALL} {files}")
    assert root.drivers() == (OURS, OURS)
    assert root.run(f"modinfo -F version -k {RELEASE} ccp snp_host").split() == [VERSION] * 2
    assert "the trace has no event" in root.run("ccp-timeline </dev/null", 1)
    assert "vendor" in root.run("ccp-host-check --json || true")
    assert root.run("ccp-metrics").splitlines()[-1].startswith("ccp_rs_loaded ")
    root.run("man -w ccp-rs ccp-timeline ccp-host-check ccp-metrics")
    root.run("test -x /usr/lib/ccp-rs-tools/launcher")
    root.run("systemd-analyze verify ccp-metrics.service ccp-metrics.timer ccp-rs-fallback.service")

    # The one that says that a kernel has no modules.
    hook = "run-parts --regex '^zz-ccp-rs$' /etc/kernel/postinst.d --arg="
    assert root.run(f"{hook}{RELEASE}") == ""
    assert root.run(f"{hook}7.9.9+deb13-amd64").splitlines() == [
        "ccp-rs: there is no ccp-rs-modules-7.9.9+deb13-amd64; kernel 7.9.9+deb13-amd64 will run with the ccp driver "
        "of its own"
    ]

    # An administrator's initramfs without our modules is put right by an upgrade.
    root.run(f"mv /usr/lib/modules/{RELEASE}/updates /tmp/updates; depmod {RELEASE}; update-initramfs -u -k {RELEASE}; "
             f"mv /tmp/updates /usr/lib/modules/{RELEASE}/")  # fmt: skip
    assert root.drivers() == (INTREE, INTREE)
    root.run(f"dpkg -i {upgraded(root, packages[MODULES])}")
    assert root.drivers() == (OURS, OURS)

    root.run(f"apt-get remove -y ccp-rs-modules {MODULES}")
    assert root.drivers() == (INTREE, INTREE)
    root.run(f"apt-get purge -y ccp-rs-modules {MODULES} ccp-rs-tools; rm -f /tmp/*.deb")
    left = root.run(
        "find /etc /usr /var/lib/dpkg/info /boot -name '*ccp-rs*'; "
        f"ls -d /usr/lib/modules/{RELEASE}/updates 2>/dev/null || true"
    )
    # The root directory's own.
    assert left.split() == ["/etc/apt/preferences.d/ccp-rs"]


def test_a_hook_of_an_older_package(root, packages):
    """It had another name. An upgrade leaves no hook of that name, and keeps what an administrator has changed in it;
    a purge leaves neither."""
    hooks, old = "/etc/kernel/postinst.d", "/tmp/x/etc/kernel/postinst.d"
    new = root.put(packages["ccp-rs-modules"])
    root.run(f"{INSTALL} {root.put(packages[MODULES])}")
    root.run(f"rm -rf /tmp/x; dpkg-deb -R {new} /tmp/x; mv {old}/zz-ccp-rs {old}/ccp-rs; cd /tmp/x/DEBIAN; "
             "sed -i 's/zz-ccp-rs/ccp-rs/' conffiles md5sums; sed -i /dpkg-maintscript-helper/d p*; "
             "dpkg-deb -b /tmp/x /tmp/old.deb")  # fmt: skip
    as_made = root.run("cat /tmp/x/etc/kernel/postinst.d/ccp-rs")
    for change in ("", "# of an administrator\n"):
        root.run("dpkg -i /tmp/old.deb")
        assert root.run(f"cd {hooks}; ls *ccp-rs*").split() == ["ccp-rs"]
        root.run(f"printf '{change}' >>{hooks}/ccp-rs; dpkg -i {new}")
        assert root.run(f"run-parts --list --regex 'ccp-rs$' {hooks}").split() == [f"{hooks}/zz-ccp-rs"]
        assert root.run(f"cat {hooks}/zz-ccp-rs") == as_made + change
        root.run(f"dpkg -i {new}; apt-get purge -y ccp-rs-modules")
        assert root.run(f"ls {hooks} | grep ccp-rs || true") == ""
    root.run(f"apt-get purge -y {MODULES}; rm /tmp/old.deb")


def test_a_kernel_for_which_dkms_has_modules(root, packages):
    """DKMS has its turn when a kernel is installed before anybody says that there are no modules. Here something else
    builds for it (test_dkms_with_what_is_missing has DKMS itself)."""
    kernel, builder = "7.9.9+deb13-amd64", "/usr/lib/dkms/dkms_autoinstaller"
    root.run(f"dpkg-deb --fsys-tarfile {root.put(packages['ccp-rs-modules'])} | tar -x -C / ./etc/kernel")
    root.run(f"mv {builder} /tmp/builder")
    said = []
    place = "/usr/lib/modules/$2/updates/dkms"
    for build in ("true", f"mkdir -p {place}; touch {place}/ccp.ko.xz"):
        root.run(f"cat >{builder} <<'END'\n#!/bin/sh\n{build}\nEND\nchmod +x {builder}")
        said.append(root.run(f"run-parts --regex 'dkms|ccp-rs' --arg={kernel} /etc/kernel/postinst.d"))
    root.run(f"mv /tmp/builder {builder}; rm -r /usr/lib/modules/{kernel} /etc/kernel/postinst.d/*ccp-rs")
    assert said[0].startswith(f"ccp-rs: there is no ccp-rs-modules-{kernel};") and said[1] == "", said


def test_the_software_platform(root, packages):
    """Its commands are there and start what they start; what it depends on is on the root directory already."""
    said = root.run(f"{INSTALL} {root.put(packages['snp-host'])}")
    assert re.search(r"^The following NEW packages will be installed:\n +snp-host$", said, re.M), said
    root.run("man -w snp-qemu snp-host snp-kds")
    assert "PSP model did not start" not in root.run(
        "cd /tmp; echo quit | snp-qemu -m 1G -S -display none -serial none -monitor stdio"
    )
    assert "--snp fault=" in root.run("snp-host faults")
    root.run("snp-kds --part turin /tmp/keys && ls /tmp/keys/vcek/v1/Turin/cert_chain && rm -r /tmp/keys")
    root.run("apt-get purge -y snp-host && ! ls -d /usr/lib/snp-host /usr/bin/snp-*", 0)


def test_another_build_of_the_kernel_is_refused(root, packages):
    """A package for a build of the kernel that is not installed does not come without it."""
    root.run(f"rm -rf /tmp/x; dpkg-deb -R {root.put(packages[MODULES])} /tmp/x; sed -i 's/^\\(Depends: .*= \\)/\\19/' "
             "/tmp/x/DEBIAN/control; dpkg-deb -b /tmp/x /tmp/other.deb")  # fmt: skip
    assert f"linux-modules-{RELEASE}" in root.run(f"{INSTALL} /tmp/other.deb", 100)
    assert root.drivers() == (INTREE, INTREE)


def test_dkms_says_what_is_missing(root, packages):
    """Debian's headers carry nothing that rustc needs: one sentence, the package is installed all the same."""
    said = root.run(f"{INSTALL} {root.put(packages['ccp-rs-dkms'])}")
    assert len(re.findall(rf"^ccp-rs: the headers in \S*{re.escape(RELEASE)}\S* lack ", said, re.M)) == 1, said
    assert root.drivers() == (INTREE, INTREE)
    root.run("apt-get purge -y ccp-rs-dkms")


def interface(module: Path) -> tuple[str, set[str], set[str]]:
    """What the kernel looks at when it loads a module: vermagic, and the symbols that it wants and offers."""
    said = [subprocess.run([*command, module], check=True, capture_output=True, text=True).stdout
            for command in (["modinfo", "-F", "vermagic"], ["nm"])]  # fmt: skip
    wanted, offered = (set(re.findall(what, said[1], re.M)) for what in (r"^ +U (\w+)$", r" __ksymtab_(\w+)$"))
    assert wanted and offered
    return said[0], wanted, offered


def test_dkms_with_what_is_missing(root, packages, long, tmp_path):
    """The package with it brings modules by DKMS that fit this kernel and do what the demo wants, and goes with
    them."""
    if not long:
        pytest.skip("in make test-long")
    headers = make(tmp_path, HEADERS="1")[HEADERS]
    for file in (packages["ccp-rs-dkms"], headers):
        root.run(f"{INSTALL} {root.put(file)}")
    assert root.drivers() == (DKMS, DKMS)
    built = tmp_path / "built"
    built.mkdir()
    for name in ("snp_host", "ccp"):
        packed = root.top / "usr/lib/modules" / RELEASE / f"updates/dkms/{name}.ko.xz"
        (built / f"{name}.ko").write_bytes(lzma.decompress(packed.read_bytes()))
        assert interface(built / f"{name}.ko") == interface(paths.OUR_MODULES / f"{name}.ko"), name
    demo = subprocess.run(
        [paths.TOP / "scripts/demo"], env=os.environ | {"CCP_MODULES": str(built)},
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip
    assert demo.returncode == 0, demo.stdout

    root.run(f"apt-get purge -y {HEADERS}")
    assert root.drivers() == (INTREE, INTREE)
    assert f"{RELEASE}, x86_64" not in root.run("dkms status")
    root.run(f"apt-get purge -y ccp-rs-dkms; ! ls -d /usr/src/linux-headers-{RELEASE}/rust")


def test_what_dkms_is_refused_for(tmp_path):
    """One sentence for each."""
    headers, modules = tmp_path / "headers", tmp_path / RELEASE
    (modules / "updates").mkdir(parents=True)

    def refusal() -> str:
        script = paths.TOP / "packaging/dkms/check-headers"
        run = subprocess.run([script, headers, modules], capture_output=True, text=True)
        assert not run.stdout and bool(run.returncode) == bool(run.stderr)
        return run.stderr.removeprefix("ccp-rs: ").rstrip("\n")

    for name in ("scripts/target.json", "rust/libcore.rmeta", "rust/libkernel.rmeta", "rust/libmacros.so"):
        assert refusal() == (
            f"the headers in {headers} lack {name}, so no Rust module can be built with them; on Debian install "
            f"ccp-rs-headers-{RELEASE}, or ccp-rs-modules-{RELEASE} instead"
        )
        (headers / name).parent.mkdir(parents=True, exist_ok=True)
        (headers / name).touch()
    config = (paths.KERNEL_BUILD / ".config").read_text()
    (headers / ".config").write_text(config)
    assert refusal() == ""
    found = re.search(r'^CONFIG_RUSTC_VERSION_TEXT="(.*)"$', config, re.M)[1]
    (headers / ".config").write_text(config.replace(found, "rustc 1.0"))
    assert refusal() == (
        f"the kernel was built with rustc 1.0, and this is {found}; Rust code of one does not fit the other"
    )
    (modules / "updates/ccp.ko").touch()
    assert refusal() == (
        f"the kernel in {modules} has modules of a package, {modules}/updates/ccp.ko; DKMS builds none for it"
    )


def test_signed(tmp_path):
    """With a key of the machine's owner."""
    key, certificate = owner_key(tmp_path, "owner")
    file = make(tmp_path, SIGN_KEY=str(key), SIGN_CERT=str(certificate))[MODULES]
    subprocess.run(["dpkg-deb", "-x", file, tmp_path / "x"], check=True)
    modules = list((tmp_path / "x").rglob("*.ko"))
    assert len(modules) == 2
    for module in modules:
        signer = subprocess.run(["modinfo", "-F", "signer", module], check=True, capture_output=True, text=True).stdout
        assert signer.strip() == "owner", module
