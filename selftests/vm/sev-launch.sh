# SPDX-License-Identifier: GPL-2.0
# sev-launch.sh POLICY…: have QEMU launch SEV guests with these policies, as far as LAUNCH_MEASURE,
# which is before it takes orders; LAUNCH_FINISH comes when a guest is started. Prints "@launched
# POLICY STATE STATUS", with the guest's state and how QEMU ended.
# shellcheck disable=SC2154 # encryption is lib.sh's
. /vm/lib.sh

modprobe kvm_amd || fail "kvm_amd does not load"
for policy; do
	# The other kind of VM that KVM has for such guests gets no FPU registers before LAUNCH_UPDATE_VMSA.
	echo '{"execute":"qmp_capabilities"} {"execute":"query-sev"} {"execute":"quit"}' |
		qemu-system-x86_64 -accel kvm -cpu EPYC-v4 -smp 1 -m 256M -S -machine q35,confidential-guest-support=sev0 \
			-object "sev-guest,$encryption,policy=$policy,legacy-vm-type=off" \
			-bios /guest/OVMF.fd -nodefaults -display none -qmp stdio >/tmp/qmp.out 2>/tmp/qemu.err
	status=$?
	sed 's/^/qemu: /' /tmp/qemu.err
	say launched "$policy" "$(sed -n 's/.*"return".*"state": "\([a-z-]*\)".*/\1/p' /tmp/qmp.out)" $status
done
unload
