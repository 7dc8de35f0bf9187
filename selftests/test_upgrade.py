# SPDX-License-Identifier: GPL-2.0
"""A whole Debian (scripts/disk) follows its archive from one kernel to the next, by itself: unattended-upgrades brings
kernel and modules, and needrestart tells of it. Then an administrator goes back to the older kernel, by GRUB for one
start, and for good by removing the newer one. Each start takes more than a minute of CPU time."""

import hashlib
import re
import shutil
from pathlib import Path

import pytest
from conftest import paths
from debian_life import Life, check_start, kernel_packages, live, order
from test_packages import OURS, make
from vmlib import console, debian, disk

STARTS = ["install", "old", "new", "back", "kept"]
WITH_OURS = STARTS[1:]
ON_OLDER = {"old", "back", "kept"}
NEWER = paths.RELEASE
# Debian's packages that follow the newest kernel.
METAS = ("linux-image-amd64", "linux-base-amd64", "linux-modules-amd64")


def older_release() -> str:
    """The newest kernel before that of the set-up for which there are modules."""
    built = [file.parent.parent.name.removeprefix("for-") for file in paths.CACHE.glob("for-*/modules/ccp.ko")]
    if not (older := [release for release in built if order(release) < order(NEWER)]):
        pytest.skip("there are modules for no older kernel; 'make modules K=7.2.12+deb13-amd64' builds some")
    return max(older, key=order)


def index(place: Path, files: list[Path]) -> None:
    """What makes an archive of a directory with these packages."""
    paragraphs = [
        f"{debian.run('dpkg-deb', '-f', file).rstrip()}\nFilename: ./{file.name}\nSize: {file.stat().st_size}\n"
        f"SHA256: {hashlib.sha256(file.read_bytes()).hexdigest()}\n"
        for file in files
    ]
    packages = "\n".join(paragraphs)
    (place / "Packages").write_text(packages)
    digest = hashlib.sha256(packages.encode()).hexdigest()
    (place / "Release").write_text(
        f"Origin: this host's\nCodename: trixie\nDate: Mon, 30 Nov 2026 06:00:00 UTC\nSHA256:\n {digest} "
        f"{len(packages.encode())} Packages\n"
    )


def missing_on_the_disk(scratch: Path, *packages: str) -> list[Path]:
    """These, and what of their dependencies a host with that disk has not."""
    status, archives = scratch / "status", scratch / "archives"
    (archives / "partial").mkdir(parents=True)
    where = f"{disk.base()}?offset={disk.ROOT.start * disk.MIB}"
    debian.run("debugfs", "-R", f"dump /var/lib/dpkg/status {status}", where)
    debian.apt(
        "install", "-y", "--no-install-recommends", "--download-only", "-o", f"Dir::State::status={status}",
        "-o", f"Dir::Cache::archives={archives}", *packages,
    )  # fmt: skip
    return list(archives.glob("*.deb"))


def earlier(meta: Path, versions: dict[str, str], release: str, scratch: Path) -> Path:
    """A package of METAS as the archive had it when that was its newest kernel."""
    tree, file = scratch / meta.name, scratch / meta.name.replace(versions[NEWER], versions[release])
    debian.run("dpkg-deb", "-R", meta, tree)
    control = tree / "DEBIAN/control"
    text = control.read_text().replace(f"-{NEWER} ", f"-{release} ").replace(versions[NEWER], versions[release])
    control.write_text(text)
    debian.run("dpkg-deb", "-b", tree, file)
    return file


@pytest.fixture(scope="module")
def life(request, tmp_path_factory) -> Life:
    if not request.config.getoption("--long"):
        pytest.skip("in make test-long")
    older = older_release()
    names = ("archive", "first", "later", "ours", "ours-later", "kernels", "metas", "trees", "disk")
    scratch = {name: tmp_path_factory.mktemp(name) for name in names}
    kernels = {release: kernel_packages(release, scratch["kernels"], scratch["trees"]) for release in (older, NEWER)}
    versions = {
        release: debian.run("dpkg-deb", "-f", files[0], "Version").strip() for release, files in kernels.items()
    }
    debian.apt("download", *(f"{name}={versions[NEWER]}" for name in METAS), cwd=scratch["metas"])
    metas = list(scratch["metas"].iterdir())
    tools = missing_on_the_disk(scratch["disk"], "unattended-upgrades", "needrestart")
    made = [make(scratch[name], releases) for name, releases in (("ours", [older]), ("ours-later", [older, NEWER]))]
    ours, ours_later = ([file for name, file in files.items() if re.match("ccp-rs-(modules|tools)", name)]
                        for files in made)  # fmt: skip
    first = [*kernels[older], *(earlier(meta, versions, older, scratch["trees"]) for meta in metas), *tools, *ours]
    later = [*first, *kernels[NEWER], *metas, *ours_later]
    for file in {file.name: file for file in later}.values():
        shutil.copy(file, scratch["archive"])
    index(scratch["first"], first)
    index(scratch["later"], later)
    files = {f"/root/archive/{file.name}": file for name in ("archive", "first") for file in scratch[name].iterdir()}
    files |= {f"/root/later/{file.name}": file for file in scratch["later"].iterdir()}
    seen = live("upgrade", "debian-upgrade.sh", [older, NEWER], files)
    seen.older = older
    return seen


