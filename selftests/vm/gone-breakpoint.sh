# SPDX-License-Identifier: GPL-2.0
# gone-breakpoint.sh SECONDS: change code that another CPU executes; the line is that of
# programs/gone-breakpoint.c.
. /vm/lib.sh

say breakpoints "$(gone-breakpoint "$1")"
