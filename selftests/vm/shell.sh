# SPDX-License-Identifier: GPL-2.0
# A shell on the console, for people (scripts/vm --shell on the debug kernel).
{
	echo "A root shell on the software SNP platform; 'modprobe kvm_amd' starts SNP, 'exit' ends the machine."
	# Only a session's leader gets a terminal with job control and Ctrl-C.
	setsid sh -c 'PS1="snp# " exec sh -i </dev/ttyS0'
	# At once: init would look for memory leaks first.
	reboot -f
} >/dev/ttyS0 2>&1
