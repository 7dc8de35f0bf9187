# SPDX-License-Identifier: GPL-2.0
# For test_runner.py: end in the way that the argument says.
case $1 in
status) exit "$2" ;;
hang)
	echo "about to hang"
	sleep 1000
	;;
warn) echo "WARNING: planted" >/dev/kmsg ;;
panic) echo c >/proc/sysrq-trigger ;;
stale) echo "Oops: int3 (planted)" >/dev/kmsg && echo c >/proc/sysrq-trigger ;;
esac
