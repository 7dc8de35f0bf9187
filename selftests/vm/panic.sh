# SPDX-License-Identifier: GPL-2.0
# panic.sh idle|guest [NUMBER]|busy|late|holder: the kernel panics with SNP up; with so many guests;
# with a command in flight that firmware answers too late, or 3 s later; with a holder of the
# command lock whose command was answered, and that waits for a CPU.
. /vm/lib.sh
[ "$1" = holder ] && modprobe ccp psp_init_on_probe=0
modprobe kvm_amd || fail "kvm_amd does not load"
[ "$(cat /sys/module/kvm_amd/parameters/sev_snp)" = Y ] || fail "kvm_amd offers no SEV-SNP"
# in_flight CALL COMMAND MILLISECONDS: a command that firmware answers after that time.
in_flight() {
	ask fault "$2:delay=$3" || fail "the PSP takes no orders"
	sev-ioctl "$1" &
	until ask pending && [ -n "$reply" ]; do sleep 0.1; done
}
case $1 in
guest)
	for n in $(seq "${2:-1}"); do
		snp-launch keep >/tmp/launch-$n 2>&1 &
		until grep -q "^@launch finish 0" /tmp/launch-$n; do sleep 0.1; done
	done
	;;
busy) in_flight platform-status PLATFORM_STATUS 60000 ;;
late) in_flight platform-status PLATFORM_STATUS 3000 ;;
holder)
	# Whoever holds the lock then waits for all CPUs to WBINVD, or for an interrupt; CPU 1 takes none, and panics
	# in the end.
	in_flight pek-gen INIT 4000
	insmod /deaf.ko || fail "deaf.ko does not load"
	wait
	fail "nobody was waited for"
	;;
esac
ask mark panic
echo c >/proc/sysrq-trigger
