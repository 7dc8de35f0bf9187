# SPDX-License-Identifier: GPL-2.0
# For the scenario scripts that run inside a machine (busybox sh).

# Lines that the host side reads are "@key value…"; all other output is for people.
say() { echo "@$*"; }

# ask QUESTION…: wait for the answer of the host side, and leave it in $reply without its "ok". Fails if
# it is "error REASON". Orders to the PSP model (pspd --help) are such questions: ask fault SPEC…
exec 4</dev/ttyS1
ask() {
	say ask "$*"
	read -r answer reply <&4
	[ "$answer" = ok ]
}

# Which kernel of this machine runs the scenario: "first", or the word that next_kernel or crash_kernel was
# given. The scenario starts anew in each.
stage=$(sed -n 's/.*ccp_rs_stage=\([^ ]*\).*/\1/p' /proc/cmdline)
stage=${stage:-first}

# next_kernel STAGE [PARAMETERS]: end this kernel as for a restart, but go on with another one (kexec), without
# a reset: CPUs and firmware stay as they are. Needs Config(kexec=True). Returns only if it fails.
next_kernel() {
	load_kernel next "$@" && kexec-load go
}

# crash_kernel STAGE [PARAMETERS]: have a kernel ready that a panic starts (kdump). Needs
# Config(kexec=True, crashkernel=MIB).
crash_kernel() { load_kernel crash "$@"; }

load_kernel() {
	how=$1 next=$2
	shift 2
	[ "$how" = next ] || set -- "$@" nr_cpus=1 reset_devices
	# A crash kernel has no room to set aside for another one.
	parameters=$(sed 's/ccp_rs_stage=[^ ]*//; s/crashkernel=[^ ]*//' /proc/cmdline)
	kexec-load "$how" /boot/vmlinuz /boot/initrd "$parameters ccp_rs_stage=$next $*"
}

# milliseconds: $now is the time since the start of this kernel. It is not printed, as that would cost a process.
milliseconds() {
	read -r now _ </proc/uptime
	now=${now%.*}${now#*.}0
}

# timed KEY NAME COMMAND…: run it, and print "@KEY STATUS MILLISECONDS WORDS" with the words that it prints, and each
# line "@TEXT" of it as "@NAME-TEXT". By the shell itself: each process costs an emulated CPU more than this does.
# $output is what it has printed.
timed() {
	key=$1 name=$2 words='' lines=''
	shift 2
	milliseconds
	begun=$now
	output=$("$@" 2>&1)
	status=$?
	milliseconds
	while IFS= read -r line; do
		case $line in
		@*) lines="$lines@$name-${line#@}
" ;;
		*) words="$words$line " ;;
		esac
	done <<-END
		$output
	END
	say "$key" $status $((now - begun)) "$words"
	printf %s "$lines"
}

# read_file FILE: $line is its first one, or "none" if there is no such file.
read_file() {
	line=none
	[ ! -e "$1" ] || read -r line <"$1"
}

# cases FUNCTION: ask for cases and call the function with the words of each, until there are no more or
# it fails, which says that the machine cannot be used for another one. Kernel messages and PSP commands
# of a case stand between marks with its name. A function that goes on with another kernel is called there
# again, with the same words and another $stage.
cases() {
	question=next
	[ "$stage" = first ] || question=again
	while ask $question && [ -n "$reply" ]; do
		question=next
		case_name=${reply%% *}
		echo "case $case_name begins" >/dev/kmsg
		# shellcheck disable=SC2086 # they are words
		$1 $reply
		usable=$?
		memory_leaks
		echo "case $case_name ends" >/dev/kmsg
		[ $usable = 0 ] || break
	done
}

# The debug kernel's search for memory that nobody points to any more; the report goes to the console.
# Younger than 5 s does not count, and the first scan only takes a checksum of what it suspects.
memory_leaks() {
	[ -e /sys/kernel/debug/kmemleak ] || return 0
	sleep 5
	echo scan >/sys/kernel/debug/kmemleak
	echo scan >/sys/kernel/debug/kmemleak
	cat /sys/kernel/debug/kmemleak >/dev/ttyS0
	echo clear >/sys/kernel/debug/kmemleak
}

