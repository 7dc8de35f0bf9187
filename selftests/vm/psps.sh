# SPDX-License-Identifier: GPL-2.0
# psps.sh STEP…: PSPs come and go. After each step "@after STEP" done or failed, what the hotplug window looks like, and
# whether /dev/sev is there. Without arguments: many cases of such steps, each with modules loaded anew.
#   +MODULE, -MODULE          load, unload it
#   unbind:BUS, bind:BUS      the PSP on that bus, as the driver sees it
#   remove:BUS, rescan        the same, as the PCI core sees it
#   guest, end                launch an SNP guest and keep it, end it
#   exports                   call what ccp exports (kapi_test.ko): "@kapi NAME RESULT"
#   status                    have /dev/sev ask for the platform's status
#   calls                     make all calls of sev-ioctl, good and bad: "@answers RESULT…", those that there were
#   reset-METHOD:BUS          have the PCI core reset the PSP on that bus in this way
#   order:WORD,WORD…          an order to the PSP model
#   NAME=VALUE                set this parameter of ccp
# and "@took STEP MILLISECONDS".
# shellcheck disable=SC2154 # now is lib.sh's
. /vm/lib.sh

take() {
	device=0000:${1#*:}:00.0
	case $1 in
	+*) modprobe "${1#+}" ;;
	-*) rmmod "${1#-}" ;;
	unbind:* | bind:*) echo "$device" >"/sys/bus/pci/drivers/ccp/${1%:*}" ;;
	remove:*) echo 1 >"/sys/bus/pci/devices/$device/remove" ;;
	rescan) echo 1 >/sys/bus/pci/rescan ;;
	guest)
		snp-launch keep >/tmp/launch 2>&1 &
		guest=$!
		for _ in $(seq 300); do
			grep -q "^@launch finish 0" /tmp/launch && return 0
			kill -0 $guest 2>/dev/null || break
			sleep 0.1
		done
		cat /tmp/launch
		return 1
		;;
	end)
		kill $guest
		wait $guest
		! kill -0 $guest 2>/dev/null
		;;
	exports)
		dmesg -c >/dev/null
		insmod /kapi_test.ko && rmmod kapi_test
		dmesg | sed -n 's/.*kapi: /@kapi /p'
		;;
	status) sev-ioctl platform-status | grep -q '^@ioctl platform-status 0 ' ;;
	calls)
		# shellcheck disable=SC2046 # they are words
		say answers $(sev-ioctl '*' | sed 's/^@ioctl [^ ]* \([^ ]*\).*/\1/' | sort -u)
		;;
	reset-*)
		method=${1#reset-}
		echo "${method%:*}" >"/sys/bus/pci/devices/$device/reset_method" && echo 1 >"/sys/bus/pci/devices/$device/reset"
		;;
	order:*) ask "$(echo "${1#order:}" | tr , ' ')" ;;
	*=*) echo "${1#*=}" >"/sys/module/ccp/parameters/${1%%=*}" ;;
	*) fail "what is $1?" ;;
	esac
}

steps() {
	for step in "$@"; do
		milliseconds
		begun=$now
		if take "$step"; then result="done"; else result=failed; fi
		milliseconds
		say took "$step" $((now - begun))
		[ -e /dev/sev ] && node=node || node=no-node
		say after "$step $result $(cat /sys/kernel/snp_host/state 2>/dev/null || echo none) $node"
	done
}

# in_turn CASE STEP…: and the machine is as it was.
in_turn() {
	shift
	steps "$@"
	ask clear
	unload_loaded
}

if [ $# = 0 ]; then cases in_turn; else steps "$@"; fi
