// SPDX-License-Identifier: GPL-2.0
/*
 * Calls of /dev/sev, one line each: "@ioctl NAME RESULT error=STATUS OUTPUT".
 *
 * NAME is a command, by itself as a program should call it (pek-csr), or with one thing that is wrong or
 * unusual (pek-csr:csr-huge). Patterns on the command line say which calls are made; '*' means all, and what
 * matches a pattern behind a '!' is left out.
 * The output is meant to be compared with that of another driver, so it has no addresses in it.
 */
#include <err.h>
#include <errno.h>
#include <fcntl.h>
#include <fnmatch.h>
#include <linux/psp-sev.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

/* What `error` holds before the call; a driver that never reached firmware leaves it or says -1. */
#define UNTOUCHED 0xdeadbeef
/* SEV_FW_BLOB_MAX_SIZE of <linux/psp-sev.h>. */
#define LIMIT 0x4000
#define ROOM 0x8000
#define NOBODY 65534

/* Memory of the caller that a request names besides its own structure. */
struct buffer {
	const char *name;
	size_t address;
	size_t length; /* 0: it has no length */
	uint32_t len; /* that of a good call */
};

/* A field with a value that it should not have. */
struct wrong {
	const char *name;
	size_t offset, size;
	uint64_t value;
};

struct request {
	const char *name;
	uint32_t cmd;
	size_t size; /* of its structure; 0: it has none */
	size_t out; /* that many bytes of it are worth a comparison */
	struct buffer buffers[2];
	struct wrong wrong[5];
};

#define BUFFER(type, name, address, length, len) \
	{ name, offsetof(struct type, address), offsetof(struct type, length), len }
#define WRONG(type, name, field, value) \
	{ name, offsetof(struct type, field), sizeof(((struct type *)0)->field), value }

static const struct request requests[] = {
	{ "platform-status", SEV_PLATFORM_STATUS, .size = sizeof(struct sev_user_data_status),
	  .out = sizeof(struct sev_user_data_status) },
	{ "snp-platform-status", SNP_PLATFORM_STATUS, .size = sizeof(struct sev_user_data_snp_status),
	  .out = sizeof(struct sev_user_data_snp_status) },
	{ "get-id2", SEV_GET_ID2, .size = sizeof(struct sev_user_data_get_id2),
	  .buffers = { BUFFER(sev_user_data_get_id2, "id", address, length, 0x80) } },
	{ "get-id", SEV_GET_ID, .size = sizeof(struct sev_user_data_get_id), .out = sizeof(struct sev_user_data_get_id) },
	{ "pdh", SEV_PDH_CERT_EXPORT, .size = sizeof(struct sev_user_data_pdh_cert_export),
	  .buffers = { BUFFER(sev_user_data_pdh_cert_export, "cert", pdh_cert_address, pdh_cert_len, 0x824),
		       BUFFER(sev_user_data_pdh_cert_export, "chain", cert_chain_address, cert_chain_len, 3 * 0x824) } },
	{ .name = "pek-gen", .cmd = SEV_PEK_GEN },
	{ .name = "pdh-gen", .cmd = SEV_PDH_GEN },
	{ "pek-csr", SEV_PEK_CSR, .size = sizeof(struct sev_user_data_pek_csr),
	  .buffers = { BUFFER(sev_user_data_pek_csr, "csr", address, length, 0x824) } },
	{ "pek-import", SEV_PEK_CERT_IMPORT, .size = sizeof(struct sev_user_data_pek_cert_import),
	  .buffers = { BUFFER(sev_user_data_pek_cert_import, "pek", pek_cert_address, pek_cert_len, 0x824),
		       BUFFER(sev_user_data_pek_cert_import, "oca", oca_cert_address, oca_cert_len, 0x824) } },
	{ "snp-config", SNP_SET_CONFIG, .size = sizeof(struct sev_user_data_snp_config),
	  .wrong = { WRONG(sev_user_data_snp_config, "tcb-too-high", reported_tcb, ~0ull) } },
	{ .name = "snp-commit", .cmd = SNP_COMMIT },
	{ "vlek", SNP_VLEK_LOAD, .size = sizeof(struct sev_user_data_snp_vlek_load),
	  .buffers = { { "hashstick", offsetof(struct sev_user_data_snp_vlek_load, vlek_wrapped_address), 0, 432 } },
	  .wrong = { WRONG(sev_user_data_snp_vlek_load, "len-0", len, 0),
		     WRONG(sev_user_data_snp_vlek_load, "len-short", len, 15),
		     WRONG(sev_user_data_snp_vlek_load, "len-long", len, 17),
		     WRONG(sev_user_data_snp_vlek_load, "version-1", vlek_wrapped_version, 1),
		     WRONG(sev_user_data_snp_vlek_load, "reserved", rsvd[2], 1) } },
	{ .name = "command-13", .cmd = 13 },
	{ .name = "command-14", .cmd = 14 },
	{ .name = "command-max", .cmd = ~0u },
	{ .name = "factory-reset", .cmd = SEV_FACTORY_RESET },
};

