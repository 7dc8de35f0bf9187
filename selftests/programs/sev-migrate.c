// SPDX-License-Identifier: GPL-2.0
/*
 * Launch a plain SEV guest and send it to another one, as two hosts would: here both are this platform, so
 * it is both sender and receiver. On the way: a secret that nobody has sealed, a signed report, a sending
 * that is called off, and a packet that was changed.
 */
#include <linux/psp-sev.h>
#include <sys/mman.h>
#include <unistd.h>
#include "launch.h"

#define PAGES 3
#define PAGE 4096
#define CERTIFICATE 2084

static unsigned char pdh[CERTIFICATE], chain[3 * CERTIFICATE], session[128], header[52], packet[PAGE], vendor[16];
static unsigned char *source, *target;

/* A step that may fail, with a number to show beside it. */
static int attempt(const char *name, unsigned int id, void *data, const unsigned int *number)
{
	struct kvm_sev_cmd cmd = { .id = id, .data = (uintptr_t)data, .sev_fd = sev };
	int result = ioctl(vm, KVM_MEMORY_ENCRYPT_OP, &cmd);

	printf("@migrate %s %s error=%#x", name, result < 0 ? strerrorname_np(errno) : "0", cmd.error);
	if (number)
		printf(" %u", *number);
	printf("\n");
	fflush(stdout);
	return result;
}

static void state(const char *name)
{
	struct kvm_sev_guest_status status = { 0 };

	attempt(name, KVM_SEV_GUEST_STATUS, &status, &status.state);
}

static void certificates(void)
{
	struct sev_user_data_pdh_cert_export export = {
		.pdh_cert_address = (uintptr_t)pdh, .pdh_cert_len = sizeof(pdh),
		.cert_chain_address = (uintptr_t)chain, .cert_chain_len = sizeof(chain),
	};
	struct sev_issue_cmd cmd = { .cmd = SEV_PDH_CERT_EXPORT, .data = (uintptr_t)&export };
	int result = ioctl(sev, SEV_ISSUE_CMD, &cmd);

	step("export", result, cmd.error);
}

static unsigned char *memory(void)
{
	void *pages = mmap(NULL, PAGES * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);

	step("memory", pages == MAP_FAILED ? -1 : 0, 0);
	return pages;
}

static void launched(void)
{
	struct kvm_sev_launch_start start = { 0 };
	struct kvm_sev_launch_update_data update = { .uaddr = (uintptr_t)source, .len = PAGES * PAGE };
	unsigned char measured[48];
	struct kvm_sev_launch_measure measure = { .uaddr = (uintptr_t)measured, .len = sizeof(measured) };
	struct kvm_sev_launch_secret secret = {
		.hdr_uaddr = (uintptr_t)header, .hdr_len = sizeof(header),
		.guest_uaddr = (uintptr_t)source, .guest_len = 16,
		.trans_uaddr = (uintptr_t)packet, .trans_len = 16,
	};

	issue("start", KVM_SEV_LAUNCH_START, &start);
	issue("update", KVM_SEV_LAUNCH_UPDATE_DATA, &update);
	issue("measure", KVM_SEV_LAUNCH_MEASURE, &measure);
	attempt("secret", KVM_SEV_LAUNCH_SECRET, &secret, NULL);
	issue("finish", KVM_SEV_LAUNCH_FINISH, NULL);
	state("launched");
}

/* The digest in it is what the trace has of LAUNCH_MEASURE. */
static void reported(void)
{
	unsigned char report[208] = { 0 };
	struct kvm_sev_attestation_report ask = { .mnonce = "nonce of anybody" };

	attempt("report-length", KVM_SEV_GET_ATTESTATION_REPORT, &ask, &ask.len);
	ask.uaddr = (uintptr_t)report;
	ask.len = sizeof(report);
	attempt("report", KVM_SEV_GET_ATTESTATION_REPORT, &ask, &ask.len);
	printf("@digest ");
	for (int at = 16; at < 48; at++)
		printf("%02x", report[at]);
	printf(" %.16s\n", (const char *)report);
}

