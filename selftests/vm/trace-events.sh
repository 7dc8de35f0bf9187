# SPDX-License-Identifier: GPL-2.0
# The modules' trace events: load, one SNP guest, a command that is refused, a page that the RMP refuses, unload;
# then what was traced.
. /vm/lib.sh

mount -t tracefs tracefs /sys/kernel/tracing 2>/dev/null
cd /sys/kernel/tracing || fail "there is no tracefs"
echo 40000 >buffer_size_kb

modprobe ccp || fail "ccp does not load"
echo 1 >events/ccp/enable && echo 1 >events/snp_host/enable || fail "there are no such events"
ask mark traced
modprobe kvm_amd || fail "kvm_amd does not load"
snp-launch
ask fault PLATFORM_STATUS@1:status=0x1 PLATFORM_STATUS@1:late=300
sev-ioctl platform-status
ask refuse-rmpupdate 1 || fail "the PSP model takes no orders"
sev-ioctl snp-platform-status
rmmod kvm_amd || fail "kvm_amd does not unload"
echo 0 >events/enable
ask mark end
sed 's/^/@trace /' trace
rmmod ccp || fail "ccp does not unload"