# sysfs: write what the files of our modules say to the kernel's log, where health.py compares it with their messages.
sysfs() (
	[ -d /sys/kernel/snp_host ] || return 0
	echo "sysfs: now" >/dev/kmsg
	contents=sysfs:
	# By the shell itself: each process costs an emulated CPU more than the file does.
	for file in snp_host/state snp_host/open_seconds snp_host/snp_en_cpus ../devices/system/cpu/online ccp/lost_pages \
		snp_host/reason; do
		content=''
		[ ! -e "/sys/kernel/$file" ] || read -r content <"/sys/kernel/$file"
		contents="$contents ${file##*/}=$content"
	done
	echo "$contents" >/dev/kmsg
) 2>/dev/null

# Before each module goes, and after.
rmmod() {
	sysfs
	command rmmod "$@" || return
	sysfs
}

# What is loaded of kvm-amd and our modules goes. Fails if one of them stays.
unload_loaded() {
	for module in kvm_amd ccp snp_host; do
		[ ! -d /sys/module/$module ] || rmmod $module || return 1
	done
}

fail() {
	echo "scenario: $*"
	exit 1
}

# One line per loaded module of ours or of KVM: name, where the file is.
modules() {
	for module in snp_host ccp kvm_amd; do
		[ -d /sys/module/$module ] || continue
		say module $module "$(modinfo_file $module)"
	done
}
modinfo_file() {
	modprobe --show-depends "$1" 2>/dev/null |
		sed -n "s#^insmod .*/lib/modules/[^/]*/\(.*/$(echo "$1" | tr _ .)\.ko[^ ]*\).*#\1#p"
}

# Unload kvm_amd and ccp, say what became of the hotplug window. snp_host goes too if it can: it stays
# while SNP_EN is set on any CPU, and "modprobe -r" would call that a failure.
unload() {
	rmmod kvm_amd ccp || fail "${1:+$1: }the modules do not unload"
	[ -d /sys/module/snp_host ] || return 0
	say window "$(cat /sys/kernel/snp_host/state)" "$(cat /sys/kernel/snp_host/reason)"
	rmmod snp_host 2>/dev/null || say pinned snp_host
}

# Whether the kernel lets a CPU go offline and come back: yes, or the error that it gives.
hotplug() {
	if message=$( { echo 0 >/sys/devices/system/cpu/cpu1/online; } 2>&1); then
		echo 1 >/sys/devices/system/cpu/cpu1/online && echo allowed
	else
		echo "refused${message##*:}"
	fi
}

# ready_for_qemu [arguments for QEMU]: make QMP's pipe, and set $hashes to whether the firmware has
# to check those of a kernel.
ready_for_qemu() {
	hashes=off
	case " $* " in *" -kernel "*) hashes=on ;; esac
	rm -f /tmp/qmp.in
	mkfifo /tmp/qmp.in
	# They are read before QEMU may have been started.
	: >/tmp/qmp.out
	: >/tmp/serial
}

# What QEMU has to be told of the processor for a guest that is encrypted; it compares the C-bit with CPUID's.
encryption=id=sev0,cbitpos=51,reduced-phys-bits=1

