# SPDX-License-Identifier: GPL-2.0
# For people. The kernel's build system reads Kbuild instead.
#
# All work is done inside the root directory that scripts/setup makes (scripts/in-root).

SHELL := /bin/bash
DRIVER ?= ours
KERNEL ?= stock
IN_ROOT := scripts/in-root
CARGO := $(IN_ROOT) cargo
PLATFORM := --manifest-path selftests/platform/Cargo.toml --locked
DEBUG_KERNEL := $(if $(filter debug,$(KERNEL)),debug-kernel)
# K=RELEASE: another kernel of Debian's than the one that set-up chose.
ifdef K
export CCP_KERNEL := $(K)
endif

.PHONY: help setup platform platform-install platform-image modules debug-kernel debug-modules kunit kvm-amd demo shell test test-long test-list bench coverage mutants mutants-long check host-check try-kernel deb install uninstall clean
help:
	@echo "make demo              set up everything, boot the software SNP platform, load the driver, launch and run SNP guests"
	@echo "make demo DRIVER=intree    the same with Debian's own ccp.ko; KERNEL=debug: on the debug kernel"
	@echo "make test [T=name]     all tests, or those whose name contains T"
	@echo "make test-long [T=name]    the same, but whole matrices instead of samples (hours)"
	@echo "make test-list         names of all tests"
	@echo "make coverage [T=name] which lines of the modules do the tests execute?"
	@echo "make mutants [T=file]  plant small bugs in the modules, one at a time, and say which no test notices (a sample, 40 minutes)"
	@echo "make mutants-long      all of them, and those of selftests/mutants with the test that is to catch each (hours)"
	@echo "make bench [T=name]    what the platform and the drivers cost: boots, the RMP, exits, OVMF, counts (BENCH_ARGS='--pairs N --json FILE')"
	@echo "make kunit [T=name]    the modules' KUnit suites, in the debug kernel"
	@echo "make shell [DRIVER=intree] [KERNEL=debug] a root shell in a machine on the software SNP platform"
	@echo "make modules           build snp_host.ko and ccp.ko (to CCP_CACHE/modules; KERNEL=debug: modules-debug)"
	@echo "make debug-kernel      build the debug kernel: KUnit, KASAN, UBSAN, lockdep, kmemleak, fault injection"
	@echo "make kvm-amd           build a kvm-amd.ko that uses our hooks, from the kernel's own source with our patches"
	@echo "make platform          build the PSP model and the CPU model"
	@echo "make platform-install [PREFIX=/usr/local]    install snp-qemu and snp-host, where Debian trixie has QEMU 11.1"
	@echo "make try-kernel [K=RELEASE]   build the modules for another kernel of Debian's, the newest if none is named, and run the demo on it"
	@echo "                       K=RELEASE with modules, demo, test, shell, kvm-amd: for and on that kernel (test: what needs no debug kernel)"
	@echo "make platform-image    a container image with snp-host and all that it needs (to CCP_CACHE/snp-host.tar; OUT=FILE)"
	@echo "make check             formatting and lints of everything"
	@echo "make deb               Debian packages of modules, tools and source (to CCP_CACHE/deb; DEB_KERNELS='RELEASE...' HEADERS=1 SIGN_KEY= SIGN_CERT=)"
	@echo "make host-check        can this machine be an SNP host? Says why not, and what to do (ARGS=--load: tries it)"
	@echo "make install | uninstall   put the modules in the place of the in-tree driver on this machine, or go back"
	@echo "make setup             what all of the above need; run by them"
	@echo "make clean             remove what was built, keep the set-up"

setup:
	@scripts/setup

platform: setup
	@echo "platform: building the PSP model and the CPU model"
	@$(CARGO) build $(PLATFORM) --release --quiet

platform-install: platform
	@DESTDIR=$(DESTDIR) scripts/platform-install $(PREFIX)

platform-image: platform
	@$(IN_ROOT) scripts/platform-image $(OUT)

modules: setup $(DEBUG_KERNEL)
	@$(IN_ROOT) scripts/build-modules --kernel $(KERNEL)

debug-kernel: setup
	@$(IN_ROOT) scripts/debug-kernel

debug-modules: debug-kernel
	@$(IN_ROOT) scripts/build-modules --kernel debug

kunit: debug-modules
	@$(IN_ROOT) scripts/kunit $(T)

kvm-amd: modules
	@$(IN_ROOT) scripts/kvm-amd/build --kernel $(KERNEL)

demo: platform $(DEBUG_KERNEL) $(if $(filter ours,$(DRIVER)),modules)
	@$(IN_ROOT) scripts/demo --driver $(DRIVER) --kernel $(KERNEL) $(DEMO_ARGS)

shell: platform $(DEBUG_KERNEL) $(if $(filter ours,$(DRIVER)),modules)
	@$(IN_ROOT) scripts/vm --driver $(DRIVER) --kernel $(KERNEL) --shell

# The debug kernel of another kernel takes long to build; 'make debug-modules K=RELEASE' does.
test: platform modules $(if $(K),,debug-modules)
	@$(IN_ROOT) scripts/test $(T)

test-long: platform modules debug-modules
	@$(IN_ROOT) scripts/test --long $(T)

test-list: setup
	@$(IN_ROOT) scripts/test --list

bench: platform modules
	@$(IN_ROOT) scripts/bench $(BENCH_ARGS) $(T)

coverage: platform modules debug-modules
	@$(IN_ROOT) scripts/coverage $(T)

mutants: platform debug-kernel
	@$(IN_ROOT) scripts/mutate --minutes 25 --stages host,kunit $(T)
	@$(IN_ROOT) scripts/mutate --minutes 15 --stages machines $(T)

mutants-long: platform debug-kernel
	@$(IN_ROOT) scripts/mutate
	@$(IN_ROOT) scripts/mutants

check: setup
	@$(IN_ROOT) python3 -B -m pytest -p no:cacheprovider -q selftests/test_sources.py

host-check: setup # on the machine itself
	@$(IN_ROOT) tools/host-check/build
	@$(CARGO) build --manifest-path selftests/launcher/Cargo.toml --locked --release --quiet
	@. scripts/lib.sh && "$$CCP_CACHE/target/release/host-check" $(ARGS)

try-kernel:
	@scripts/try-kernel $(K)

deb: modules platform
	@$(IN_ROOT) scripts/deb $(DEB_KERNELS)

install: # on the machine itself, for its running kernel
	@scripts/install

uninstall:
	@scripts/install --remove

clean:
	@. scripts/lib.sh && rm -rf "$$CCP_CACHE/modules" "$$CCP_CACHE/modules-debug" "$$CCP_CACHE"/for-* "$$CCP_CACHE/deb" "$$CCP_CACHE/target" "$$CCP_CACHE/initramfs" "$$CCP_CACHE/mutants" "$$CCP_CACHE/coverage" "$$CCP_CACHE/runs"
