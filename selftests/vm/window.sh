# SPDX-License-Identifier: GPL-2.0
# window.sh STEP…: take the steps one after the other and say what the hotplug window looks like after each: "@after
# STEP" STATE, the kernel's count of outstanding cpu_hotplug_disable() calls, whether a CPU may go, and the CPUs with
# SNP_EN. Without arguments: many cases of such steps, each with modules loaded anew.
#   +MODULE, -MODULE  load, unload it        offline, online  CPU 1
#                     (+MODULE,PARAMETER…)
#   unbind, bind      the PSP                sleep            suspend to idle
#   suspend           as far as taking CPUs offline, and back
#   intree            load the in-tree ccp and kvm_amd         force  unload snp_host by force
#   intree-ccp        load the in-tree ccp alone, as an initramfs does that has it
#   rstN=VALUE        change descriptor N (0 to 9) of the RMP's segment table
#   smt-off, smt-on   the second thread of each core       cpu1    go on on CPU 1 alone
#   pek-gen           have /dev/sev make a new PEK           /FILE   load this module
#   sev               say whether kvm_amd offers legacy SEV    offers   legacy SEV and SNP
#   snp               whether it offers SNP
#   sev-guest         begin to launch a plain SEV guest
#   snp-guest         launch an SNP guest
#                     (snp-guest,WORD: as snp-launch does with it)
#   asids             launch SNP guests until there is no ASID, and fail; "@asids LINE" of our driver's file in debugfs
#   call,NAME         a call of /dev/sev (programs/sev-ioctl.c)
#   kexec             go on with another kernel      crash   the same after a panic (kdump)
#   error             "@error TEXT", what our driver's file in debugfs says of the last command that failed
#   levels            "@level CODE LEVEL" of each line of the log that has a code
#   clear             the PSP model does no more harm
#   users             read each file of ours in /sys/kernel 200 times, as root and as somebody else:
#                     "@read USER FILE (yes|no) N", N interrupts that had a CPU run something for another
# A step that fails is not the end of the scenario: "@did STEP failed".
# shellcheck disable=SC2154 # stage is lib.sh's
. /vm/lib.sh

# Interrupts that had a CPU run something for another, so far.
calls() { awk '$1 == "CAL:" { for (i = 2; $i ~ /^[0-9]+$/; i++) n += $i; print n }' /proc/interrupts; }

read_files() {
	printf '%s:x:%s::/:/bin/sh\n' root 0:0 somebody 1000:1000 >/etc/passwd
	for file in /sys/kernel/snp_host/* /sys/kernel/ccp/*; do
		for user in root somebody; do
			before=$(calls)
			if su $user -c "for n in \$(seq 200); do read -r line <$file || exit 1; done"; then may=yes; else may=no; fi
			say read "$user ${file#/sys/kernel/} $may $(($(calls) - before))"
		done
	done
}

all_asids() {
	snp-launch asids >/tmp/asids &
	guests=$!
	until grep -q "^@launch refused" /tmp/asids; do sleep 0.2; done
	sed -n "s/^ASIDs .*SNP/@asids &/p" /sys/kernel/debug/ccp/state
	kill $guests
	wait $guests
	# Its children follow by themselves.
	while pidof snp-launch >/dev/null; do sleep 0.1; done
	false
}

take() {
	case $1 in
	+*)
		# shellcheck disable=SC2046 # the module and its parameters are words
		modprobe $(echo "${1#+}" | tr , ' ')
		;;
	-*) rmmod "${1#-}" ;;
	levels) dmesg -r | sed -n 's/^<\([0-9]*\)>.* \[\([a-z-]*\)\]$/@level \2 \1/p' ;;
	offline) echo 0 >/sys/devices/system/cpu/cpu1/online ;;
	online) echo 1 >/sys/devices/system/cpu/cpu1/online ;;
	unbind | bind) echo 0000:41:00.0 >/sys/bus/pci/drivers/ccp/"$1" ;;
	suspend)
		# Without the 5 s that it waits before it goes back.
		echo 0 >/sys/module/suspend/parameters/pm_test_delay
		echo processors >/sys/power/pm_test && echo mem >/sys/power/state
		;;
	sleep) echo freeze >/sys/power/state ;;
	# modprobe would look for ours, and for snp_host.
	intree)
		modprobe kvm && take intree-ccp && insmod "$(echo "$modules"/arch/x86/kvm/kvm-amd.ko*)"
		;;
	intree-ccp) insmod "$(echo "$modules"/drivers/crypto/ccp/ccp.ko*)" ;;
	rst[0-9]=*)
		index=${1#rst}
		devmem $((0x38004000 + 8 * ${index%%=*})) 64 "${1#*=}"
		;;
	smt-*) echo "${1#smt-}" >/sys/devices/system/cpu/smt/control ;;
	cpu1) taskset -p 2 $$ ;;
	pek-gen) sev-ioctl pek-gen | grep " 0 error=0 *$" ;;
	sev) say sev "$(cat /sys/module/kvm_amd/parameters/sev)" ;;
	offers) say offers "$(cat /sys/module/kvm_amd/parameters/sev) $(cat /sys/module/kvm_amd/parameters/sev_snp)" ;;
	snp) [ "$(cat /sys/module/kvm_amd/parameters/sev_snp)" = Y ] ;;
	sev-guest) sev-launch ;;
	asids) all_asids ;;
	snp-guest) snp-launch ;;
	snp-guest,*) snp-launch "${1#*,}" ;;
	call,*) sev-ioctl "${1#*,}" | grep -E " 0 error=0( |$)" ;;
	kexec) next_kernel kexec ;;
	crash) crash_kernel crash && echo c >/proc/sysrq-trigger ;;
	error) say error "$(sed -n 's/^last error: \(.*\), [0-9]* s ago$/\1/p' /sys/kernel/debug/ccp/state)" ;;
	clear) ask clear ;;
	force) rmmod -f snp_host ;;
	users) read_files ;;
	/*) insmod "$1" ;;
	*) fail "what is $1?" ;;
	esac
}

window=/sys/kernel/snp_host
modules=/lib/modules/$(uname -r)/kernel
steps() {
	# Another kernel goes on behind the step that has started it.
	while [ "$stage" != first ] && [ "$stage" != "$step" ]; do
		step=$1
		shift
	done
	for step in "$@"; do
		if take "$step" 2>/dev/null; then say did "$step" "done"; else say did "$step" failed; fi
		sysfs
		if [ -d $window ]; then
			# A CPU that is offline says nothing about the window, and toggling would bring it back.
			if [ "$(cat /sys/devices/system/cpu/cpu1/online)" = 1 ]; then cpu=$(hotplug | cut -d' ' -f1); else cpu=offline; fi
			say after "$step $(cat $window/state) $(kernel-counter cpu_hotplug_disabled) $cpu cpus=$(cat $window/snp_en_cpus)"
			say reason "$step: $(cat $window/reason)"
		else
			say after "$step gone $(kernel-counter cpu_hotplug_disabled)"
		fi
	done
}

# in_turn CASE STEP…: and the machine is as it was.
in_turn() {
	shift
	steps "$@"
	ask clear
	echo 1 >/sys/devices/system/cpu/cpu1/online
	echo none >/sys/power/pm_test
	[ ! -d /sys/module/freeze ] || rmmod freeze
	unload_loaded
}

if [ $# = 0 ]; then cases in_turn; else steps "$@"; fi
