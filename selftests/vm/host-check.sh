# SPDX-License-Identifier: GPL-2.0
# host-check.sh STEP…: take the steps one after the other; one that fails is not the end ("@failed STEP").
#   +MODULE, -MODULE      load, unload it (+MODULE,PARAMETER…)
#   intree                load the in-tree ccp and kvm_amd, whatever is installed
#   off, on               CPU 1                        smt-off, smt-on   the second thread of each core
#   unbind, bind          the PSP
#   lock                  lock the kernel down (integrity)
#   option,MODULE,WORD…   a line of modprobe.d         no-option     take it away
#   initrd,FILE           an initramfs with this file as ccp.ko; with no FILE none
#   swap                  the in-tree file in the place of our ccp.ko; again: the right one
#   look,NAME[,USER]      run host-check and snphost: "@found NAME JSON" for each of its lines, "@status NAME STATUS",
#                         "@snphost NAME STATUS FAILED FIRST", how many checks of its own failed, and the first of them
#   load,NAME             host-check --load: "@load NAME STATUS", "@archive NAME BASE64"
#   refuse,NAME           the same, but it is told not to: "@load NAME STATUS"
#   loaded,NAME           "@loaded NAME MODULE…", which of the modules are loaded
# shellcheck disable=SC2046 # they are words
. /vm/lib.sh

look() {
	run() { if [ "$2" ]; then su "$2" -c "$1"; else $1; fi; }
	run "host-check --json" "$2" >/tmp/found
	say status "$1" $?
	grep '"verdict"' /tmp/found | sed "s/,$//; s/^ */@found $1 /"
	run host-check "$2"
	run "snphost ok" "$2" >/tmp/snphost 2>&1
	status=$?
	grep FAIL /tmp/snphost >/tmp/failed
	say snphost "$1" $status $(wc -l </tmp/failed) "$(head -n 1 /tmp/failed)"
}

# What a restart would have: an archive of nothing but this ccp.ko, packed as Debian does by default.
initrd() {
	image=/boot/initrd.img-$(uname -r)
	rm -rf "$image" /tmp/initrd
	[ "$1" ] || return 0
	mkdir -p /tmp/initrd/usr/lib/modules
	cp "$1" /tmp/initrd/usr/lib/modules/ccp.ko
	(cd /tmp/initrd && find . | cpio -o -H newc 2>/dev/null | gzip >"$image")
}

swap() {
	for there in /lib/modules/$(uname -r)/updates/ccp.ko; do
		mv "$there" "$there.other"
		if [ -e "$there.kept" ]; then mv "$there.kept" "$there" && rm "$there.other"; return; fi
		mv "$there.other" "$there.kept"
		cp "$modules"/drivers/crypto/ccp/ccp.ko "$there"
	done
}

take() {
	case $1 in
	+*) modprobe $(echo "${1#+}" | tr , ' ') ;;
	-*) rmmod "${1#-}" ;;
	intree)
		modprobe kvm && insmod "$(echo "$modules"/drivers/crypto/ccp/ccp.ko*)" &&
			insmod "$(echo "$modules"/arch/x86/kvm/kvm-amd.ko*)"
		;;
	off) echo 0 >/sys/devices/system/cpu/cpu1/online ;;
	on) echo 1 >/sys/devices/system/cpu/cpu1/online ;;
	smt-*) echo "${1#smt-}" >/sys/devices/system/cpu/smt/control ;;
	unbind | bind) echo 0000:41:00.0 >/sys/bus/pci/drivers/ccp/"$1" ;;
	lock) echo integrity >/sys/kernel/security/lockdown ;;
	option,*) echo "options $(echo "${1#option,}" | tr , ' ')" >/etc/modprobe.d/option.conf ;;
	no-option) rm /etc/modprobe.d/option.conf ;;
	initrd,*) initrd "${1#initrd,}" ;;
	swap) swap ;;
	load,*)
		host-check --load --yes --out /tmp/archive.tar.gz
		say load "${1#load,}" $?
		say archive "${1#load,}" "$(base64 -w 0 /tmp/archive.tar.gz)"
		;;
	refuse,*)
		echo no | host-check --load
		say load "${1#refuse,}" $?
		;;
	loaded,*) say loaded "${1#loaded,}" $(lsmod | grep -oE '^(snp_host|ccp|kvm_amd) ' | sort) ;;
	look,*) look $(echo "${1#look,}" | tr , ' ') ;;
	*) fail "what is $1?" ;;
	esac
}

modules=/lib/modules/$(uname -r)/kernel
mount -t securityfs securityfs /sys/kernel/security
mkdir -p /boot /etc/modprobe.d
printf '%s:x:%s::/:/bin/sh\n' root 0:0 somebody 1000:1000 >/etc/passwd
for step; do
	take "$step" || say failed "$step"
done
