# SPDX-License-Identifier: GPL-2.0
# For scripts that run in a whole Debian, once in each of its starts (sh). /root/step has the name of the start.
# shellcheck shell=sh
step=$(cat /root/step 2>/dev/null || echo install)

# Lines that the host side reads are "@key START value…".
say() { echo "@$1 $step $2"; }

# try NAME COMMAND…: "@status START NAME STATUS", and "@said START NAME LINE" for what it has to say.
try() {
	name=$1
	shift
	said=$("$@" 2>&1)
	say status "$name $?"
	echo "$said" | sed "s/^/@said $step $name /"
}

# go_on STEP COMMAND…: end this start, and go on in the next one.
go_on() {
	echo "$1" >/root/step
	shift
	sync
	"$@"
	sleep 100
	say failed "$*"
	exit 9
}

# kexec_to RELEASE: by systemd, as GRUB would start that kernel.
kexec_to() {
	kexec --kexec-file-syscall --load "/boot/vmlinuz-$1" --initrd="/boot/initrd.img-$1" --reuse-cmdline
	systemctl kexec
}

# What an administrator would look at.
look() {
	say release "$(uname -r)"
	say file "$(modinfo -n ccp | sed "s|.*/$(uname -r)/||")"
	say ours "$(grep -c '^snp_host ' /proc/modules)"
	say loaded "$(grep -c '^ccp ' /proc/modules)"
	say sev "$(cat /sys/module/kvm_amd/parameters/sev)"
	say snp "$(cat /sys/module/kvm_amd/parameters/sev_snp)"
	say window "$(cat /sys/kernel/snp_host/state 2>/dev/null)"
	# kvm_amd is to be there before the script, whose unit would load it.
	say began "$(systemctl show -P ExecMainStartTimestampMonotonic snp-host.service)"
	try units systemctl --failed --no-legend
}

# journal BOOT NAME JOURNALCTL'S OPTIONS…: "@journal NAME ENTRY" as JSON for each entry of that start.
journal() {
	boot=$1 name=$2
	shift 2
	journalctl -b "$boot" -o json --output-fields=PRIORITY,SYSLOG_IDENTIFIER,MESSAGE "$@" | sed "s/^/@journal $name /"
}

# journals START…: what these starts, up to the present one, have to say of drivers and packages.
journals() {
	journalctl --sync
	boot=$((1 - $#))
	for start; do
		journal $boot "$start" -g \
			'^(ccp|snp_host|kvm_amd: SEV-SNP|EXT4-fs .* mounted|PM: suspend entry|there is no ccp|this kernel)'
		boot=$((boot + 1))
	done
}
