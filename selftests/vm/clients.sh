# SPDX-License-Identifier: GPL-2.0
# clients.sh CLIENTS SECONDS: sev-clients, then what is left of it; and what does not have to wait for a slow command.
# "@wrong N LINE": steps of launches that failed, N times. "@quick TENTHS" for all our files, and for calls that are
# refused, while firmware works on a command that takes 20 s; "@still PENDING": that it did so to the end.
# shellcheck disable=SC2154 # now and reply are lib.sh's
. /vm/lib.sh

modprobe kvm_amd || fail "kvm_amd does not load"
pages_before
sev-clients "$1" "$2" >/tmp/clients || fail "sev-clients failed"
grep -v "^@launch" /tmp/clients
grep "^@launch" /tmp/clients | grep -v " 0 error=0\$" | sort | uniq -c | while read -r count line; do
	say wrong "$count ${line#@launch }"
done
pages_left clients
say lost "$(cat /sys/kernel/ccp/lost_pages)"
sed "s/^/@state /" /sys/kernel/debug/ccp/state

ask fault PLATFORM_STATUS@1:delay=20000 || fail "the PSP takes no orders"
sev-ioctl platform-status >/tmp/slow &
until ask pending && [ -n "$reply" ]; do sleep 0.1; done
look_at_clock
then=$now
cat /sys/kernel/debug/ccp/state /sys/kernel/ccp/* /sys/kernel/snp_host/* /sys/module/ccp/parameters/psp_* >/tmp/files ||
	fail "files cannot be read"
for file in bootloader_version tee_version fused_part tsme_status; do
	[ ! -e /sys/bus/pci/devices/0000:41:00.0/$file ] || cat /sys/bus/pci/devices/0000:41:00.0/$file
done >>/tmp/files
sev-ioctl 'ioctl-n*' ioctl-size 'command-*' 'p[de]*-*:read-only' snp-commit:read-only 'pek-*:data-wild' pdh:data-cut
look_at_clock
say quick $((now - then))
ask pending
say still "$reply"
sed "s/^/@while /" /tmp/files
wait
sed "s/^@ioctl/@slow/" /tmp/slow
snp-launch
unload
memory_leaks
