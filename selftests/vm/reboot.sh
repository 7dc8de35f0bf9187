# SPDX-License-Identifier: GPL-2.0
# reboot.sh idle|guest: end with SNP up, so that the machine restarts with it. (Process 1 calls reboot(2),
# as `reboot` does in the end; the kernel shuts down all devices then.)
. /vm/lib.sh
modprobe kvm_amd || fail "kvm_amd does not load"
[ "$(cat /sys/module/kvm_amd/parameters/sev_snp)" = Y ] || fail "kvm_amd offers no SEV-SNP"
[ "$1" = guest ] || exit 0
snp-launch keep >/tmp/launch 2>&1 &
for _ in $(seq 300); do
	grep -q "^@launch finish 0" /tmp/launch && exit 0
	sleep 0.1
done
cat /tmp/launch
fail "the guest does not start"
