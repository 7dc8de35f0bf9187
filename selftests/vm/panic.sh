# SPDX-License-Identifier: GPL-2.0
# panic.sh idle|guest|busy: the kernel panics with SNP up; with a guest; with a command in flight.
. /vm/lib.sh
modprobe kvm_amd || fail "kvm_amd does not load"
[ "$(cat /sys/module/kvm_amd/parameters/sev_snp)" = Y ] || fail "kvm_amd offers no SEV-SNP"
case $1 in
guest)
	snp-launch keep >/tmp/launch 2>&1 &
	until grep -q "^@launch finish 0" /tmp/launch; do sleep 0.1; done
	;;
busy)
	ask fault PLATFORM_STATUS:delay=60000 || fail "the PSP takes no orders"
	sev-ioctl platform-status &
	until ask pending && [ -n "$reply" ]; do sleep 0.1; done
	;;
esac
ask mark panic
echo c >/proc/sysrq-trigger
