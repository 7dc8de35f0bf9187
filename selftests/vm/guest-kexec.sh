# SPDX-License-Identifier: GPL-2.0
# guest-kexec.sh: Linux as an SNP guest goes on with another kernel by kexec. Prints "@started yes" when it does,
# "@second yes" when the other kernel has come to user space, and every two seconds until then, for a minute,
# "@stacks ADDRESS…": the stack pointers of the machine's CPUs, or of the guest that a CPU runs.
# shellcheck disable=SC2154 # qemu and reply are lib.sh's
. /vm/lib.sh

modprobe kvm_amd || fail "kvm_amd does not load"
start 1 /guest/OVMF.amdsev.fd -cpu EPYC-v4,level=12 -kernel /guest/vmlinuz -initrd /guest/initrd \
	-append "$(cat /guest/append)"
until grep -q "Starting new kernel" /tmp/serial; do
	kill -0 $qemu 2>/dev/null || fail "the guest has ended: $(tail -n 3 /tmp/serial)"
	sleep 0.5
done
say started yes
for _ in $(seq 30); do
	sleep 2
	grep -q "the second kernel" /tmp/serial && say second yes && break
	ask stacks
	say stacks "$reply"
done
echo '{"execute":"quit"}' >&5
wait $qemu
exec 5>&-
unload
