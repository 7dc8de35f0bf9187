// SPDX-License-Identifier: GPL-2.0
/*
 * Good and bad calls of /dev/sev, one line each: "@ioctl NAME RESULT error=STATUS OUTPUT".
 *
 * The output is meant to be compared with that of another driver, so it has no addresses in it.
 */
#include <err.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/psp-sev.h>
#include <stdio.h>
#include <stdint.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

/* What `error` holds before the call; a driver that never reached firmware leaves it or says -1. */
#define UNTOUCHED 0xdeadbeef

static int rw, ro;
/* Names on the command line; without any, all calls are made that leave the platform as it was. */
static char **names;

static int wanted(const char *name)
{
	for (char **n = names; *n; n++)
		if (!strcmp(*n, name))
			return 1;
	return !*names;
}

/* Two pages with nothing behind them; objects that end at `edge` are cut short by what follows. */
static char *edge;
static unsigned char blob[0x8000];

static void report(const char *name, int result, unsigned int error, const void *out, size_t len)
{
	printf("@ioctl %s %s error=%#x", name, result < 0 ? strerrorname_np(errno) : "0", error);
	for (size_t i = 0; i < len; i++)
		printf("%s%02x", i ? "" : " ", ((const unsigned char *)out)[i]);
	putchar('\n');
}

static void issue(const char *name, int fd, unsigned int cmd, void *data, size_t out)
{
	struct sev_issue_cmd arg = { .cmd = cmd, .data = (uintptr_t)data, .error = UNTOUCHED };
	int result;

	if (!wanted(name))
		return;
	result = ioctl(fd, SEV_ISSUE_CMD, &arg);
	report(name, result, arg.error, data, result < 0 && errno == EFAULT ? 0 : out);
}

static void the_ioctl_itself(void)
{
	struct sev_issue_cmd arg = { .cmd = SEV_PLATFORM_STATUS, .error = UNTOUCHED };
	char *cut = edge - 8;

	report("unknown-number", ioctl(rw, _IOWR('S', 1, struct sev_issue_cmd), &arg), arg.error, NULL, 0);
	report("wrong-size", ioctl(rw, _IOWR('S', 0, char[8]), &arg), arg.error, NULL, 0);
	report("null-argument", ioctl(rw, SEV_ISSUE_CMD, NULL), 0, NULL, 0);
	report("kernel-address", ioctl(rw, SEV_ISSUE_CMD, (void *)0xffff888000001000), 0, NULL, 0);
	memcpy(cut, &arg, 8);
	report("truncated-argument", ioctl(rw, SEV_ISSUE_CMD, cut), 0, NULL, 0);
	issue("command-13", rw, 13, NULL, 0);
	issue("command-14", rw, 14, NULL, 0);
	issue("command-max", rw, ~0u, NULL, 0);
}

static void status_commands(void)
{
	unsigned char *odd = blob + 3;

	memset(blob, 0, sizeof(blob));
	issue("platform-status", rw, SEV_PLATFORM_STATUS, blob, sizeof(struct sev_user_data_status));
	issue("platform-status-read-only", ro, SEV_PLATFORM_STATUS, blob, sizeof(struct sev_user_data_status));
	issue("platform-status-unaligned", rw, SEV_PLATFORM_STATUS, odd, sizeof(struct sev_user_data_status));
	issue("platform-status-null", rw, SEV_PLATFORM_STATUS, NULL, 0);
	issue("platform-status-truncated", rw, SEV_PLATFORM_STATUS, edge - 4, 0);
	memset(blob, 0, sizeof(blob));
	issue("snp-platform-status", rw, SNP_PLATFORM_STATUS, blob, sizeof(struct sev_user_data_snp_status));
	issue("snp-platform-status-read-only", ro, SNP_PLATFORM_STATUS, blob, sizeof(struct sev_user_data_snp_status));
	issue("snp-platform-status-unaligned", rw, SNP_PLATFORM_STATUS, odd, sizeof(struct sev_user_data_snp_status));
	issue("snp-platform-status-null", rw, SNP_PLATFORM_STATUS, NULL, 0);
	issue("snp-platform-status-truncated", rw, SNP_PLATFORM_STATUS, edge - 4, 0);
}

