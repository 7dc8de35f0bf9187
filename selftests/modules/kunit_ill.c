// SPDX-License-Identifier: GPL-2.0
/*
 * A KUnit suite in which tests go wrong in every way: one fails, one has an Oops, and one never ends, which nothing
 * but the end of the machine changes. (Behind the Oops, which comes with interrupts disabled, the kernel may not get
 * that far.)
 */
#include <kunit/test.h>
#include <linux/delay.h>
#include <linux/module.h>

static void passes(struct kunit *test)
{
	KUNIT_EXPECT_EQ(test, 1, 1);
}

static void skips(struct kunit *test)
{
	kunit_skip(test, "there is nothing to do");
}

static void fails(struct kunit *test)
{
	KUNIT_EXPECT_EQ_MSG(test, 1, 2, "one is not two");
}

static void oopses(struct kunit *test)
{
	WRITE_ONCE(*(volatile int *)8, 1);
}

static void hangs(struct kunit *test)
{
	for (;;)
		msleep(1000);
}

/* Without KUNIT_CASE(): selftests find the names where Rust's #[kunit_tests] puts them (vmlib/module_file.py). */
static struct kunit_case ILL_TEST_CASES[] = {
	{ .run_case = passes, .name = "passes" },
	{ .run_case = skips, .name = "skips" },
	{ .run_case = fails, .name = "fails" },
	{ .run_case = oopses, .name = "oopses" },
	{ .run_case = hangs, .name = "hangs" },
	{ .run_case = passes, .name = "never_runs" },
	{}
};

static struct kunit_suite ill_suite = {
	.name = "ill",
	.test_cases = ILL_TEST_CASES,
};
kunit_test_suite(ill_suite);

MODULE_DESCRIPTION("KUnit tests that go wrong");
MODULE_LICENSE("GPL");
