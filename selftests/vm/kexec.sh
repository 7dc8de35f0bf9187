# SPDX-License-Identifier: GPL-2.0
# kexec.sh next|owed|crash|crash-busy: initialise SNP, go on with another kernel, and initialise SNP
# there, or find the dump. crash-busy: with a command in flight. owed: with one that the PSP has not
# answered in time, which it does in the other kernel. "@STAGE found snp_en=CPUS" and "@STAGE loaded
# SNP-OFFERED snp_en=CPUS", as the CPU model has it; of a crash kernel "@STAGE vmcore" and "@STAGE iommu NAME",
# if it has them.
# shellcheck disable=SC2154 # stage and reply are lib.sh's
. /vm/lib.sh

ask snp-state
say "$stage" found "${reply%% *}"
if [ "$1 $stage" = "owed second" ]; then
	modprobe ccp || fail "ccp does not load"
	say "$stage" owed "$(sev-ioctl platform-status | sed -n 's/^@ioctl platform-status \([A-Z0-9]*\) .*/\1/p')"
	rmmod ccp || fail "ccp does not unload"
	ask clear
	modprobe ccp
fi
if [ "$stage" = crashed ]; then
	[ -s /proc/vmcore ] && say "$stage" vmcore
	say "$stage" iommu "$(ls /sys/class/iommu)"
	exit 0
fi
modprobe kvm_amd || fail "kvm_amd does not load"
ask snp-state
say "$stage" loaded "$(cat /sys/module/kvm_amd/parameters/sev_snp)" "${reply%% *}"
if [ "$stage" = second ]; then
	unload
	exit 0
fi
case $1 in
owed)
	echo 2 >/sys/module/ccp/parameters/psp_cmd_timeout
	ask fault PLATFORM_STATUS@1:silent || fail "the PSP takes no orders"
	sev-ioctl platform-status
	next_kernel second
	;;
next)
	rmmod kvm_amd ccp || fail "the modules do not unload"
	next_kernel second
	;;
crash*)
	crash_kernel crashed || fail "no crash kernel"
	if [ "$1" = crash-busy ]; then
		# Longer than the rest of the test takes.
		ask fault PLATFORM_STATUS:delay=600000 || fail "the PSP takes no orders"
		sev-ioctl platform-status &
		until ask pending && [ -n "$reply" ]; do sleep 0.1; done
	fi
	echo c >/proc/sysrq-trigger
	;;
esac
fail "the other kernel does not start"