static void get_id2(const char *name, int fd, void *address, unsigned int length)
{
	struct sev_user_data_get_id2 id = { .address = (uintptr_t)address, .length = length };
	struct sev_issue_cmd arg = { .cmd = SEV_GET_ID2, .data = (uintptr_t)&id, .error = UNTOUCHED };
	int result;

	if (!wanted(name))
		return;
	memset(blob, 0, sizeof(blob));
	result = ioctl(fd, SEV_ISSUE_CMD, &arg);
	report(name, result, arg.error, &id.length, sizeof(id.length));
	if (!result)
		report(name, 0, 0, blob, 64);
}

static void pdh_export(const char *name, int fd, void *pdh, unsigned int pdh_len, void *chain, unsigned int chain_len)
{
	struct sev_user_data_pdh_cert_export export = {
		.pdh_cert_address = (uintptr_t)pdh, .pdh_cert_len = pdh_len,
		.cert_chain_address = (uintptr_t)chain, .cert_chain_len = chain_len,
	};
	struct sev_issue_cmd arg = { .cmd = SEV_PDH_CERT_EXPORT, .data = (uintptr_t)&export, .error = UNTOUCHED };
	unsigned int lengths[2];
	int result;

	if (!wanted(name))
		return;
	memset(blob, 0, sizeof(blob));
	result = ioctl(fd, SEV_ISSUE_CMD, &arg);
	lengths[0] = export.pdh_cert_len;
	lengths[1] = export.cert_chain_len;
	report(name, result, arg.error, lengths, sizeof(lengths));
	if (!result)
		report(name, 0, 0, blob, 32);
}

static void identity_commands(void)
{
	void *wild = (void *)0x10;

	get_id2("get-id2-length", rw, NULL, 0);
	get_id2("get-id2", rw, blob, 0x80);
	get_id2("get-id2-read-only", ro, blob, 0x80);
	get_id2("get-id2-short", rw, blob, 8);
	get_id2("get-id2-unaligned", rw, blob + 5, 0x80);
	get_id2("get-id2-wild-address", rw, wild, 0x80);
	get_id2("get-id2-huge", rw, blob, 0xfffffff0);
	issue("get-id2-null", rw, SEV_GET_ID2, NULL, 0);
	memset(blob, 0, sizeof(blob));
	issue("get-id", rw, SEV_GET_ID, blob, sizeof(struct sev_user_data_get_id));
	issue("get-id-null", rw, SEV_GET_ID, NULL, 0);
	issue("get-id-truncated", rw, SEV_GET_ID, edge - 4, 0);
	issue("get-id2-truncated", rw, SEV_GET_ID2, edge - 4, 0);
	pdh_export("pdh-length", rw, NULL, 0, NULL, 0);
	pdh_export("pdh", rw, blob, 0x824, blob + 0x1000, 3 * 0x824);
	pdh_export("pdh-read-only", ro, blob, 0x824, blob + 0x1000, 3 * 0x824);
	pdh_export("pdh-short", rw, blob, 16, blob + 0x1000, 16);
	pdh_export("pdh-too-long", rw, blob, 0x4001, blob + 0x1000, 3 * 0x824);
	pdh_export("pdh-chain-too-long", rw, blob, 0x824, blob + 0x1000, 0xffffffff);
	pdh_export("pdh-without-length-chain-too-long", rw, blob, 0, blob + 0x1000, 0x4001);
	pdh_export("pdh-too-long-without-chain", rw, blob, 0x4001, NULL, 0x824);
	pdh_export("pdh-wild-address", rw, wild, 0x824, wild, 3 * 0x824);
	issue("pdh-null", rw, SEV_PDH_CERT_EXPORT, NULL, 0);
}

