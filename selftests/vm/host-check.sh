# SPDX-License-Identifier: GPL-2.0
# host-check.sh STEP…: take the steps one after the other. Steps that change the machine:
#   +MODULE, -MODULE      load, unload it (+MODULE,PARAMETER…)
#   offline, online       CPU 1
#   unbind, bind          the PSP
#   look,NAME[,OPTION…]   run host-check, and snphost: "@found NAME JSON" for each of its lines, "@status NAME STATUS",
#                         "@snphost NAME STATUS FAILED", how many of its own checks failed
# shellcheck disable=SC2046 # they are words
. /vm/lib.sh

look() {
	name=$1
	shift
	host-check --json "$@" >/tmp/found
	status=$?
	grep '"verdict"' /tmp/found | sed "s/,$//; s/^ */@found $name /"
	say status "$name" $status
	host-check "$@"
	if snphost ok >/tmp/snphost 2>&1; then status=0; else status=$?; fi
	say snphost "$name" $status "$(grep -c FAIL /tmp/snphost)"
	grep FAIL /tmp/snphost || :
}

for step; do
	case $step in
	+*)
		modprobe $(echo "${step#+}" | tr , ' ')
		;;
	-*) rmmod "${step#-}" ;;
	offline) echo 0 >/sys/devices/system/cpu/cpu1/online ;;
	online) echo 1 >/sys/devices/system/cpu/cpu1/online ;;
	unbind | bind) echo 0000:41:00.0 >/sys/bus/pci/drivers/ccp/"$step" ;;
	look,*) look $(echo "${step#look,}" | tr , ' ') ;;
	*) fail "what is $step?" ;;
	esac || say failed "$step"
done
