# SPDX-License-Identifier: GPL-2.0
# crash-guests.sh NUMBER: run so many SNP guests in circles, panic, and read the dump in the crash kernel. Prints
# "@ram BYTES", what a dump has to have, "@crashed" with what the CPU model says of SNP_EN in the crash kernel, and what
# vmcore says.
# shellcheck disable=SC2154 # stage and reply are lib.sh's
. /vm/lib.sh

if [ "$stage" = crashed ]; then
	ask snp-state
	say crashed "$reply"
	timeout 200 vmcore "$(sed -n 's/.*ccp_rs_marker=\([^ ]*\).*/\1/p' /proc/cmdline)"
	say read $?
	exit 0
fi

# size NAME FROM: the bytes of the ranges of /proc/iomem that have this name, above an address.
size() {
	sum=0
	for range in $(sed -n "s/^ *\([0-9a-f]*-[0-9a-f]*\) : $1\$/\1/p" /proc/iomem); do
		begin=$((0x${range%-*})) end=$((0x${range#*-} + 1))
		[ $begin -ge "$2" ] || begin=$2
		[ $end -le $begin ] || sum=$((sum + end - begin))
	done
	echo $sum
}

modprobe kvm_amd || fail "kvm_amd does not load"
modules
launcher make /tmp/guest.igvm || fail "no guest can be made"
for n in $(seq "$1"); do
	launcher run /tmp/guest.igvm --no-vmsa --wait /tmp/never >/tmp/guest-"$n" 2>&1 &
	until grep -q @running /tmp/guest-"$n"; do
		[ -d /proc/$! ] || fail "$(cat /tmp/guest-"$n")"
		sleep 0.1
	done
done
# The dump leaves out the first MiB and the crash kernel.
say ram $(($(size "System RAM" 1048576) - $(size "Crash kernel" 0)))
# 15 characters and a newline: a page holds it a whole number of times.
marker=$(head -c 100 /dev/urandom | md5sum | head -c 15)
yes "$marker" | head -c 4096 >/tmp/marker
crash_kernel crashed "ccp_rs_marker=$marker" || fail "no crash kernel"
ask mark panic
echo c >/proc/sysrq-trigger
fail "the other kernel does not start"
