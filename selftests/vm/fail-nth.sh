# SPDX-License-Identifier: GPL-2.0
# For scenarios in which allocations fail, on the debug kernel: which of them the program fail-nth counts.
debugfs=/sys/kernel/debug

# symbol NAME: its address, without 0x, and the next symbol's. The kernel makes the list anew for
# every reader, which takes long.
cat /proc/kallsyms >/tmp/symbols
symbol() { grep -A1 " $1$" /tmp/symbols | cut -d' ' -f1; }
kmemleak=$(symbol kmemleak_alloc)

# count FROM TO: allocations count that are made below a function in this range of addresses, so those of
# the module loader, of the shell, and of kmemleak for its own books do not.
count() {
	# shellcheck disable=SC2086 # they are words
	set -- "$1" "$2" $kmemleak
	for kind in failslab fail_page_alloc; do
		echo "$1" >$debugfs/$kind/require-start
		echo "$2" >$debugfs/$kind/require-end
		echo "0x$3" >$debugfs/$kind/reject-start
		echo "0x$4" >$debugfs/$kind/reject-end
		echo N >$debugfs/$kind/ignore-gfp-wait
		# With a stack trace, which says which allocation it is.
		echo 2 >$debugfs/$kind/verbose
	done
	echo N >$debugfs/fail_page_alloc/ignore-gfp-highmem
	echo 0 >$debugfs/fail_page_alloc/min-order
	# Copies from and to user space would count as well.
	echo 1 >$debugfs/fail_usercopy/require-start
	echo 1 >$debugfs/fail_usercopy/require-end
}
