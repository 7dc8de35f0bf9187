# SPDX-License-Identifier: GPL-2.0
# Initialisation that does not go the usual way. init.sh CASE…; without arguments: many cases, each with modules loaded
# anew.
#   twice FAULT   load and unload kvm-amd two times, with ccp staying
#   dead          kill the mailbox before kvm-amd is loaded; then bind the PSP again
#   left COMMAND… the PSP falls silent at the command while kvm-amd is loaded or unloaded; then load anew
#   rebound       the PSP falls silent under kvm-amd, is bound anew, and a guest is to start
#   demand        legacy SEV waits for the first guest that needs it
#   refuse FAULT  load, unload while the PSP does that
#   alone [FAULT] load (with that fault), then an SNP guest and two legacy guests
#   back          load with an offline CPU, reset the platform, bring the CPU back; a legacy guest
#   flaw          legacy SEV on demand where the RMP has a gap; a legacy guest
. /vm/lib.sh

window() { say "$1" "$(cat /sys/kernel/snp_host/state) $(cat /sys/kernel/snp_host/snp_en_cpus)"; }

load() {
	modprobe kvm_amd || fail "kvm_amd does not load"
	say sev "$(cat /sys/module/kvm_amd/parameters/sev)"
	say state "$(cat /sys/kernel/snp_host/state)"
	say snp_en "$(cat /sys/kernel/snp_host/snp_en_cpus)"
	rmmod kvm_amd || fail "kvm_amd does not unload"
}

say_offers() { say offers "$(cat /sys/module/kvm_amd/parameters/sev) $(cat /sys/module/kvm_amd/parameters/sev_snp)"; }

rebind() {
	driver=/sys/bus/pci/drivers/ccp
	echo 0000:41:00.0 >$driver/unbind && echo 0000:41:00.0 >$driver/bind || fail "the PSP cannot be bound again"
}

take() {
	case $1 in
	twice)
		modprobe ccp || fail "ccp does not load"
		ask fault "$2" || fail "the PSP takes no orders"
		load && load
		;;
	dead)
		modprobe ccp psp_cmd_timeout=2 || fail "ccp does not load"
		ask fault PLATFORM_STATUS:silent || fail "the PSP takes no orders"
		sev-ioctl platform-status
		load
		ask clear
		rebind
		load
		;;
	left)
		shift
		for command; do
			modprobe ccp psp_cmd_timeout=2 || fail "ccp does not load"
			ask fault "$command:silent" || fail "the PSP takes no orders"
			load
			say lost "$(cat /sys/kernel/ccp/lost_pages)"
			rmmod ccp || fail "ccp does not unload"
			ask clear
			ask mark "after-$command"
			modprobe ccp || fail "ccp does not load again"
			window found
			load
			window stopped
			rmmod ccp || fail "ccp does not unload"
			ask mark next
		done
		return
		;;
	rebound)
		modprobe ccp psp_cmd_timeout=2 && modprobe kvm_amd || fail "the modules do not load"
		ask fault PLATFORM_STATUS:silent || fail "the PSP takes no orders"
		sev-ioctl platform-status
		ask clear
		rebind
		snp-launch
		window found
		rmmod kvm_amd || fail "kvm_amd does not unload"
		window stopped
		load
		;;
	demand)
		ask mark load
		modprobe ccp psp_init_on_probe=0 || fail "ccp does not load"
		modprobe kvm_amd || fail "kvm_amd does not load"
		ask mark snp-guest
		snp-launch
		ask mark refused
		ask fault INIT@1:status=0x13
		sev-launch
		ask mark sev-guest
		sev-launch
		ask mark end
		rmmod kvm_amd || fail "kvm_amd does not unload"
		;;
	refuse)
		modprobe kvm_amd || fail "kvm_amd does not load"
		ask fault "$2" || fail "the PSP takes no orders"
		rmmod kvm_amd || fail "kvm_amd does not unload"
		;;
	alone)
		modprobe ccp || fail "ccp does not load"
		[ $# -lt 2 ] || ask fault "$2" || fail "the PSP takes no orders"
		modprobe kvm_amd || fail "kvm_amd does not load"
		say_offers
		window loaded
		for guest in snp sev sev; do
			ask mark $guest-guest
			$guest-launch
		done
		ask mark end
		rmmod kvm_amd || fail "kvm_amd does not unload"
		window unloaded
		;;
	back)
		echo 0 >/sys/devices/system/cpu/cpu1/online
		modprobe kvm_amd || fail "kvm_amd does not load"
		say_offers
		sev-ioctl factory-reset
		echo 1 >/sys/devices/system/cpu/cpu1/online
		ask mark sev-guest
		sev-launch
		ask mark end
		window loaded
		rmmod kvm_amd || fail "kvm_amd does not unload"
		;;
	flaw)
		devmem 0x38004000 64 0
		modprobe ccp psp_init_on_probe=0 && modprobe kvm_amd || fail "the modules do not load"
		say_offers
		ask mark sev-guest
		sev-launch
		ask mark end
		window loaded
		rmmod kvm_amd || fail "kvm_amd does not unload"
		;;
	esac
	rmmod ccp || fail "ccp does not unload"
}

# in_turn NAME CASE…: and the machine is as it was.
in_turn() {
	shift
	take "$@"
	ask clear
	unload_loaded
}

if [ $# = 0 ]; then cases in_turn; else take "$@"; fi
