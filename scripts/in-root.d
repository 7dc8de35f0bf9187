#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# The inner half of scripts/in-root: runs in a fresh mount and PID namespace, mounts, changes root.
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

bind() { # SOURCE: show it at the same path inside
	mkdir -p "$CCP_ROOT$1"
	mount --rbind "$1" "$CCP_ROOT$1"
}
bind_file() { # SOURCE: the same for a file
	[ -e "$1" ] || return 0
	mkdir -p "$CCP_ROOT$(dirname "$1")"
	[ -L "$CCP_ROOT$1" ] && rm -f "$CCP_ROOT$1"
	[ -e "$CCP_ROOT$1" ] || : >"$CCP_ROOT$1"
	mount --bind "$1" "$CCP_ROOT$1"
}

mount -t proc proc "$CCP_ROOT/proc"
bind /sys
bind /dev
mount -t tmpfs -o mode=1777 tmpfs "$CCP_ROOT/tmp"
bind "$CCP_TOP"
mkdir -p "$CCP_ROOT$CCP_CACHE"
mount --bind "$CCP_CACHE" "$CCP_ROOT$CCP_CACHE" # not recursive: it holds the root itself
# Names, certificates and package mirrors are the machine's own.
bind_file /etc/resolv.conf
bind_file /etc/hosts
bind_file /etc/ssl/certs/ca-certificates.crt
bind_file /etc/pip.conf
for dir in ${PIP_FIND_LINKS:-}; do
	[ -d "$dir" ] && bind "$dir"
done

export HOME=/root PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
export CARGO_HOME=$CCP_CACHE/cargo CARGO_TARGET_DIR=$CCP_CACHE/target LC_ALL=C.UTF-8
mkdir -p "$CARGO_HOME"
for config in config config.toml; do
	user=${CCP_USER_CARGO_HOME:-/root/.cargo}/$config
	[ ! -f "$user" ] || cp "$user" "$CARGO_HOME/$config"
done
unset RUSTUP_TOOLCHAIN RUSTUP_HOME RUSTFLAGS CARGO_BUILD_TARGET

# This shell is process 1 of its PID namespace, where signals without a handler are ignored: it stays
# in between so that Ctrl-C and SIGTERM end the command.
chroot "$CCP_ROOT" /bin/sh -c 'cd "$CCP_INSIDE_CWD" && unset CCP_INSIDE_CWD && exec "$@"' in-root "$@" <&0 &
trap 'kill -TERM $! 2>/dev/null' INT TERM HUP
wait $! && status=0 || status=$?
# A signal interrupts the wait; the command may need a moment to clean up.
[ "$status" -le 128 ] || { wait $! && status=0 || status=$?; }
exit "$status"
