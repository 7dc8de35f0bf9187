# SPDX-License-Identifier: GPL-2.0
# reload.sh TIMES: load and unload ccp and kvm-amd; say for each round the kernel's own count of outstanding
# cpu_hotplug_disable() calls, loaded and unloaded, whether there is SEV-SNP, and the free memory.
. /vm/lib.sh
say disabled 0 "$(kernel-counter cpu_hotplug_disabled)"
for round in $(seq "$1"); do
	modprobe kvm_amd || fail "round $round: kvm_amd does not load"
	loaded="$(kernel-counter cpu_hotplug_disabled) $(cat /sys/module/kvm_amd/parameters/sev_snp)"
	unload "round $round"
	say disabled "$round" "$loaded" "$(kernel-counter cpu_hotplug_disabled)"
	# What is only parked somewhere is not lost: caches, the CPUs' own page lists, counters not summed up.
	echo 3 >/proc/sys/vm/drop_caches
	echo 1 >/proc/sys/vm/compact_memory
	echo 1 >/proc/sys/vm/stat_refresh 2>/dev/null
	say free "$round" "$(sed -n 's/^MemFree: *\([0-9]*\) kB/\1/p' /proc/meminfo)"
done
say disabled end "$(kernel-counter cpu_hotplug_disabled)"
