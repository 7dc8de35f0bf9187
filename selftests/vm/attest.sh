# SPDX-License-Identifier: GPL-2.0
# attest.sh CASE…: launch a guest that attests for each case: /guest/CASE.snp has properties of QEMU's sev-snp-guest,
# /guest/CASE.append the kernel's command line.
. /vm/lib.sh

modprobe kvm_amd || fail "kvm_amd does not load"
[ "$(cat /sys/module/kvm_amd/parameters/sev_snp)" = Y ] || fail "kvm_amd offers no SEV-SNP"
for case; do
	snp=$(cat "/guest/$case.snp") append=$(cat "/guest/$case.append") boot_attesting "$case"
done
unload
