# SPDX-License-Identifier: GPL-2.0
# large-pages.sh PRIVATE:MIDDLE:ALL…: have the module that stands in for kvm-amd (modules/large_pages.c) take these
# steps, with an order to the PSP model during each: its words with commas for spaces, or "-". PAGES and PAGE are the
# addresses of all pages, and of the one in the middle. Prints "@large" with what the module says, and "@lost PAGES" by
# then.
. /vm/lib.sh

modprobe ccp || fail "ccp does not load"
for word; do
	say case "$word"
	echo "case $word" >/dev/kmsg
	insmod /kvm-amd.ko || fail "the module does not load"
	pages=$(cat /sys/module/kvm_amd/parameters/address)
	for step in private middle all; do
		order=$(echo "${word%%:*}" | sed "s/PAGES/$pages/; s/PAGE/$((pages + 5 * 4096))/" | tr , ' ')
		word=${word#*:}
		# shellcheck disable=SC2086 # they are words
		[ "$order" = - ] || ask $order || fail "the PSP takes no orders"
		echo $step >/sys/module/kvm_amd/parameters/step
		ask no-rmpupdate 0 0
		ask no-psmash 0 0
	done
	rmmod kvm_amd
	dmesg | sed -n 's/.*large: /@large /p' | tail -n 4
	say lost "$(cat /sys/kernel/ccp/lost_pages)"
done
rmmod ccp || fail "ccp does not unload"
