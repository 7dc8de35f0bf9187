# SPDX-License-Identifier: GPL-2.0
# guest-small.sh GUEST…: run guests of the program snp-guest. Prints what that says, and "@left
# GUEST PAGES" behind each. Those with interrupts are made to lose their nested page tables all the
# time, so that events fault while they are delivered, and CPU 1 executes FXRSTOR meanwhile.
. /vm/lib.sh

modprobe kvm_amd || fail "kvm_amd does not load"
pages_before
for guest; do
	beside=
	case $guest in
	interrupts*)
		while :; do
			for split in force off; do
				echo $split >/sys/module/kvm/parameters/nx_huge_pages
				sleep 0.1
			done
		done &
		beside=$!
		fxrstor 1 &
		beside="$beside $!"
		;;
	esac
	timeout 60 snp-guest "$guest" || say guest "$guest" status $?
	[ "$beside" ] && kill $beside
	pages_left "$guest"
done
unload
