// SPDX-License-Identifier: GPL-2.0
/*
 * The switches of planted bugs (scripts/mutate): which one is on, which places have been executed, and,
 * on a kernel with KUnit, a way to run a single test of a module that is loaded. Built with the modules, and
 * loaded before them.
 */
#include <kunit/test.h>
#include <linux/bitmap.h>
#include <linux/bitops.h>
#include <linux/debug_locks.h>
#include <linux/module.h>
#include <linux/notifier.h>
#include <linux/panic.h>
#include <linux/timer.h>

static unsigned int on;
module_param(on, uint, 0644);
MODULE_PARM_DESC(on, "number of the bug that is switched on");

/* A page, which the host finds in the machine's memory by its mark (scripts/vmlib/switches.py). */
#define MARK_LENGTH 32
static struct {
	char mark[MARK_LENGTH];
	unsigned long words[(PAGE_SIZE - MARK_LENGTH) / sizeof(unsigned long)];
} places __aligned(PAGE_SIZE) = { .mark = "places of bugs, executed" };
#define BITS (sizeof(places.words) * BITS_PER_BYTE)

bool mutant_is_on(unsigned int id);
bool mutant_is_on(unsigned int id)
{
	if (id < BITS && !test_bit(id, places.words))
		set_bit(id, places.words);
	return READ_ONCE(on) == id;
}
EXPORT_SYMBOL_GPL(mutant_is_on);

static int reached_get(char *buffer, const struct kernel_param *kp)
{
	int length = min(find_last_bit(places.words, BITS) + 1, BITS);

	return scnprintf(buffer, PAGE_SIZE, "%*pb\n", length, places.words);
}

static int reached_set(const char *value, const struct kernel_param *kp)
{
	bitmap_zero(places.words, BITS);
	return 0;
}

static const struct kernel_param_ops reached_ops = { .get = reached_get, .set = reached_set };
module_param_cb(reached, &reached_ops, NULL, 0644);
MODULE_PARM_DESC(reached, "mask of the places that were executed; anything written to it clears it");

#if IS_BUILTIN(CONFIG_KUNIT)
static struct module *modules[2];
static char verdict[128];

static int on_module(struct notifier_block *nb, unsigned long state, void *data)
{
	struct module *mod = data;

	for (int i = 0; i < ARRAY_SIZE(modules); i++) {
		if (state == MODULE_STATE_LIVE && mod->num_kunit_suites && !modules[i]) {
			modules[i] = mod;
			break;
		}
		if (state == MODULE_STATE_GOING && modules[i] == mod)
			modules[i] = NULL;
	}
	return NOTIFY_DONE;
}

static struct notifier_block block = { .notifier_call = on_module };

/* The n-th test of a module, and its suite. */
static struct kunit_case *find(const char *module, unsigned int n, struct kunit_suite **suite)
{
	struct kunit_case *test;

	for (int i = 0; i < ARRAY_SIZE(modules); i++) {
		if (!modules[i] || strcmp(modules[i]->name, module))
			continue;
		for (int s = 0; s < modules[i]->num_kunit_suites; s++) {
			*suite = modules[i]->kunit_suites[s];
			kunit_suite_for_each_test_case((*suite), test) {
				if (!n--)
					return test;
			}
		}
	}
	return NULL;
}

/* The kernel's own checks report once, and lockdep is off then. */
static bool reported(void)
{
	return !debug_locks || test_taint(TAINT_WARN) || test_taint(TAINT_DIE) || test_taint(TAINT_BAD_PAGE) ||
	       test_taint(TAINT_SOFTLOCKUP);
}

static int reported_get(char *buffer, const struct kernel_param *kp)
{
	return scnprintf(buffer, PAGE_SIZE, "%c\n", reported() ? 'Y' : 'N');
}

static const struct kernel_param_ops reported_ops = { .get = reported_get };
module_param_cb(reported, &reported_ops, NULL, 0444);
MODULE_PARM_DESC(reported, "whether one of the kernel's own checks has reported something");

/*
 * A test that takes too long goes on without its bug: most come to an end then. One that does not ends its
 * machine, and not only its own thread, which may never look at anything again.
 */
#define SECONDS_WITHOUT 5
static bool late;

static void no_end(struct timer_list *timer)
{
	if (late)
		panic("a test does not end");
	late = true;
	WRITE_ONCE(on, 0);
	mod_timer(timer, jiffies + SECONDS_WITHOUT * HZ);
}
static DEFINE_TIMER(timer, no_end);

static int run_set(const char *value, const struct kernel_param *kp)
{
	/* A suite of one test. */
	static struct kunit_suite alone;
	static struct kunit_case tests[2];
	struct kunit_suite *suite, *const suites[] = { &alone };
	struct kunit_case *test;
	const char *outcome;
	char module[64];
	unsigned int n, seconds;
	ktime_t start;
	int error;

	if (sscanf(value, "%63s %u %u", module, &n, &seconds) != 3)
		return -EINVAL;
	test = find(module, n, &suite);
	if (!test)
		return -ENOENT;
	/* Its name is constant. */
	memcpy((void *)&alone, suite, sizeof(alone));
	tests[0] = *test;
	alone.test_cases = tests;
	start = ktime_get();
	late = false;
	mod_timer(&timer, jiffies + seconds * HZ);
	error = __kunit_test_suites_init(suites, 1, true);
	timer_delete_sync(&timer);
	if (error)
		return error;
	outcome = reported() ? "reported" : late ? "late" : tests[0].status == KUNIT_FAILURE ? "failed" : "ok";
	scnprintf(verdict, sizeof(verdict), "%s %s %lld", outcome, test->name, ktime_us_delta(ktime_get(), start));
	return 0;
}

static int verdict_get(char *buffer, const struct kernel_param *kp)
{
	return scnprintf(buffer, PAGE_SIZE, "%s\n", verdict);
}

static const struct kernel_param_ops run_ops = { .get = verdict_get, .set = run_set };
module_param_cb(run, &run_ops, NULL, 0644);
MODULE_PARM_DESC(run, "module, number of a test, most seconds; read: ok, failed, late or reported, name, microseconds");

static int __init mutants_init(void)
{
	return register_module_notifier(&block);
}

static void __exit mutants_exit(void)
{
	unregister_module_notifier(&block);
}
module_init(mutants_init);
module_exit(mutants_exit);
#endif

MODULE_DESCRIPTION("Switches of planted bugs");
MODULE_LICENSE("GPL");
