# SPDX-License-Identifier: GPL-2.0
# hot-load.sh STATE/GUEST/IMAGE[+FAULT]…: load images of /images into firmware that runs, FAULT is for the PSP model.
# Steps with the same STATE and GUEST as the one before go on with those. Prints "@load STEP ERROR", with what the node
# says, and "@status STEP …", PLATFORM_STATUS afterwards.
# STATE: down, snp (SNP alone), up (SNP and SEV), sev (SEV alone).
# GUEST: none, snp, sev (begun to be launched, and kept so).
# STATE/GUEST/unload: unload the modules while firmware takes an image. Prints "@unloaded STATUS NODE", with what is
# left of the node.
# hot-load.sh attesting IMAGE: load the image while a guest runs, and commit it. The guest prints its report at the
# beginning and after each of both.
# shellcheck disable=SC2154 # lib.sh has set it
. /vm/lib.sh

node=/sys/class/firmware/snp_dlfw_ex
dd if=/dev/zero of=/images/long bs=1M count=2 2>/dev/null
dd if=/dev/zero of=/images/huge bs=1M count=5 2>/dev/null

begin_load() {
	echo 1 >$node/loading || fail "there is no node"
	cat "/images/$1" >$node/data
	echo 0 >$node/loading
}

# load_image FILE [STEP]: prints what came of it.
load_image() {
	begin_load "$1"
	until [ "$(cat $node/status)" = idle ]; do sleep 0.05; done
	say load "${2:-$1}" "$(cat $node/error)"
}

# Wait for so many reports of the guest.
reports() {
	until [ "$(grep -c ^report /tmp/serial)" -ge "$1" ]; do
		kill -0 "$qemu" || fail "the guest has ended: $(tail -n 5 /tmp/serial)"
		sleep 0.5
	done
}

enter() {
	case $1 in
	down) modprobe ccp ;;
	snp) modprobe ccp psp_init_on_probe=0 && modprobe kvm_amd ;;
	up) modprobe kvm_amd ;;
	sev) modprobe ccp snp=0 && modprobe kvm_amd ;;
	esac || fail "$1: the modules do not load"
}

begin_guest() {
	case $1 in
	none) return ;;
	snp) last=finish ;;
	sev) last=start ;;
	esac
	rm -f /tmp/guest
	"$1-launch" keep >/tmp/guest &
	guest=$!
	until grep -qs "@launch $last 0" /tmp/guest; do
		kill -0 $guest || fail "no guest: $(cat /tmp/guest)"
		sleep 0.05
	done
}

end_guest() {
	[ -n "$guest" ] || return 0
	kill $guest
	wait $guest 2>/dev/null
	guest=''
}

leave() {
	[ -n "$state" ] || return 0
	end_guest
	rmmod kvm_amd 2>/dev/null
	rmmod ccp || fail "$state: ccp does not unload"
	rmmod snp_host 2>/dev/null
	# Firmware is the one that the BIOS loads again.
	ask reset firmware
	state='' kind=none
}

if [ "$1" = attesting ]; then
	modprobe kvm_amd || fail "kvm_amd does not load"
	start 1 /guest/OVMF.amdsev.fd -cpu EPYC-v4,level=12 -kernel /guest/vmlinuz -initrd /guest/initrd \
		-append "$(cat /guest/append)" -fw_cfg name=opt/ccp-rs/nonce,file=/guest/nonce
	reports 1
	load_image "$2"
	reports 2
	sev-ioctl snp-commit
	wait "$qemu"
	say_reports guest
	unload
	exit
fi

state='' kind=none guest=''
for step; do
	image=${step##*/} to=${step%/*}
	if [ "${to%/*}" != "$state" ]; then
		leave
		state=${to%/*}
		enter "$state"
	fi
	if [ "${to#*/}" != "$kind" ]; then
		end_guest
		kind=${to#*/}
		begin_guest "$kind"
	fi
	echo "step $step" >/dev/kmsg
	ask mark "step $step"
	if [ "$image" = unload ]; then
		ask fault SNP_DOWNLOAD_FIRMWARE_EX:delay=1500
		begin_load newer
		until [ "$(cat $node/status)" = transferring ]; do :; done
		# Cannot be called back.
		echo 1 >$node/cancel
		rmmod kvm_amd ccp
		say unloaded $? "$(ls -d $node)"
		ask clear
		enter "$state"
	else
		case $image in
		*silent) echo 2 >/sys/module/ccp/parameters/psp_cmd_timeout ;;
		esac
		case $image in *+*) ask fault "${image#*+}" ;; esac
		load_image "${image%%+*}" "$step"
		case $image in *+*) ask clear ;; esac
	fi
	say status "$step" "$(sev-ioctl platform-status)"
done
ask mark "step end"
leave
