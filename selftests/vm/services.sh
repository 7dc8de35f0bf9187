# SPDX-License-Identifier: GPL-2.0
# What the PSP does beside SEV. services.sh PART…, in one machine, after another:
#   sfs     /dev/sfs: good and bad calls, packages, firmware that refuses, is late or silent; with SNP and without
#   tee     amdtee and its clients; many commands at once; how it is unloaded
#   access  messages of platform access and the doorbell
#   two     there are two PSPs, one of which goes and comes back
#   broken  a TEE that refuses its ring, does not answer, has a ring already, or keeps it: SEV goes on
#   unbind  the PSP is unbound while SFS and the TEE are at a command, and bound again
# shellcheck disable=SC2154 # now is lib.sh's
. /vm/lib.sh

# exports PART [WHEN]: what services_test says, of this time alone.
exports() {
	dmesg -c >/dev/null
	insmod /services_test.ko parts="$1" || fail "services_test does not load"
	answers "${2:+$2-}"
}

answers() {
	[ "$(dmesg | grep -c 'services: end')" = 1 ] || fail "services_test has not said once that it is at its end"
	dmesg | sed -n "/services: end/d; s/.*services: /@export $1/p"
	rmmod services_test
}

# with FAULT NAME…: a call of /dev/sfs with this fault.
with() {
	ask fault "$1" || fail "the PSP takes no orders"
	shift
	sfs-ioctl "$@"
	ask clear
}

sfs() {
	say node "$(stat -c '%a %F' /dev/sfs)"
	for call in versions versions-read-only versions-null versions-cut versions-kernel update-null update-cut \
		unknown-number wrong-size update; do
		sfs-ioctl $call $call
	done
	for package in newer older newest spoiled text other-part longest too-long missing ../amd/newest ""; do
		sfs-ioctl "update-${package:-empty}" update "$package"
	done
	sfs-ioctl versions-then versions
	for status in 0x1 0x6 0x3072 0xffff; do
		with SFS_UPDATE:status=$status "update-$status" update newest
		with SFS_GET_FW_VERSIONS:status=$status "versions-$status" versions
	done
	with SFS_GET_FW_VERSIONS:late=3000 versions-late versions
	ask fault SFS_UPDATE:silent
	sfs-ioctl update-silent update newest
	sfs-ioctl versions-busy versions
	ask clear
	sfs-ioctl versions-again versions
	exec 6</dev/sfs
	say open "$(rmmod ccp 2>&1 | sed 's/.*: //')"
	exec 6<&-
	for round in up up-again; do
		modprobe kvm_amd || fail "kvm_amd does not load"
		sfs-ioctl versions-$round versions
		sfs-ioctl update-$round update longest
		rmmod kvm_amd || fail "kvm_amd does not unload"
		sfs-ioctl versions-after-$round versions
	done
}

tee() {
	exports status
	exports tee
	ask fault TEE_UNMAP_SHARED_MEM@1:delay=300
	exports crowd
	ask clear
	modprobe amdtee || fail "amdtee does not load"
	say node "$(stat -c '%a %F' /dev/tee0)"
	tee-client 1 9
	tee-client 1
	for digit in 2 3 4; do tee-client $digit; done
	ask fault TEE_OPEN_SESSION:status=0x16
	tee-client 1
	ask clear
	say loaded "$(rmmod ccp 2>&1 | sed 's/.*: //')"
	rmmod amdtee || fail "amdtee does not unload"
}

access() {
	exports status
	exports message
	exports doorbell
	for fault in HSTI_QUERY:status=2 HSTI_QUERY:late=300 HSTI_QUERY:silent; do
		ask fault $fault
		exports message $fault
	done
	ask clear
	exports message cleared
	for fault in DOORBELL:status=5 DOORBELL:late=300 DOORBELL:silent; do
		ask fault $fault
		exports doorbell $fault
	done
	ask clear
	exports doorbell cleared
}

two() {
	exports message both
	for psp in 61 41; do
		echo 0000:$psp:00.0 >/sys/bus/pci/drivers/ccp/unbind || fail "the PSP $psp cannot be unbound"
		exports message without-$psp
		exports status without-$psp
		echo 0000:$psp:00.0 >/sys/bus/pci/drivers/ccp/bind || fail "the PSP $psp cannot be bound again"
	done
	exports message again
}

# sev NAME: whether SEV is there.
sev() {
	[ -e /dev/sev ] && sev-ioctl platform-status | sed "s/^@ioctl /@sev $1 /"
	say sfs-node "$1" "$([ -e /dev/sfs ] && echo there)"
}

broken() {
	# A ring of an earlier kernel.
	ask fault TEE_RING_DESTROY@1:status=0
	rmmod ccp || fail "ccp does not unload"
	ask clear
	modprobe ccp
	exports tee left
	sev left
	for fault in TEE_RING_INIT:status=6 TEE_RING_INIT:silent; do
		rmmod ccp || fail "ccp does not unload"
		ask fault $fault
		modprobe ccp
		exports status $fault
		say amdtee "$(modprobe amdtee 2>&1 | sed 's/.*: //')"
		sev $fault
		ask clear
	done
	rmmod ccp || fail "ccp does not unload"
	modprobe ccp
	ask fault TEE_UNMAP_SHARED_MEM:silent
	exports tee silent
	exports tee dead
	sev dead
	ask clear
	rmmod ccp || fail "ccp does not unload"
	modprobe ccp
	exports tee again
}

psp() { echo 0000:41:00.0 >/sys/bus/pci/drivers/ccp/"$1"; }

unbind() {
	ask fault SFS_UPDATE@1:late=3000
	sfs-ioctl update-unbound update newest >/tmp/sfs &
	caller=$!
	sleep 1
	look_at_clock
	then=$now
	psp unbind || fail "the PSP cannot be unbound"
	look_at_clock
	say waited sfs $((now - then))
	wait $caller
	cat /tmp/sfs
	[ ! -e /dev/sfs ] || fail "there is a node without a PSP"
	psp bind || fail "the PSP cannot be bound"
	sfs-ioctl versions-bound versions

	ask fault TEE_UNMAP_SHARED_MEM@1:silent
	dmesg -c >/dev/null
	insmod /services_test.ko parts=tee &
	caller=$!
	sleep 1
	kill -0 $caller || fail "nobody waits for the TEE"
	psp unbind || fail "the PSP cannot be unbound"
	look_at_clock
	then=$now
	wait $caller
	look_at_clock
	say waited tee $((now - then))
	answers unbound-
	ask clear
	psp bind || fail "the PSP cannot be bound"
	exports tee bound
}

modprobe ccp || fail "ccp does not load"
for part in "$@"; do
	$part
done
[ ! -e /sys/kernel/ccp/lost_pages ] || say lost "$(cat /sys/kernel/ccp/lost_pages)"
rmmod ccp || fail "ccp does not unload"
say gone "$(ls /dev/sfs /dev/tee0 2>/dev/null)"