static const struct {
	const char *name;
	uint32_t length;
} lengths[] = {
	{ "0", 0 }, { "1", 1 }, { "limit", LIMIT }, { "above-limit", LIMIT + 1 }, { "huge", ~0u },
};

static int files[3]; /* by O_RDONLY, O_WRONLY, O_RDWR */
static unsigned char blobs[2][ROOM];
/* What ends at `edge` is cut short; what lies in `frozen` can only be read. */
static char *edge, *frozen;
static long page;

static void *const wild = (void *)0x10;
static void *const kernel = (void *)0xffff888000001000;

/* The call that is being put together. */
static struct {
	const struct request *request;
	unsigned char data[128];
	void *at; /* where its structure goes: memory to write to, or an address that has none */
	int file;
	char name[64];
} call;

static char **patterns;

static int wanted(const char *name)
{
	int found = 0;

	for (char **pattern = patterns; *pattern; pattern++) {
		if (**pattern == '!' && !fnmatch(*pattern + 1, name, 0))
			return 0;
		found |= !fnmatch(*pattern, name, 0);
	}
	return found;
}

static int begin(const struct request *request, const char *variant, const char *value)
{
	snprintf(call.name, sizeof(call.name), "%s%s%s%s%s", request->name, *variant ? ":" : "", variant, *value ? "-" : "",
		 value);
	if (!wanted(call.name))
		return 0;
	call.request = request;
	call.file = files[O_RDWR];
	call.at = request->size ? call.data : NULL;
	memset(blobs, 0, sizeof(blobs));
	memset(call.data, 0, sizeof(call.data));
	for (int n = 0; n < 2 && request->buffers[n].name; n++) {
		const struct buffer *buffer = &request->buffers[n];

		*(uint64_t *)(call.data + buffer->address) = (uintptr_t)blobs[n];
		if (buffer->length)
			*(uint32_t *)(call.data + buffer->length) = buffer->len;
	}
	if (request->cmd == SNP_VLEK_LOAD)
		((struct sev_user_data_snp_vlek_load *)call.data)->len = sizeof(struct sev_user_data_snp_vlek_load);
	return 1;
}

static void hex(const void *bytes, size_t len)
{
	for (size_t i = 0; i < len; i++)
		printf("%s%02x", i ? "" : " ", ((const unsigned char *)bytes)[i]);
}

static void end(void)
{
	const struct request *request = call.request;
	struct sev_issue_cmd arg = { .cmd = request->cmd, .data = (uintptr_t)call.at, .error = UNTOUCHED };
	/* FNV-1a */
	uint64_t sum = 0xcbf29ce484222325;
	int done = ioctl(call.file, SEV_ISSUE_CMD, &arg), why = errno;
	/* What is there to be read. */
	int there = call.at && call.at != edge - 4 && call.at != wild && call.at != kernel;
	unsigned char *out = there && !(done < 0 && why == EFAULT) ? call.at : NULL;

	printf("@ioctl %s ", call.name);
	if (done >= 0)
		printf("0");
	else if (strerrorname_np(why))
		printf("%s", strerrorname_np(why));
	else /* the kernel's own ENOTSUPP */
		printf("E%d", why);
	printf(" error=%#x", arg.error);
	if (out) {
		hex(out, request->out);
		for (int n = 0; n < 2 && request->buffers[n].name; n++)
			if (request->buffers[n].length)
				hex(out + request->buffers[n].length, 4);
	}
	for (unsigned char *byte = blobs[0]; byte < blobs[1] + ROOM; byte++)
		sum = (sum ^ *byte) * 0x100000001b3;
	if (request->buffers[0].name)
		printf(" sum=%016lx", sum);
	if (!done && !strchr(call.name, ':') && request->buffers[0].name)
		hex(blobs[0], 64);
	putchar('\n');
}

static void move_to(char *to)
{
	call.at = memcpy(to, call.data, call.request->size);
}

/* The structure itself: where it lies, and who issues the command with which file. */
static void request_variants(const struct request *r)
{
	if (begin(r, "", ""))
		end();
	if (begin(r, "read-only", "")) {
		call.file = files[O_RDONLY];
		end();
	}
	if (begin(r, "write-only", "")) {
		call.file = files[O_WRONLY];
		end();
	}
	/* Somebody without any capability who was given the file. */
	if (begin(r, "nobody", "")) {
		if (seteuid(NOBODY))
			err(2, "seteuid");
		end();
		if (seteuid(0))
			err(2, "seteuid");
	}
	if (begin(r, "data", "kernel")) {
		call.at = kernel;
		end();
	}
	if (!r->size)
		return;
	/* As one asks for the lengths. */
	if (r->buffers[0].length && begin(r, "length", "")) {
		memset(call.data, 0, r->size);
		end();
	}
	if (begin(r, "data", "null")) {
		call.at = NULL;
		end();
	}
	if (begin(r, "data", "wild")) {
		call.at = wild;
		end();
	}
	if (begin(r, "data", "cut")) {
		memcpy(edge - 4, call.data, 4);
		call.at = edge - 4;
		end();
	}
	if (begin(r, "data", "frozen")) {
		if (mprotect(frozen, page, PROT_READ | PROT_WRITE))
			err(2, "mprotect");
		move_to(frozen);
		if (mprotect(frozen, page, PROT_READ))
			err(2, "mprotect");
		end();
	}
	if (begin(r, "data", "odd")) {
		memmove(call.data + 3, call.data, r->size);
		call.at = call.data + 3;
		end();
	}
}

