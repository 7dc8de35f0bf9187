# SPDX-License-Identifier: GPL-2.0
# kunit.sh MODULE…: load modules on a machine without a PSP; the debug kernel runs their KUnit suites when they are
# live and reports on the console.
. /vm/lib.sh

ask begin
loaded=''
for module in "$@"; do
	insmod "/kunit/$module.ko" || fail "$module.ko does not load"
	loaded="$module $loaded"
done
# shellcheck disable=SC2086 # they are words
rmmod $loaded || fail "not all of them unload: $loaded"