static void refused_commands(void)
{
	struct sev_user_data_snp_vlek_load vlek = { .len = 15 };
	struct sev_user_data_snp_config config = { .reported_tcb = ~0ull };

	issue("factory-reset-read-only", ro, SEV_FACTORY_RESET, NULL, 0);
	issue("pek-gen-read-only", ro, SEV_PEK_GEN, NULL, 0);
	issue("pdh-gen-read-only", ro, SEV_PDH_GEN, NULL, 0);
	issue("pek-csr-read-only", ro, SEV_PEK_CSR, NULL, 0);
	issue("pek-import-read-only", ro, SEV_PEK_CERT_IMPORT, NULL, 0);
	issue("pek-import-null", rw, SEV_PEK_CERT_IMPORT, NULL, 0);
	issue("pek-csr-null", rw, SEV_PEK_CSR, NULL, 0);
	issue("snp-config-read-only", ro, SNP_SET_CONFIG, NULL, 0);
	issue("snp-config-null", rw, SNP_SET_CONFIG, NULL, 0);
	issue("snp-config-truncated", rw, SNP_SET_CONFIG, edge - 4, 0);
	issue("snp-config-tcb-too-high", rw, SNP_SET_CONFIG, &config, 0);
	issue("vlek-read-only", ro, SNP_VLEK_LOAD, NULL, 0);
	issue("vlek-null", rw, SNP_VLEK_LOAD, NULL, 0);
	issue("vlek-wrong-length", rw, SNP_VLEK_LOAD, &vlek, 0);
	vlek.len = sizeof(vlek);
	vlek.vlek_wrapped_version = 1;
	issue("vlek-wrong-version", rw, SNP_VLEK_LOAD, &vlek, 0);
	vlek.vlek_wrapped_version = 0;
	issue("vlek-wild-address", rw, SNP_VLEK_LOAD, &vlek, 0);
	vlek.rsvd[2] = 1;
	vlek.vlek_wrapped_address = (uintptr_t)blob;
	issue("vlek-reserved", rw, SNP_VLEK_LOAD, &vlek, 0);
}

/* Calls that change the platform; each is made only if it is named. */
static void changing_commands(void)
{
	struct sev_user_data_pek_csr csr = { .address = (uintptr_t)blob, .length = 0x824 };
	struct sev_user_data_pek_cert_import import = {
		.pek_cert_address = (uintptr_t)blob, .pek_cert_len = 0x824,
		.oca_cert_address = (uintptr_t)blob, .oca_cert_len = 0x824,
	};
	struct sev_user_data_snp_vlek_load vlek = { .len = sizeof(vlek), .vlek_wrapped_address = (uintptr_t)blob };
	struct sev_user_data_snp_config config = { 0 };
	struct sev_user_data_pek_csr no_csr = { 0 }, long_csr = { .address = (uintptr_t)blob, .length = 0x4001 };
	struct sev_user_data_pek_cert_import no_oca = import, long_pek = import;

	if (!*names)
		return;
	memset(blob, 0, sizeof(blob));
	issue("pek-gen", rw, SEV_PEK_GEN, NULL, 0);
	issue("pdh-gen", rw, SEV_PDH_GEN, NULL, 0);
	issue("pek-csr", rw, SEV_PEK_CSR, &csr, 0);
	issue("pek-csr-length", rw, SEV_PEK_CSR, &no_csr, sizeof(no_csr));
	issue("pek-csr-too-long", rw, SEV_PEK_CSR, &long_csr, sizeof(long_csr));
	issue("pek-import", rw, SEV_PEK_CERT_IMPORT, &import, 0);
	no_oca.oca_cert_len = 0;
	issue("pek-import-without-oca", rw, SEV_PEK_CERT_IMPORT, &no_oca, 0);
	long_pek.pek_cert_len = 0x4001;
	issue("pek-import-too-long", rw, SEV_PEK_CERT_IMPORT, &long_pek, 0);
	issue("snp-config", rw, SNP_SET_CONFIG, &config, 0);
	issue("snp-commit-read-only", ro, SNP_COMMIT, NULL, 0);
	issue("snp-commit", rw, SNP_COMMIT, NULL, 0);
	issue("vlek", rw, SNP_VLEK_LOAD, &vlek, 0);
	issue("factory-reset", rw, SEV_FACTORY_RESET, NULL, 0);
}

int main(int argc, char **argv)
{
	long page = sysconf(_SC_PAGESIZE);

	(void)argc;
	names = argv + 1;
	rw = open("/dev/sev", O_RDWR);
	ro = open("/dev/sev", O_RDONLY);
	if (rw < 0 || ro < 0)
		err(2, "/dev/sev");
	edge = mmap(NULL, 2 * page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (edge == MAP_FAILED || mprotect(edge + page, page, PROT_NONE))
		err(2, "mmap");
	edge += page;

	if (!*names)
		the_ioctl_itself();
	status_commands();
	identity_commands();
	refused_commands();
	changing_commands();
	return 0;
}
