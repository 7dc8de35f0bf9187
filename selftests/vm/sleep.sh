# SPDX-License-Identifier: GPL-2.0
# sleep.sh mem|disk WHEN…: suspend to RAM or to the machine's disk, and come back: "before" SNP was up, "during" that,
# or "after", or "legacy" SEV alone after that. From the disk the machine comes back by booting this script again, which
# finds the image. Prints "@slept WHEN yes|no snp_en=CPUS", with the CPUs as they are then, "@snp Y|N" in the end, and
# after "legacy" "@knows SEV: STATE" from our driver's file in debugfs and what ioctls answer.
# With a TEE an application is asked, too: "@tee WHEN-WHAT", first and after each sleep.
# shellcheck disable=SC2154 # reply is lib.sh's
. /vm/lib.sh

state=$1
shift
times=" $* "
sleep_and_wake() {
	case $times in *" $1 "*) ;; *) return ;; esac
	if [ "$state" = mem ]; then
		echo 0 >/sys/class/rtc/rtc0/wakealarm
		echo +4 >/sys/class/rtc/rtc0/wakealarm
	fi
	slept=yes
	echo "$state" >/sys/power/state || slept=no
	ask snp-state
	say slept "$1" $slept "${reply%% *}"
	client "$1"
}

client() {
	[ ! -e /dev/tee0 ] || tee-client 1 | sed "s/^@tee /@tee $1-/"
}

case $state in
mem) echo deep >/sys/power/mem_sleep || fail "this machine has no S3" ;;
disk)
	modprobe virtio_blk || fail "virtio_blk does not load"
	case $(dd if=/dev/vda bs=1 skip=4086 count=10 2>/dev/null) in
	S1SUSPEND*)
		# As an initramfs may have it.
		modprobe ccp || fail "ccp does not load"
		cat /sys/block/vda/dev >/sys/power/resume
		fail "the image is not taken back"
		;;
	esac
	mkswap /dev/vda >/dev/null && swapon /dev/vda || fail "the disk does not take an image"
	echo reboot >/sys/power/disk
	echo 0 >/sys/power/image_size
	;;
esac
modprobe ccp psp_cmd_timeout=5 || fail "ccp does not load"
modprobe amdtee 2>/dev/null # loads where there is a TEE
client first
sleep_and_wake before
modprobe kvm_amd || fail "kvm_amd does not load"
sleep_and_wake during
rmmod kvm_amd || fail "kvm_amd does not unload"
sleep_and_wake after
modprobe kvm_amd || fail "kvm_amd does not load again"
say snp "$(cat /sys/module/kvm_amd/parameters/sev_snp)"
sleep_and_wake legacy
case $times in
*" legacy "*)
	say knows "$(grep '^SEV:' /sys/kernel/debug/ccp/state)"
	sev-ioctl platform-status pek-gen
	;;
esac
[ ! -e /dev/tee0 ] || rmmod amdtee || fail "amdtee does not unload"
unload
[ "$state" = mem ] || ask last-boot
