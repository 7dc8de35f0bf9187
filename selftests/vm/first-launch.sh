# SPDX-License-Identifier: GPL-2.0
# first-launch.sh [CYCLES [run]]: the story of the demo, inside the machine: load, check, launch
# three guests, unload. With "run" the guests run: OVMF to its shell, Linux until it has attested
# and switched itself off; without, they are refused when they are entered.
. /vm/lib.sh

modprobe msr || fail "the msr module does not load"
for _ in $(seq "${1:-1}"); do
	modprobe kvm_amd || fail "kvm_amd does not load"
	modules
	say vm_types "$(cat /sys/module/kvm_amd/parameters/sev_snp)"
	[ "$(cat /sys/module/kvm_amd/parameters/sev_snp)" = Y ] || {
		dmesg | grep -iE 'ccp|sev|snp'
		fail "kvm_amd offers no SEV-SNP"
	}

	if snphost ok >/tmp/snphost 2>&1; then say snphost ok; else cat /tmp/snphost; say snphost failed; fi
	say hotplug loaded "$(hotplug)"

	if [ "$2" = run ]; then
		boot_ovmf 1-vcpu 1
		boot_ovmf 4-vcpus 4
		boot_attesting kernel-hashes
	else
		launch 1-vcpu 1 /guest/OVMF.fd
		launch 4-vcpus 4 /guest/OVMF.fd
		launch kernel-hashes 1 /guest/OVMF.amdsev.fd -kernel /guest/vmlinuz -initrd /guest/initrd \
			-append "$(cat /guest/append)"
	fi

	unload
	say unloaded
	say hotplug unloaded "$(hotplug)"
done
