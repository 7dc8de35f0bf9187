# SPDX-License-Identifier: GPL-2.0
"""A kernel of linux-source 7.2 with KVM and ccp built in, built and driven by virtme-ng, on snp-qemu: SNP is up when it
has booted, and QEMU launches a guest."""

import subprocess

import pytest
from conftest import paths
from vmlib import kernels, psp_trace

# Anything else is virtme-ng's habit. Files come from QEMU itself (vmlib/virtme.py says why).
VNG = ["--disable-kvm", "--disable-microvm", "--force-9p", "--memory", "2G", "--cpus", "2", "--user", "root"]
SCRIPT = f"""
uname -r
lsmod | wc -l
cat /sys/module/kvm_amd/parameters/sev_snp
{paths.SNPHOST} ok || exit 3
qemu-system-x86_64 -accel kvm -cpu EPYC-v4 -m 256M -no-reboot -nodefaults -display none -serial file:/tmp/serial \\
	-machine q35,confidential-guest-support=sev0,memory-backend=ram \\
	-object memory-backend-memfd,id=ram,size=256M,share=true,prealloc=false \\
	-object sev-snp-guest,id=sev0,cbitpos=51,reduced-phys-bits=1,policy=0x30000 -bios {paths.OVMF} &
for _ in $(seq 150); do
	grep -aq "Shell>" /tmp/serial && break
	sleep 1
done
kill $!
wait
grep -ao "Shell>" /tmp/serial | sed "s/^/guest: /"
dmesg | grep -E "Oops|BUG:|WARNING:" | sed "s/^/wrong: /"
"""


def test_kvm_built_in(long, tmp_path):
    if not long:
        pytest.skip("builds a kernel, once; in make test-long")
    build = subprocess.run(
        [paths.TOP / "scripts/built-in-kernel"], stdout=subprocess.PIPE, text=True, check=True, timeout=3600
    )
    image, trace = build.stdout.strip().splitlines()[-1], tmp_path / "trace"
    done = subprocess.run(
        [
            "vng", "--run", image, *VNG, "--qemu", paths.SNP_QEMU, f"--qemu-opts=--snp-trace {trace}",
            "--append", kernels.under_tcg(), "--", SCRIPT,
        ],
        stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=600, check=False,
    )  # fmt: skip
    said = done.stdout.replace("\r", "")
    assert done.returncode == 0, (said, done.stderr[-3000:])
    release, modules, snp, *rest = said.splitlines()
    assert "-vng-built-in" in release and (modules, snp) == ("1", "Y"), said
    assert "FAIL" not in said and "guest: Shell>" in rest and "wrong: " not in said, said
    status = {entry["cmd"]: entry["status"] for entry in psp_trace.read(trace) if "cmd" in entry}
    assert status["SNP_INIT_EX"] == status["SNP_LAUNCH_FINISH"] == 0
