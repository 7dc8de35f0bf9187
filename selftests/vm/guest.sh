# SPDX-License-Identifier: GPL-2.0
# guest.sh NAME:VCPUS…: run SNP guests, one after the other. The name is what is to be reached: "ovmf", its shell;
# "linux", user space of a kernel that firmware has compared with its measured hash.
. /vm/lib.sh

modprobe kvm_amd || fail "kvm_amd does not load"
[ "$(cat /sys/module/kvm_amd/parameters/sev_snp)" = Y ] || fail "kvm_amd offers no SEV-SNP"
for guest; do
	case $guest in
	ovmf:*) boot "$guest" "${guest#*:}" 'Shell>' /guest/OVMF.fd ;;
	# Linux in an SNP guest takes CPUID leaf 0Dh only with XSAVEC or XSAVES, and TCG has neither. Without
	# that leaf it does without XSAVE.
	linux:*) boot "$guest" "${guest#*:}" 'guest user space' /guest/OVMF.amdsev.fd -cpu EPYC-v4,level=12 -kernel /guest/vmlinuz -initrd /guest/initrd -append "console=ttyS0" ;;
	*) fail "there is no guest $guest" ;;
	esac
done
unload
