# SPDX-License-Identifier: GPL-2.0
# Firmware's persistent state in a file (init_ex_path). nv.sh CASE:
#   life      no file, then the one that was made: changed by commands, damaged, deleted by a factory reset
#   bad       a path that leads to no such file
#   store     file systems that cannot be written to, links, mounts; a disk that loses power
#   killed STEP…
#             on a disk: at each step, power_loss.ko's parameters with commas, the machine loses power while a command
#             changes the file; it comes back to this script
#   keep      start SEV with what is in /nv/given, then say what the file has
. /vm/lib.sh

file=/nv/state
mkdir -p /nv

# What there is: size, mode, whether it is the same file (inode) as when this was last said, and contents.
say_file() {
	if [ -f "$file" ]; then
		inode=$(stat -c %i "$file")
		same=new
		[ "$inode" != "$last" ] || same=same
		last=$inode
		say file "$1 $(stat -c '%s %a' "$file") $same $(sha256sum <"$file" | cut -c1-16) $(ls -A "${file%/*}" | tr '\n' ' ')"
	else
		say file "$1 none"
	fi
}

say_pdh() { sev-ioctl pdh | sed "s/^@ioctl pdh/@pdh $1/"; }

up() {
	modprobe ccp init_ex_path="$file" || fail "ccp does not load"
	modprobe kvm_amd || fail "kvm_amd does not load"
	say offers "$1 $(cat /sys/module/kvm_amd/parameters/sev) $(cat /sys/module/kvm_amd/parameters/sev_snp)"
}

down() { rmmod kvm_amd && rmmod ccp || fail "the modules do not unload"; }

# after_power_loss NAME: what the machine sees, and what the disk has at this moment: "@disk NAME DIGEST DIGEST FILES".
# "@steps NAME…": what was synced (by inode) and renamed since this was called last, in its order; then the inodes of
# file and directory.
after_power_loss() {
	cp /disk/image /disk/now
	mount -t ext4 -o loop,ro /disk/now /now || fail "$1: the disk cannot be read"
	say disk "$1 $(sha256sum <"$file" | cut -c1-16) $(sha256sum </now/state | cut -c1-16) $(ls -A /now | tr '\n' ' ')"
	umount /now
	say steps "$1 $(sed -n 's/.*ext4_sync_file_enter: dev 7,0 ino \([0-9]*\) .*/\1/p; s/.* renamed: .*/renamed/p' \
		$trace/trace | tr '\n' ' ')" "$(stat -c %i "$file") $(stat -c %i /mounted)"
	: >$trace/trace
}

# A disk to which the kernel writes nothing by itself.
with_disk() {
	trace=/sys/kernel/tracing
	mkdir -p /disk /mounted /now
	mount -t tmpfs disk /disk
	mount -t tracefs trace $trace
	modprobe loop && modprobe ext4 || fail "no disk: a module does not load"
	echo 0 >/proc/sys/vm/dirty_writeback_centisecs
	dd if=/dev/zero of=/disk/image bs=1M count=2 2>/dev/null
	mke2fs -F /disk/image >/dev/null || fail "no file system on the disk"
	losetup /dev/loop0 /disk/image
	mount -t ext4 /dev/loop0 /mounted || fail "the disk cannot be mounted"
	echo p:renamed vfs_rename >$trace/kprobe_events
	echo 1 >$trace/events/kprobes/renamed/enable
	echo 1 >$trace/events/ext4/ext4_sync_file_enter/enable
}

issue() { sev-ioctl "$1" | sed "s/^@ioctl/@command/"; }

case $1 in
killed)
	modprobe virtio_blk && modprobe ext4 || fail "no disk: a module does not load"
	mkdir -p /mounted
	mount -t ext4 /dev/vda /mounted 2>/dev/null ||
		{ mke2fs -F /dev/vda >/dev/null && mount -t ext4 /dev/vda /mounted; } || fail "the disk cannot be mounted"
	file=/mounted/state
	n=$(cat /mounted/step 2>/dev/null || echo 0)
	say_file "left-$n"
	up "$n"
	say_pdh "$n"
	shift $((n + 1))
	if [ $# = 0 ]; then
		down
		umount /mounted
		ask last-boot
		exit 0
	fi
	echo $((n + 1)) >/mounted/step
	sync
	say_file "before-$((n + 1))"
	# shellcheck disable=SC2046 # several words
	insmod /power_loss.ko $(echo "$1" | tr , ' ') || fail "the step cannot be watched"
	issue pek-gen
	fail "no power was lost at $1"
	;;
life)
	up first
	say_file first
	say_pdh first
	down
	say_file unloaded
	up second
	say_file second
	say_pdh second
	issue pek-gen
	say_file pek-gen
	issue pdh-gen
	say_file pdh-gen
	say_pdh third
	down
	# SEV is up during the command alone.
	modprobe ccp init_ex_path="$file" || fail "ccp does not load"
	say_pdh fourth
	say_file alone
	issue pek-gen
	say_file pek-gen-alone
	say_pdh fifth
	rmmod ccp
	ask mark damaged
	printf x | dd of="$file" bs=1 seek=100 conv=notrunc 2>/dev/null
	up damaged
	say_file damaged
	say_pdh damaged
	down
	ask mark reset
	up before-reset
	issue factory-reset
	say_file reset
	issue pek-csr:length
	say_pdh reset
	down
	up after-reset
	say_pdh after-reset
	down
	;;
bad)
	mkfifo /nv/fifo
	mkdir /nv/dir
	head -c 32767 /dev/zero >/nv/short
	head -c 32769 /dev/zero >/nv/long
	: >/nv/empty
	for name in fifo dir short long absent/state empty; do
		file=/nv/$name
		ask mark "$name"
		up "$name"
		issue pek-gen
		say_file "$name"
		down
	done
	;;
store)
	mkdir -p /nv/real
	mount -t tmpfs real /nv/real
	ln -s /nv/real/target /nv/link
	file=/nv/link
	up link
	say_file link
	say link "$(readlink /nv/link) $(stat -c '%s %a' /nv/real/target)"
	mount -o remount,ro /nv/real
	issue pek-gen
	say_file read-only
	say_pdh read-only
	mount -o remount,rw /nv/real
	down
	say_file made-good
	up again
	say_pdh again
	# What could not be written is not written over what was later.
	mount -o remount,ro /nv/real
	issue pek-gen
	mount -o remount,rw /nv/real
	issue pek-gen
	say_file newer
	down
	say_file newest
	# A file that is a mount point cannot be replaced.
	: >/nv/point
	mount --bind /nv/real/target /nv/point
	file=/nv/point
	up point
	issue pek-gen
	say_file point
	down
	umount /nv/point
	umount /nv/real || fail "the file system is still in use"
	with_disk
	file=/mounted/state
	up disk
	after_power_loss made
	issue pek-gen
	after_power_loss changed
	down
	umount /mounted || fail "the disk is still in use"
	;;
keep)
	[ ! -e /nv/given ] || cp /nv/given "$file"
	up keep
	say_pdh keep
	down
	say contents "$(gzip -9c "$file" | base64 | tr -d '\n')"
	;;
esac