# launch NAME VCPUS FIRMWARE [more arguments for QEMU]: launch an SNP guest and wait until the guest
# has been entered, which is after SNP_LAUNCH_FINISH. Prints "@launched NAME STATE".
launch() {
	name=$1 vcpus=$2 firmware=$3
	shift 3
	ready_for_qemu "$@"
	qemu-system-x86_64 -accel kvm -cpu EPYC-v4 -smp "$vcpus" -m 256M \
		-machine q35,confidential-guest-support=sev0,memory-backend=ram \
		-object memory-backend-memfd,id=ram,size=256M,share=true,prealloc=false \
		-object "sev-snp-guest,$encryption,policy=0x30000,kernel-hashes=$hashes" \
		-bios "$firmware" -nodefaults -display none -S -qmp stdio "$@" \
		</tmp/qmp.in >/tmp/qmp.out 2>/tmp/qemu.err &
	qemu=$!
	# Opened for reading too: an order to a QEMU that has just ended must not end the scenario (SIGPIPE).
	exec 5<>/tmp/qmp.in
	echo '{"execute":"qmp_capabilities"} {"execute":"cont"}' >&5
	state=
	for _ in $(seq 600); do
		kill -0 $qemu 2>/dev/null || break
		echo '{"execute":"query-status"}' >&5
		state=$(sed -n 's/.*"return".*"status": "\([a-z-]*\)".*/\1/p' /tmp/qmp.out | tail -n 1)
		# The guest cannot run yet, so QEMU stops it with an error once it has been entered.
		case $state in internal-error | guest-panicked | shutdown) break ;; esac
		sleep 0.1
	done
	echo '{"execute":"quit"}' >&5
	wait $qemu
	status=$?
	exec 5>&-
	[ "$state" = internal-error ] || sed "s/^/qemu: /" /tmp/qemu.err
	say launched "$name" "${state:-unknown}" "$status"
}

# pages_before: note how many pages are assigned in the RMP without a guest.
pages_before() {
	ask scan || fail "the RMP cannot be scanned"
	assigned_before=$reply
}

# pages_left NAME [LOST]: wait until no more pages than that, and LOST, are assigned, 10 s at most:
# some of what a process had is given back after its end. Prints "@left NAME PAGES".
pages_left() {
	for _ in $(seq 100); do
		ask scan || fail "the RMP cannot be scanned"
		[ "$reply" -gt $((assigned_before + ${2:-0})) ] || break
		sleep 0.1
	done
	say left "$1" $((reply - assigned_before))
}

# selftest LIMIT TEST: run one of KVM's own selftests, which lie in /selftests, for LIMIT seconds at
# most. Prints "@output TEST LINE" for each line of its output, and "@selftest TEST STATUS SECONDS".
selftest() {
	begun=$(cut -d. -f1 /proc/uptime)
	timeout "$1" /selftests/"$2" >/tmp/output 2>&1
	status=$?
	sed "s/^/@output $2 /" /tmp/output
	say selftest "$2" $status $(($(cut -d. -f1 /proc/uptime) - begun))
}

# start VCPUS FIRMWARE [more arguments for QEMU]: start an SNP guest. $qemu is its process, file 5
# takes orders (QMP), answers are in /tmp/qmp.out, and what its serial port prints in /tmp/serial.
# $snp has more properties of sev-snp-guest. $kind is another kind of guest: plain (without SEV),
# sev or sev-es.
start() {
	vcpus=$1 firmware=$2
	shift 2
	ready_for_qemu "$@"
	# Until Linux has chosen its clock it asks for 250 interrupts in a second on each vCPU. If handling
	# one takes longer than that, which it does here when the machine is busy, the guest does nothing
	# else any more.
	echo 10000 >/sys/module/kvm/parameters/min_timer_period_us
	case ${kind:-snp} in
	snp)
		set -- -machine q35,confidential-guest-support=sev0,memory-backend=ram \
			-object memory-backend-memfd,id=ram,size=256M,share=true,prealloc=false \
			-object "sev-snp-guest,$encryption,policy=0x30000,kernel-hashes=$hashes${snp:+,$snp}" "$@"
		;;
	sev) set -- -machine q35,confidential-guest-support=sev0 -object "sev-guest,$encryption,policy=1" "$@" ;;
	sev-es) set -- -machine q35,confidential-guest-support=sev0 -object "sev-guest,$encryption,policy=5" "$@" ;;
	plain) set -- -machine q35 "$@" ;;
	esac
	qemu-system-x86_64 -accel kvm -cpu EPYC-v4 -smp "$vcpus" -m 256M -no-reboot \
		-bios "$firmware" -nodefaults -display none -serial file:/tmp/serial -qmp stdio "$@" \
		</tmp/qmp.in >/tmp/qmp.out 2>/tmp/qemu.err &
	qemu=$!
	exec 5<>/tmp/qmp.in
	echo '{"execute":"qmp_capabilities"}' >&5
}

