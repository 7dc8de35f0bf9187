# SPDX-License-Identifier: GPL-2.0
# guest.sh ovmf|linux|sev|sev_es|plain:VCPUS…: run guests, one after the other: OVMF or Linux as SNP
# guest, OVMF as one of another kind.
. /vm/lib.sh

modprobe kvm_amd || fail "kvm_amd does not load"
[ "$(cat /sys/module/kvm_amd/parameters/sev_snp)" = Y ] || fail "kvm_amd offers no SEV-SNP"
for guest; do
	"boot_${guest%:*}" "$guest" "${guest#*:}"
done
unload