def test_each_kernel_has_ours(life):
    for start in STARTS:
        said = life.said[start]
        assert said["release"] == (life.older if start in ON_OLDER else NEWER), start
        assert (said["ours"], said["loaded"]) == ("1" if start in WITH_OURS else "0", "1"), start
        assert said["snp"] == "Y", start
        assert life.tried[start]["units"] == (0, [""]), start
    for start in WITH_OURS:
        assert (life.said[start]["file"], life.said[start]["window"]) == (OURS, "enabled"), start


def test_each_initramfs_has_ours(life):
    said = {key: value for key, value in life.said["old"].items() if re.match("(before|after)-[0-9]", key)}
    assert said == {f"before-{life.older}": OURS, f"after-{life.older}": OURS, f"after-{NEWER}": OURS}
    for start in WITH_OURS:
        first = life.entries(start, r"ccp .* SEV enabled|EXT4-fs .* mounted")[0]["MESSAGE"]
        assert first.startswith("ccp "), (start, first)


def test_unattended_upgrade(life):
    """It brings the newer kernel and its modules, and takes nothing away."""
    tried = life.tried["old"]
    assert [tried[what][0] for what in ("lists", "upgrade", "told", "dpkg", "unused")] == [0] * 5, tried
    told = "\n".join(tried["told"][1])
    (upgraded,) = re.findall(r"Packages that will be upgraded: (.*)", told)
    assert set(upgraded.split()) == {"ccp-rs-modules", *METAS}
    assert "All upgrades installed" in told and "kept back" not in told
    dpkg = "\n".join(tried["dpkg"][1])
    for package in (f"ccp-rs-modules-{NEWER}", f"linux-image-{NEWER}"):
        assert f"Setting up {package} " in dpkg, dpkg
    # The kernel is configured before its modules are there: each package is a run of apt's by itself.
    said = f"ccp-rs: there is no ccp-rs-modules-{NEWER}; kernel {NEWER} will run with the ccp driver of its own"
    assert re.findall("^ccp-rs: .*|^Removing .*", dpkg, re.M) == [said]
    assert dpkg.index(said) < dpkg.index(f"Setting up ccp-rs-modules-{NEWER} ")
    # Kernels that are kept keep their modules.
    assert not re.findall("^Removing .*", "\n".join(tried["unused"][1]), re.M)


def test_grub_goes_back_for_one_start(life):
    """It came up, as test_each_kernel_has_ours says."""
    assert life.tried["new"]["chosen"] == (0, [""])


def test_removal_of_the_newer_kernel(life):
    """It takes the modules with it that are for this kernel, and the packages that follow the newest one. The older
    kernel is the first of GRUB's menu then, and nobody thinks that its modules are of no use."""
    tried, said = life.tried["back"], life.said["back"]
    assert [tried[what][0] for what in ("remove", "unused")] == [0, 0], tried
    removed, unused = (
        re.findall(r"^Removing (\S+) ", "\n".join(tried[what][1]), re.M) for what in ("remove", "unused")
    )
    parts = [f"linux-{part}-{NEWER}" for part in ("image", "base", "binary", "modules")]
    assert sorted(removed) == sorted(["ccp-rs-modules", f"ccp-rs-modules-{NEWER}", *METAS, *parts])
    assert not [package for package in unused if life.older in package], unused
    assert said["packages"] == f"ccp-rs-modules-{life.older}"
    assert {key: value for key, value in said.items() if key.startswith("kept-")} == {f"kept-{life.older}": OURS}


def test_nothing_of_what_runs_is_touched(life):
    said = life.said["old"]
    for what in ("modules", "commands"):
        assert said[f"before-{what}"] == said[f"after-{what}"] != "", what
    # Whole seconds of two clocks.
    assert abs(int(said["before-since"]) - int(said["after-since"])) <= 1


def test_needrestart(life):
    """It names the kernel that waits for a restart, from the upgrade to the restart, and nothing of ours to restart."""

    def said(start: str, what: str) -> dict[str, str]:
        status, lines = life.tried[start][what]
        assert status == 0, lines
        return dict(re.findall(r"^NEEDRESTART-(K\w+): (.*)$", "\n".join(lines), re.M))

    assert said("old", "before") == {"KCUR": life.older, "KEXP": life.older, "KSTA": "1"}
    assert said("old", "pending") == {"KCUR": life.older, "KEXP": NEWER, "KSTA": "3"}
    assert said("new", "pending") == {"KCUR": NEWER, "KEXP": NEWER, "KSTA": "1"}
    services = [line for line in life.tried["old"]["pending"][1] if line.startswith("NEEDRESTART-SVC")]
    assert not [line for line in services if re.search("ccp|kvm|snp", line)], services
    assert f"linux-image-{NEWER}" in life.tried["old"]["required"][1]


@pytest.mark.parametrize("start", WITH_OURS)
def test_journal(life, start):
    check_start(life.drivers_lines(start))
    assert not life.package_lines(start)


def test_no_report_of_the_kernel(life):
    assert not console.splats(life.console)
