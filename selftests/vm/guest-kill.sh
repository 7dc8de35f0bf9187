# SPDX-License-Identifier: GPL-2.0
# guest-kill.sh small|qemu:SECONDS…: kill SNP guests (SIGKILL) so long after they have been started:
# one with 4 vCPUs that does nothing but change the state of pages, or one of QEMU's. Prints "@left
# small|qemu:SECONDS PAGES", and launches another guest each time. At last OVMF has to reach its
# shell.
. /vm/lib.sh

modprobe kvm_amd || fail "kvm_amd does not load"
pages_before
for kill; do
	case $kill in
	small:*)
		snp-guest spin &
		;;
	qemu:*)
		start 2 /guest/OVMF.fd
		;;
	esac
	victim=$!
	sleep "${kill#*:}"
	kill -KILL $victim || fail "$kill: it has ended before"
	wait $victim
	exec 5>&-
	pages_left "$kill"
	snp-guest terminate
done
boot_ovmf ovmf:1 1
unload
