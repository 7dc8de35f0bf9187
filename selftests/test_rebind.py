# SPDX-License-Identifier: GPL-2.0
"""The PSP is unbound while kvm-amd is loaded, and bound again."""

import functools
import tempfile
from pathlib import Path

from conftest import boot, values
from vmlib import launch


@functools.cache
def rebind():
    with tempfile.TemporaryDirectory() as scratch:
        files = launch.guest_files(Path(scratch))
        result = boot("rebind.sh", files={f"guest/{name}": file for name, file in files.items()}, limit=180)
    assert result.status == 0, result.lines
    return result


def test_nothing_breaks():
    assert not rebind().splats() and rebind().rmp["assigned"] == 0
    assert values(rebind(), "node") == [], "/dev/sev stays without a PSP"


def test_snp_is_not_started_under_a_running_kvm():
    """Preparing the CPUs clears VM_HSAVE_PA, which KVM has set for the CPUs it uses. When kvm-amd asks
    for a VM, KVM has enabled SVM; only loading kvm-amd anew starts SNP again, as the message says."""
    launched = dict(value.split()[:2] for value in values(rebind(), "launched"))
    assert launched == {"rebound": "unknown", "reloaded": "internal-error"}
    assert values(rebind(), "between") == ["closed"]
    said = [line for line in rebind().console.splitlines() if "no SNP guest can be made: SNP was not initialised since the PSP was bound; end all guests and reload kvm_amd" in line]
    assert len(said) == 1
