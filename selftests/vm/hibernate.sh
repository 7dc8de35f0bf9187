# SPDX-License-Identifier: GPL-2.0
# hibernate.sh WHEN…: suspend to the machine's disk, and come back from it: "before" SNP was up, "during"
# that, or "after". The machine boots this script again each time, which finds the image and goes on there.
# Prints "@slept WHEN yes|no snp_en=CPUS", with the CPUs as they are then. A guest is launched in
# the end.
# shellcheck disable=SC2154 # reply is lib.sh's
. /vm/lib.sh

modprobe virtio_blk || fail "virtio_blk does not load"
disk=/dev/vda
case $(dd if=$disk bs=1 skip=4086 count=10 2>/dev/null) in
S1SUSPEND*)
	# As an initramfs may have it.
	modprobe ccp || fail "ccp does not load"
	cat /sys/block/vda/dev >/sys/power/resume
	fail "the image is not taken back"
	;;
esac

times=" $* "
sleep_and_wake() {
	case $times in *" $1 "*) ;; *) return ;; esac
	slept=yes
	echo disk >/sys/power/state || slept=no
	ask snp-state
	say slept "$1" $slept "${reply%% *}"
}

mkswap $disk >/dev/null && swapon $disk || fail "the disk does not take an image"
echo reboot >/sys/power/disk
echo 0 >/sys/power/image_size
modprobe ccp psp_cmd_timeout=5 || fail "ccp does not load"
sleep_and_wake before
modprobe kvm_amd || fail "kvm_amd does not load"
sleep_and_wake during
rmmod kvm_amd || fail "kvm_amd does not unload"
sleep_and_wake after
modprobe kvm_amd || fail "kvm_amd does not load again"
say snp "$(cat /sys/module/kvm_amd/parameters/sev_snp)"
snp-launch
unload
ask last-boot
