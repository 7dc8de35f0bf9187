# SPDX-License-Identifier: GPL-2.0
# For test_runner.py: cases that end in the way that their second word says.
. /vm/lib.sh

act() {
	case $2 in
	fine) say did "$1" ;;
	warn) echo "WARNING: planted" >/dev/kmsg ;;
	panic) echo c >/proc/sysrq-trigger ;;
	stale) echo "Oops: int3 (planted)" >/dev/kmsg && echo c >/proc/sysrq-trigger ;;
	hang) sleep 1000 ;;
	spoil) return 1 ;;
	esac
}

cases act
