# SPDX-License-Identifier: GPL-2.0
"""scripts/platform-image: an SNP host in a container without privileges, devices and network."""

import json
import subprocess
import tarfile
from pathlib import Path

import pytest
from conftest import paths

# What container engines give to a process by default. The root directory is $1, the rest the command.
CONTAINER = """
set -e
root=$1
shift
mount --bind "$root" "$root"
mount -t proc proc "$root/proc"
mount -t tmpfs -o size=64m tmpfs "$root/dev"
mkdir "$root/dev/pts" "$root/dev/shm"
for name in null zero full random urandom tty; do
	touch "$root/dev/$name"
	mount --bind "/dev/$name" "$root/dev/$name"
done
ln -s /proc/self/fd "$root/dev/fd"
mount -t tmpfs -o size=64m tmpfs "$root/dev/shm"
exec setpriv --inh-caps=-all \\
	--bounding-set=-all,+chown,+dac_override,+fowner,+fsetid,+kill,+setgid,+setuid,+setpcap,+sys_chroot \\
	chroot "$root" env -i PATH=/usr/local/bin:/usr/sbin:/usr/bin HOME=/root "$@"
"""


def unpack(archive: Path, target: Path) -> None:
    """The one layer of an OCI archive, by its index and its manifest."""
    with tarfile.open(archive) as image:

        def blob(descriptor: dict):
            return image.extractfile("blobs/" + descriptor["digest"].replace(":", "/"))

        index = json.load(image.extractfile("index.json"))
        (manifest,) = index["manifests"]
        assert manifest["annotations"]["org.opencontainers.image.ref.name"] == "localhost/snp-host:latest"
        (layer,) = json.load(blob(manifest))["layers"]
        with tarfile.open(fileobj=blob(layer)) as files:
            files.extractall(target, filter="fully_trusted")


def test_in_a_container(long, tmp_path):
    if not long:
        pytest.skip("makes an image of Debian's packages; make test-long does")
    make = [paths.TOP / "scripts/platform-image", tmp_path / "image"]
    subprocess.run(make, check=True)
    root = tmp_path / "root"
    unpack(tmp_path / "image", root)
    done = subprocess.run(
        ["unshare", "--net", "--mount", "--propagation", "unchanged", "--pid", "--fork", "--kill-child",
         "sh", "-c", CONTAINER, "sh", root,
         "snp-host", "run", "--out", "/root/out", "--", "snphost", "ok"],
        capture_output=True, text=True, timeout=600, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    console = (root / "root/out/console.log").read_text()
    assert "SNP initialized" in done.stdout and "FAIL" not in done.stdout and done.stderr == ""
    assert "Kernel panic" not in console and "reboot: Power down" in console
    assert not list((root / "dev/shm").iterdir()) and not list((root / "tmp").iterdir())
