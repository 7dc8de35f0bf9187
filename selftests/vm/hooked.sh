# SPDX-License-Identifier: GPL-2.0
# hooked.sh run OPTIONS…|run-N-vmsas OPTIONS…|faults FAULT…|random CALLS,SEED…|refusals [NAME…]:
# launch guests of the program launcher on a kvm-amd with hooks. OPTIONS are those of "launcher
# run", with commas for spaces. Prints what that says behind "@case OPTIONS", and "@left OPTIONS
# PAGES".
# shellcheck disable=SC2046 # they are words
. /vm/lib.sh

modprobe kvm_amd || fail "kvm_amd does not load"
modules
pages_before
what=$1
shift
vmsas=1
case $what in run-*-vmsas) vmsas=${what#run-} vmsas=${vmsas%-vmsas} what=run ;; esac
launcher make /tmp/guest.igvm --vmsas "$vmsas" || fail "no guest can be made"
[ "$what" = run ] && launcher digest /tmp/guest.igvm
[ "$what" = refusals ] && [ $# = 0 ] && set -- $(launcher refusals)
for word; do
	say case "$word"
	ask mark "begin $word"
	case $what in
	run) timeout 120 launcher run /tmp/guest.igvm $(echo "$word" | tr , ' ') || say failed "$word" $? ;;
	faults)
		ask fault $(echo "$word" | tr + ' ') || fail "the PSP takes no orders"
		launcher run /tmp/guest.igvm && say through "$word"
		ask clear
		say lost-by-now "$(cat /sys/kernel/ccp/lost_pages)"
		;;
	random) launcher random /tmp/guest.igvm $(echo "$word" | tr , ' ') || say failed "$word" $? ;;
	refusals) timeout 120 launcher refusal /tmp/guest.igvm "$word" || say failed "$word" $? ;;
	esac
	pages_left "$word"
	ask mark "end $word"
done
say lost "$(cat /sys/kernel/ccp/lost_pages)"
unload