# look_at_clock: $now is the time since the start of this kernel, in tenths of a second.
look_at_clock() {
	read -r now _ </proc/uptime
	now=${now%?}
	now=${now%.*}${now#*.}
}

# boot NAME VCPUS TEXT FIRMWARE [more arguments for QEMU]: run an SNP guest until its serial port has
# printed TEXT. Then end it, unless $ends says that it ends by itself. Prints "@serial NAME TEXT…", and "@booted
# NAME TENTHS END" with tenths of a second until then, or "never" and what there is to say, and why QEMU ended.
boot() {
	name=$1 vcpus=$2 text=$3 firmware=$4
	shift 4
	start "$vcpus" "$firmware" "$@"
	look_at_clock
	tenths=-$now
	# Seldom: to start two processes costs these CPUs more than a guest needs for hundreds of exits.
	until grep -q "$text" /tmp/serial; do
		# A guest that cannot go on is stopped, and its QEMU stays.
		if ! kill -0 $qemu 2>/dev/null || grep -q '"event": "STOP"' /tmp/qmp.out; then
			tenths=never
			break
		fi
		sleep 0.5
	done
	look_at_clock
	[ $tenths = never ] || tenths=$((tenths + now))
	[ $tenths != never ] && [ "$ends" ] || echo '{"execute":"quit"}' >&5
	wait $qemu
	exec 5>&-
	if [ $tenths = never ]; then
		sed 's/^/qemu: /' /tmp/qemu.err
		sed 's/^/qmp: /' /tmp/qmp.out
		tail -n 20 /tmp/serial | tr -d '\r\000' | sed 's/^/serial: /'
	else
		say serial "$name" "$(grep -o "${text}[ -~]*" /tmp/serial | head -n 1)"
	fi
	say booted "$name" $tenths "$(sed -n 's/.*"event": "SHUTDOWN".*"reason": "\([a-z-]*\)".*/\1/p' /tmp/qmp.out)"
}

# boot_ovmf NAME VCPUS: OVMF up to its shell.
boot_ovmf() { boot "$1" "$2" 'Shell>' /guest/OVMF.fd; }

# The same as guests of other kinds.
boot_plain() { kind=plain boot_ovmf "$1" "$2"; }
boot_sev() { kind=sev boot_ovmf "$1" "$2"; }
boot_sev_es() { kind=sev-es boot_ovmf "$1" "$2"; }

# boot_linux NAME VCPUS: a kernel whose hash OVMF has compared with the measured one, up to user space, where it
# is switched off. In an SNP guest Linux takes CPUID leaf 0Dh only with XSAVEC or XSAVES, and TCG has neither;
# without that leaf it does without XSAVE. $append is another command line.
boot_linux() {
	name=$1 vcpus=$2
	shift 2
	ends=yes boot "$name" "$vcpus" 'guest user space' /guest/OVMF.amdsev.fd -cpu EPYC-v4,level=12 \
		-kernel /guest/vmlinuz -initrd /guest/initrd -append "${append:-$(cat /guest/append)}" "$@"
}

# boot_attesting NAME: the same with one vCPU and the initrd and nonce of vmlib/attest.py. Prints
# "@inside NAME VERDICT", what the guest itself thinks of its report, and "@report NAME BASE64" for
# each.
boot_attesting() {
	boot_linux "$1" 1 -fw_cfg name=opt/ccp-rs/nonce,file=/guest/nonce
	say_reports "$1"
}

# say_reports NAME: those that have come from the serial port.
say_reports() {
	tr -d '\r\000' </tmp/serial | while read -r word text; do
		case $word in inside: | report) say "${word%:}" "$1" "$text" ;; esac
	done
}
