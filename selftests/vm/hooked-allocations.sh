# SPDX-License-Identifier: GPL-2.0
# hooked-allocations.sh SIZE FIRST STRIDE LAST: on the debug kernel, launch a guest while the FIRST allocation fails
# that is made below kvm-amd, whose code has SIZE bytes, then the one STRIDE later … up to LAST, or until a launch makes
# fewer. Prints "@round N", what the launcher says, "@end STATUS" and "@fail-nth LEFT", "@lost PAGES" by then and
# "@left N PAGES".
. /vm/lib.sh
. /vm/fail-nth.sh

modprobe kvm_amd || fail "kvm_amd does not load"
launcher make /tmp/guest.igvm || fail "no guest can be made"
begin=$(cat /sys/module/kvm_amd/sections/.text)
count "$begin" "$(printf 0x%x $((begin + $1)))"
pages_before
n=$2 left=0
while [ "$left" = 0 ] && [ "$n" -le "$4" ]; do
	say round "$n"
	echo "round $n" >/dev/kmsg
	words=$(fail-nth "$n" launcher run /tmp/guest.igvm 2>&1)
	say end $?
	echo "$words"
	left=$(echo "$words" | sed -n 's/^@fail-nth //p')
	say lost "$(cat /sys/kernel/ccp/lost_pages)"
	pages_left "$n"
	n=$((n + $3))
done
say round none
echo "round none" >/dev/kmsg
launcher run /tmp/guest.igvm || fail "no guest can be launched any more"
pages_left none
memory_leaks
unload
