# SPDX-License-Identifier: GPL-2.0
# launch-cost.sh ROUNDS LAUNCHES: launch guests with the stock kvm-amd and with the one in /hooked, in turn, so many
# times each in each round. Marks "begin MODULE" and "end MODULE" stand around each launch and its end; "@took MODULE
# MICROSECONDS" is from the begin of a launch to LAUNCH_FINISH.
. /vm/lib.sh

launch_one() {
	ask mark "begin $1"
	launcher run /tmp/guest.igvm --no-vmsa --vcpus 2 >/tmp/out 2>&1 || fail "$1: $(cat /tmp/out)"
	pages_left "$1"
	ask mark "end $1"
	say took "$1" "$(sed -n 's/^@took //p' /tmp/out)"
}

launcher make /tmp/guest.igvm || fail "no guest can be made"
order="stock hooked"
for _ in $(seq "$1"); do
	for module in $order; do
		case $module in
		stock) modprobe kvm_amd ;;
		hooked) insmod /hooked/kvm-amd.ko ;;
		esac || fail "the $module kvm-amd does not load"
		pages_before
		for _ in $(seq "$2"); do launch_one $module; done
		rmmod kvm_amd || fail "the $module kvm-amd does not unload"
	done
	# The first of a pair finds the machine in another state than the second.
	[ "$order" = "stock hooked" ] && order="hooked stock" || order="stock hooked"
done
