# SPDX-License-Identifier: GPL-2.0
# attest.sh CASE…: launch a guest for each case: /guest/CASE.snp has properties of QEMU's sev-snp-guest, /guest/CASE.append the
# kernel's command line. The guest prints its reports; "@report CASE BASE64" for each.
. /vm/lib.sh

modprobe kvm_amd || fail "kvm_amd does not load"
[ "$(cat /sys/module/kvm_amd/parameters/sev_snp)" = Y ] || fail "kvm_amd offers no SEV-SNP"
for case; do
	# CPUID as in boot_linux.
	snp=$(cat "/guest/$case.snp") ends=yes boot "$case" 1 'end of reports' /guest/OVMF.amdsev.fd -cpu EPYC-v4,level=12 \
		-kernel /guest/vmlinuz -initrd /guest/attest-initrd -append "$(cat "/guest/$case.append")"
	tr -d '\r\000' </tmp/serial | sed -n 's/^report \([A-Za-z0-9+/=]*\)$/\1/p' | while read -r report; do
		say report "$case" "$report"
	done
done
unload
