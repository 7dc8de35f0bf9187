# SPDX-License-Identifier: GPL-2.0
# counts.sh CYCLES: load, launch one SNP guest and end it, unload, with a mark behind each. The
# counts of the PSP and of the CPU model stand in marks by themselves; the text has the interrupts
# for calls from other CPUs since the start of this kernel.
. /vm/lib.sh

sysfs() { :; } # which calls the other CPUs
calls() { awk '$1 == "CAL:" { for (n = 2; $n ~ /^[0-9]+$/; n++) sum += $n } END { print sum }' /proc/interrupts; }
mark() { ask mark "$1 $(calls)"; }

for _ in $(seq "$1"); do
	mark before
	modprobe kvm_amd || fail "kvm_amd does not load"
	mark load
	pages_before
	launch 1-vcpu 1 /guest/OVMF.fd
	pages_left 1-vcpu
	mark guest
	unload
	mark unload
done