static void buffer_variants(const struct request *r, int n)
{
	const struct buffer *buffer = &r->buffers[n];
	const struct {
		const char *name;
		void *address;
	} places[] = {
		{ "null", NULL }, { "wild", wild }, { "kernel", kernel }, { "cut", edge - 8 }, { "frozen", frozen },
		{ "odd", blobs[n] + 3 },
	};

	for (size_t i = 0; i < sizeof(places) / sizeof(*places); i++)
		if (begin(r, buffer->name, places[i].name)) {
			*(uint64_t *)(call.data + buffer->address) = (uintptr_t)places[i].address;
			end();
		}
	for (size_t i = 0; buffer->length && i < sizeof(lengths) / sizeof(*lengths); i++)
		if (begin(r, buffer->name, lengths[i].name)) {
			*(uint32_t *)(call.data + buffer->length) = lengths[i].length;
			end();
		}
	if (buffer->length && begin(r, buffer->name, "short")) {
		*(uint32_t *)(call.data + buffer->length) = buffer->len - 1;
		end();
	}
}

static void wrong_fields(const struct request *r)
{
	for (const struct wrong *wrong = r->wrong; wrong < r->wrong + 5 && wrong->name; wrong++)
		if (begin(r, wrong->name, "")) {
			memcpy(call.data + wrong->offset, &wrong->value, wrong->size);
			end();
		}
}

/* With `error` of the structure that can be `read` afterwards. */
static void bad_ioctl(const char *name, unsigned long request, void *arg, const struct sev_issue_cmd *read)
{
	const struct request ioctls = { .name = name };

	if (!begin(&ioctls, "", ""))
		return;
	printf("@ioctl %s %s", name, ioctl(files[O_RDWR], request, arg) < 0 ? strerrorname_np(errno) : "0");
	if (read)
		printf(" error=%#x", read->error);
	putchar('\n');
}

static void the_ioctl_itself(void)
{
	struct sev_issue_cmd arg = { .cmd = SEV_PLATFORM_STATUS, .error = UNTOUCHED };

	bad_ioctl("ioctl-number", _IOWR('S', 1, struct sev_issue_cmd), &arg, &arg);
	bad_ioctl("ioctl-size", _IOWR('S', 0, char[8]), &arg, &arg);
	bad_ioctl("ioctl-null", SEV_ISSUE_CMD, NULL, NULL);
	bad_ioctl("ioctl-wild", SEV_ISSUE_CMD, wild, NULL);
	bad_ioctl("ioctl-kernel", SEV_ISSUE_CMD, kernel, NULL);
	memcpy(edge - 8, &arg, 8);
	bad_ioctl("ioctl-cut", SEV_ISSUE_CMD, edge - 8, NULL);
	/* The command is carried out, but nobody gets to know its status. */
	arg.data = (uintptr_t)blobs;
	if (mprotect(frozen, page, PROT_READ | PROT_WRITE))
		err(2, "mprotect");
	memcpy(frozen, &arg, sizeof(arg));
	if (mprotect(frozen, page, PROT_READ))
		err(2, "mprotect");
	bad_ioctl("ioctl-frozen", SEV_ISSUE_CMD, frozen, NULL);
}

int main(int argc, char **argv)
{
	page = sysconf(_SC_PAGESIZE);
	patterns = argv + 1;
	if (argc < 2)
		errx(2, "usage: sev-ioctl PATTERN...");
	for (int access = O_RDONLY; access <= O_RDWR; access++) {
		files[access] = open("/dev/sev", access);
		if (files[access] < 0)
			err(2, "/dev/sev");
	}
	/* If a call is the kernel's end, one has seen which. */
	setlinebuf(stdout);
	edge = mmap(NULL, 2 * page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	frozen = mmap(NULL, page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (edge == MAP_FAILED || frozen == MAP_FAILED || mprotect(edge + page, page, PROT_NONE))
		err(2, "mmap");
	edge += page;

	the_ioctl_itself();
	for (const struct request *r = requests; r < requests + sizeof(requests) / sizeof(*requests); r++) {
		request_variants(r);
		for (int n = 0; n < 2 && r->buffers[n].name; n++)
			buffer_variants(r, n);
		wrong_fields(r);
	}
	return 0;
}
