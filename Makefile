# SPDX-License-Identifier: GPL-2.0
# For people. The kernel's build system reads Kbuild instead.
#
# All work is done inside the root directory that scripts/setup makes (scripts/in-root).

SHELL := /bin/bash
DRIVER ?= ours
IN_ROOT := scripts/in-root
CARGO := $(IN_ROOT) cargo
PLATFORM := --manifest-path selftests/platform/Cargo.toml --locked

.PHONY: help setup platform modules kvm-amd demo shell test test-list check install uninstall clean
help:
	@echo "make demo              set up everything, boot the software SNP platform, load the driver, launch SNP guests"
	@echo "make demo DRIVER=intree    the same with Debian's own ccp.ko"
	@echo "make test [T=name]     all tests, or those whose name contains T"
	@echo "make test-list         names of all tests"
	@echo "make shell [DRIVER=intree] a root shell in a machine on the software SNP platform"
	@echo "make modules           build snp_host.ko and ccp.ko (to CCP_CACHE/modules)"
	@echo "make kvm-amd           build kvm-amd.ko from the kernel's own source"
	@echo "make platform          build the PSP model and the CPU model"
	@echo "make check             formatting and lints of everything"
	@echo "make install | uninstall   put the modules in the place of the in-tree driver on this machine, or go back"
	@echo "make setup             what all of the above need; run by them"
	@echo "make clean             remove what was built, keep the set-up"

setup:
	@scripts/setup

platform: setup
	@echo "platform: building the PSP model and the CPU model"
	@$(CARGO) build $(PLATFORM) --release --quiet

modules: setup
	@$(IN_ROOT) scripts/build-modules

kvm-amd: setup
	@$(IN_ROOT) scripts/kvm-amd/build

demo: platform $(if $(filter ours,$(DRIVER)),modules)
	@$(IN_ROOT) scripts/demo --driver $(DRIVER) $(DEMO_ARGS)

shell: platform $(if $(filter ours,$(DRIVER)),modules)
	@$(IN_ROOT) scripts/vm --driver $(DRIVER) --shell

test: platform modules
	@$(IN_ROOT) scripts/test $(T)

test-list: setup
	@$(IN_ROOT) scripts/test --list

check: setup
	@$(IN_ROOT) python3 -B -m pytest -p no:cacheprovider -q selftests/test_sources.py

install: # on the machine itself, for its running kernel
	@scripts/install

uninstall:
	@scripts/install --remove

clean:
	@. scripts/lib.sh && rm -rf "$$CCP_CACHE/modules" "$$CCP_CACHE/target" "$$CCP_CACHE/initramfs" "$$CCP_CACHE/runs"
