# SPDX-License-Identifier: GPL-2.0
# guest.sh ovmf|plain|linux:VCPUS…: run SNP guests (plain: one without SEV), one after the other.
. /vm/lib.sh

modprobe kvm_amd || fail "kvm_amd does not load"
[ "$(cat /sys/module/kvm_amd/parameters/sev_snp)" = Y ] || fail "kvm_amd offers no SEV-SNP"
for guest; do
	"boot_${guest%:*}" "$guest" "${guest#*:}"
done
unload
