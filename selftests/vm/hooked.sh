# SPDX-License-Identifier: GPL-2.0
# hooked.sh run OPTIONS…|run-N-vmsas OPTIONS…|faults FAULT…|asked FAULT…|hands STEP,UNTIL,ORDER…|
# random CALLS,SEED…|refusals [NAME…]: launch guests of the program launcher on a kvm-amd with hooks.
# OPTIONS are those of "launcher run", with commas for spaces. Prints what that says behind "@case
# OPTIONS", and "@left OPTIONS PAGES".
# hands: ORDER, with commas for spaces, is given to the PSP model before STEP of the launcher, and
# taken back before its step UNTIL, or when it is "gone". "@assigned PAGES" is what the guest has
# when the order is given, "@hands HELD FREE" what the module hands says, before all cases, too.
# shellcheck disable=SC2046,SC2154 # they are words; lib.sh has set them
. /vm/lib.sh

modprobe kvm_amd || fail "kvm_amd does not load"
modules
pages_before
what=$1
shift
# Have firmware asked about all guests. Prints "@refreshed", and why not if it failed.
refresh_guests() {
	message=$( { echo >/sys/kernel/debug/ccp/refresh_guests; } 2>&1)
	say refreshed "${message##*: }"
}

vmsas=1
# The stock module takes no VMSA in an image.
case $(modinfo_file kvm_amd) in updates/*) ;; *) vmsas=0 ;; esac
case $what in run-*-vmsas) vmsas=${what#run-} vmsas=${vmsas%-vmsas} what=run ;; esac
launcher make /tmp/guest.igvm --vmsas "$vmsas" || fail "no guest can be made"
[ "$what" = run ] && launcher digest /tmp/guest.igvm
[ "$what" = refusals ] && [ $# = 0 ] && set -- $(launcher refusals)
# What the module says: "@hands HELD FREE".
hands() {
	insmod /hands.ko 2>/dev/null
	dmesg | sed -n 's/.*hands: /@hands /p' | tail -n 1
}

# reach STEP: wait until the launcher pauses there, or for its end.
reach() {
	until grep -qs "^@paused $1\$" /tmp/guest; do
		grep -q " Z " /proc/$guest/stat 2>/dev/null && break
		[ -d /proc/$guest ] || break
		sleep 0.1
	done
	grep -q "^@paused $1\$" /tmp/guest
}

[ "$what" != hands ] || hands
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
	asked)
		# Also what the guests of the case before have said: the shell that empties it may come late.
		rm -f /tmp/go /tmp/guest-?
		for n in 1 2 3; do
			launcher run /tmp/guest.igvm --vcpus 2 --wait /tmp/go >/tmp/guest-$n 2>&1 &
			until grep -qs @running /tmp/guest-$n; do sleep 0.1; done
		done
		case $word in *silent) echo 2 >/sys/module/ccp/parameters/psp_cmd_timeout ;; esac
		ask fault "$word" || fail "the PSP takes no orders"
		ask mark "ask $word"
		refresh_guests
		ask clear
		touch /tmp/go
		wait
		for n in 1 2 3; do sed "s/^@/@guest $n /" /tmp/guest-$n; done
		;;
	hands)
		step=${word%%,*} until=${word#*,}
		order=$(echo "${until#*,}" | tr , ' ') until=${until%%,*}
		rm -f /tmp/go /tmp/guest
		mkfifo /tmp/go
		exec 6<>/tmp/go
		launcher run /tmp/guest.igvm --vcpus 2 --pause "$step" --pause "$until" <&6 >/tmp/guest 2>&1 &
		guest=$!
		reach "$step" || fail "$(cat /tmp/guest)"
		ask scan
		say assigned $((reply - assigned_before))
		ask $order || fail "the PSP takes no orders"
		echo >&6
		reach "$until"
		for order in "no-rmpupdate 0 0" "no-psmash 0 0" "refuse-rmpupdate 0" clear; do ask $order; done
		echo >&6
		wait $guest
		exec 6>&-
		cat /tmp/guest
		# Some of what a process had is given back after its end.
		sleep 1
		say lost-by-now "$(cat /sys/kernel/ccp/lost_pages)"
		hands
		# What is free is used.
		dd if=/dev/zero of=/tmp/fill bs=1M count=300 2>/dev/null
		say used $?
		rm -f /tmp/fill
		;;
	random) launcher random /tmp/guest.igvm $(echo "$word" | tr , ' ') || say failed "$word" $? ;;
	refusals) timeout 120 launcher refusal /tmp/guest.igvm "$word" || say failed "$word" $? ;;
	esac
	pages_left "$word" "$(cat /sys/kernel/ccp/lost_pages)"
	ask mark "end $word"
done
# Nobody who could be asked.
[ "$what" != asked ] || refresh_guests
memory_leaks
say lost "$(cat /sys/kernel/ccp/lost_pages)"
unload
