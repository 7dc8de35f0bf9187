# SPDX-License-Identifier: GPL-2.0
# init.sh twice: load and unload kvm-amd two times, with ccp staying.
# init.sh dead: kill the mailbox before kvm-amd is loaded; then bind the PSP again.
. /vm/lib.sh

load() {
	modprobe kvm_amd || fail "kvm_amd does not load"
	say sev "$(cat /sys/module/kvm_amd/parameters/sev)"
	say state "$(cat /sys/kernel/snp_host/state)"
	say snp_en "$(cat /sys/kernel/snp_host/snp_en_cpus)"
	rmmod kvm_amd || fail "kvm_amd does not unload"
}

case $1 in
twice) load && load ;;
dead)
	modprobe ccp psp_cmd_timeout=2 || fail "ccp does not load"
	ask fault PLATFORM_STATUS:silent || fail "the PSP takes no orders"
	sev-ioctl platform-status
	load
	ask clear
	driver=/sys/bus/pci/drivers/ccp
	echo 0000:41:00.0 >$driver/unbind && echo 0000:41:00.0 >$driver/bind || fail "the PSP cannot be bound again"
	load
	;;
esac
rmmod ccp || fail "ccp does not unload"
