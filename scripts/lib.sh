# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash disable=SC2034
# What every shell script of the project needs. Source it, do not run it.

CCP_SCRIPTS=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd -P)
CCP_TOP=$(dirname "$CCP_SCRIPTS")
# Everything that is made, downloaded or built lives below this one directory.
export CCP_CACHE=${CCP_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/ccp-rs}
CCP_ROOT=$CCP_CACHE/root

die() {
	echo "${0##*/}: $*" >&2
	exit 1
}

need_root_user() {
	[ "$(id -u)" = 0 ] || die "this needs root (it mounts and chroots); run it with sudo"
}

# Print the comment block at the head of the running script and exit.
usage() {
	awk 'NR > 2 && /^#/ { sub(/^# ?/, ""); print; next } NR > 2 { exit }' "$0"
	exit "${1:-0}"
}

# unpack_source PACKAGE VERSION DIRECTORY: a kernel's source straight out of its package. Installed, it would be a
# second copy of 160 MiB, and there can be one version only.
unpack_source() {
	local scratch
	scratch=$(mktemp -d)
	(cd "$scratch" && run_logged "$CCP_CACHE/logs/source.log" \
		apt-get -o APT::Sandbox::User=root download "$1=$2")
	dpkg-deb --fsys-tarfile "$scratch"/*.deb | tar -xO "./usr/src/$1.tar.xz" | tar -C "$3" --strip-components=1 -xJ
	rm -r "$scratch"
}

# run_logged LOG COMMAND...: run quietly; on failure show the end of the log and say where it is.
run_logged() {
	local log=$1
	shift
	mkdir -p "$(dirname "$log")"
	"$@" >"$log" 2>&1 || {
		tail -n 20 "$log" >&2
		die "'$1' failed; the whole log is $log"
	}
}
