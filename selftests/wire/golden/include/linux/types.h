/* SPDX-License-Identifier: GPL-2.0 */
/* The few names of the kernel's own header that psp-sev.h needs, for a program of the build machine. */
#ifndef GOLDEN_LINUX_TYPES_H
#define GOLDEN_LINUX_TYPES_H

#include <stdbool.h>
#include <stdint.h>

typedef uint8_t u8, __u8;
typedef uint16_t u16, __u16;
typedef uint32_t u32, __u32;
typedef uint64_t u64, __u64;
typedef unsigned int gfp_t;
struct file;

#define __packed __attribute__((packed))
#define BIT(n) (1UL << (n))
#define BIT_ULL(n) (1ULL << (n))
#define GENMASK(h, l) ((~0UL << (l)) & (~0UL >> (63 - (h))))
#define GENMASK_ULL(h, l) GENMASK(h, l)
#define CONFIG_CRYPTO_DEV_SP_PSP 1

#endif
