# SPDX-License-Identifier: GPL-2.0
# Pages of the driver's own whose RMP entry cannot be changed: one, then as many as it tries, then none.
. /vm/lib.sh
modprobe kvm_amd || fail "kvm_amd does not load"
for count in 1 3 0; do
	ask refuse-rmpupdate $count || fail "the PSP takes no orders"
	say refused "$count"
	sev-ioctl snp-platform-status
	sysfs
	say lost "$(cat /sys/kernel/ccp/lost_pages)"
done
# The pages of a guest are no concern of the driver's.
snp-launch
unload
