# SPDX-License-Identifier: GPL-2.0
# Take the PSP away from under kvm-amd and give it back: SNP must not be started while KVM uses SVM.
. /vm/lib.sh
modprobe kvm_amd || fail "kvm_amd does not load"
driver=/sys/bus/pci/drivers/ccp
# shellcheck disable=SC2010 # names of PCI functions have no odd characters
psp=$(ls $driver | grep : | head -n 1)
echo "$psp" >$driver/unbind || fail "the PSP cannot be unbound"
[ -e /dev/sev ] && say node stays
echo "$psp" >$driver/bind || fail "the PSP cannot be bound again"
launch rebound 1 /guest/OVMF.fd
sysfs
say between "$(cat /sys/kernel/snp_host/state)"
rmmod kvm_amd && modprobe kvm_amd || fail "kvm_amd does not load again"
launch reloaded 1 /guest/OVMF.fd
for _ in 1 2 3; do echo "$psp" >$driver/unbind && echo "$psp" >$driver/bind; done ||
	fail "the PSP cannot be bound again"

# An open file keeps the code that it calls, with the PSP and without it.
busy() { say open "$(rmmod ccp 2>&1 | sed 's/.*: //')"; }
rmmod kvm_amd
exec 6</dev/sev
busy
echo "$psp" >$driver/unbind
busy
exec 6</sys/kernel/debug/ccp/state
busy
exec 6>/sys/kernel/debug/ccp/refresh_guests
busy
exec 6>&-
echo "$psp" >$driver/bind
modprobe kvm_amd || fail "kvm_amd does not load at the end"
unload
[ ! -e /sys/kernel/debug/ccp ] || say node stays in debugfs
