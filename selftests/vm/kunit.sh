# SPDX-License-Identifier: GPL-2.0
# Load our modules on a machine without a PSP; the debug kernel runs their KUnit suites when they are
# live and reports on the console.
. /vm/lib.sh

for module in snp_host ccp; do
	insmod "/lib/modules/$(uname -r)/updates/$module.ko" || fail "$module.ko does not load"
done
for module in ccp snp_host; do
	rmmod $module || fail "$module does not unload"
done