static void start_sending(const char *name)
{
	struct kvm_sev_send_start start = { 0 };

	attempt("session-length", KVM_SEV_SEND_START, &start, &start.session_len);
	start = (struct kvm_sev_send_start){
		.pdh_cert_uaddr = (uintptr_t)pdh, .pdh_cert_len = sizeof(pdh),
		.plat_certs_uaddr = (uintptr_t)chain, .plat_certs_len = sizeof(chain),
		/* KVM wants some. Firmware looks at them only if the guest's policy says so. */
		.amd_certs_uaddr = (uintptr_t)vendor, .amd_certs_len = sizeof(vendor),
		.session_uaddr = (uintptr_t)session, .session_len = sizeof(session),
	};
	issue(name, KVM_SEV_SEND_START, &start);
}

static void send_page(int page)
{
	struct kvm_sev_send_update_data update = {
		.hdr_uaddr = (uintptr_t)header, .hdr_len = sizeof(header),
		.guest_uaddr = (uintptr_t)(source + page * PAGE), .guest_len = PAGE,
		.trans_uaddr = (uintptr_t)packet, .trans_len = sizeof(packet),
	};

	issue("send", KVM_SEV_SEND_UPDATE_DATA, &update);
	printf("@packet %s\n", memcmp(packet, source + page * PAGE, PAGE) ? "encrypted" : "plain");
}

static void receive_page(const char *name, int page)
{
	struct kvm_sev_receive_update_data update = {
		.hdr_uaddr = (uintptr_t)header, .hdr_len = sizeof(header),
		.guest_uaddr = (uintptr_t)(target + page * PAGE), .guest_len = PAGE,
		.trans_uaddr = (uintptr_t)packet, .trans_len = sizeof(packet),
	};

	attempt(name, KVM_SEV_RECEIVE_UPDATE_DATA, &update, NULL);
}

/* The other guest, which a session was made for. */
static int receiver(void)
{
	struct kvm_sev_receive_start receive = {
		.pdh_uaddr = (uintptr_t)pdh, .pdh_len = sizeof(pdh),
		.session_uaddr = (uintptr_t)session, .session_len = sizeof(session),
	};

	create_vm(KVM_X86_SEV_VM);
	issue("receive-start", KVM_SEV_RECEIVE_START, &receive);
	state("receiving");
	return vm;
}

int main(int argc, char **argv)
{
	struct kvm_sev_send_update_data lengths = { 0 };
	int from, to = -1;

	(void)argv;
	create_vm(KVM_X86_SEV_VM);
	from = vm;
	certificates();
	source = memory();
	target = memory();
	for (int at = 0; at < PAGES * PAGE; at++)
		source[at] = at / 7;
	launched();
	reported();

	start_sending("send-start");
	state("sending");
	attempt("send-cancel", KVM_SEV_SEND_CANCEL, NULL, NULL);
	state("stays");
	start_sending("send-start-again");
	attempt("header-length", KVM_SEV_SEND_UPDATE_DATA, &lengths, &lengths.hdr_len);
	if (argc > 1)
		to = receiver();
	for (int page = 0; page < PAGES; page++) {
		vm = from;
		send_page(page);
		vm = to;
		if (to >= 0)
			receive_page("receive", page);
	}
	packet[100] ^= 1;
	if (to >= 0)
		receive_page("changed", 0);

	vm = from;
	attempt("send-finish", KVM_SEV_SEND_FINISH, NULL, NULL);
	state("sent");
	if (to < 0)
		return 0;
	vm = to;
	attempt("receive-finish", KVM_SEV_RECEIVE_FINISH, NULL, NULL);
	state("arrived");
	printf("@memory %s\n", memcmp(source, target, PAGES * PAGE) ? "another" : "the same");
	return 0;
}
