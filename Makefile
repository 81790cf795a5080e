# SPDX-License-Identifier: Apache-2.0
#
# Building Watchglass needs Go alone: what clang makes of the BPF sources is committed.

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

# The version that the binary tells comes from git, where git is willing to tell: not in a clone that
# belongs to another user.
BUILDVCS := $(shell git status >/dev/null 2>&1 && echo true || echo false)
GOFLAGS += -buildvcs=false
export GOFLAGS

INSTALL := internal/tools/install.sh
GOLANGCI := go tool -modfile=internal/tools/go.mod golangci-lint
BPF_SOURCES := $(wildcard bpf/*.bpf.c bpf/lib/*.h bpf/tests/*.bpf.c)
VM_KERNELS ?= 6.1,6.12
VM_PACKAGES ?= ./bpf/...
# Both hook plans promise the same, and all tests run under each, on one kernel: the plan that takes longer first. On the other
# kernel those run that share a tracer; to open and to close one of their own takes most of an emulated machine's time (VM_BRIEF=
# runs all everywhere). Of tracers that take over from each other those run that differ by the plan (VM_SKIP= runs all).
VM_PLANS ?= trampoline,tracepoint
VM_SKIP ?= trampoline:^TestKernel(Pins|PinsOpens|PinsHeld|PinsWithoutPlace|PinsForeign|PinsRepeats|PinsMoving|Hold|LabelsTakeover|PlacesPins|PlacesPinnedAtRoot|SyscallsTold)$$
VM_BRIEF ?= 6.1:trampoline,6.12:tracepoint
# On how many machines of each kernel and plan its tests are run, a share of them on each: as many machines run at a time as
# the processors can be busy with, and the last ones should not be long.
VM_SHARES ?= 3
# What is the architecture's: registers, numbers of calls, 32-bit programs, kernel objects. The rest is the same objects again.
VM_ARM64 ?= ^TestKernel(Plan|FileOpen|FileChange|FileMap|Network|Notable|Notable32|DNS)$$|^TestCallTables$$
VM_ARM64_KERNELS ?= 6.12
VM_ARM64_PLAN ?= tracepoint
# Attempts to act unseen: of which names (VM_ADVERSARY=fork_bomb; all of them), on which kernel, and under which plan.
VM_ADVERSARY ?=
VM_ADVERSARY_KERNELS ?= 6.12
VM_ADVERSARY_PLANS ?= trampoline
FUZZTIME ?= 20s
# Sessions at once, and the long form: so many sandboxes do benign work for so long.
CORPUS_PARALLEL ?= 2
CORPUS_SANDBOXES ?= 16
CORPUS_LENGTH ?= 31m
# Of amd64 and arm64 the one that this machine is not.
OTHER_ARCH := $(if $(filter aarch64 arm64,$(shell uname -m)),amd64,arm64)

.PHONY: help
help: ## Show this help
	@awk 'BEGIN {FS = ":.*## "} /^[a-z0-9-]+:.*## / {printf "  %-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.PHONY: demo
demo: ## Install what is missing, build, and watch a scripted agent at work in a sandbox
	@$(INSTALL) go demo
	@$(MAKE) --no-print-directory build
	@test/demo/demo.sh

.PHONY: build
build: ## Build bin/watchglass
	@$(INSTALL) go
	go build -trimpath -ldflags '-s -w' -buildvcs=$(BUILDVCS) -o bin/watchglass ./cmd/watchglass

.PHONY: test
test: ## Run every level of tests that this machine can, and say what it could not
	@test/levels.sh

.PHONY: test-unit
test-unit: ## Unit tests, with the race detector; need nothing but Go and a C compiler
	go test -race -skip '^TestKernel' ./...

.PHONY: test-kernel
test-kernel: ## Kernel tests: probes and the commands on this kernel; need root
	go test -count=1 -p 1 -timeout 30m -run '^TestKernel' ./...

.PHONY: test-vm
test-vm: ## The probes' kernel tests on other kernels, under qemu (VM_KERNELS=6.1,6.12) and both hook plans, and some on arm64
	@$(INSTALL) vm
	go run ./test/vm -kernel $(VM_KERNELS) -plan $(VM_PLANS) -skip '$(VM_SKIP)' -brief '$(VM_BRIEF)' -shares $(VM_SHARES) $(VM_PACKAGES)
	go run ./test/vm -arch arm64 -kernel $(VM_ARM64_KERNELS) -plan $(VM_ARM64_PLAN) -run '$(VM_ARM64)' ./bpf & arm64=$$!; \
		go run ./test/vm -kernel 6.12 -run '^TestKernelClockJump$$' ./collector || failed=1; \
		wait $$arm64 && [[ -z $${failed:-} ]]

.PHONY: test-vm-arm64
test-vm-arm64: ## All of the probes' kernel tests on arm64 kernels, under qemu (VM_ARM64_KERNELS=6.1,6.12)
	@$(INSTALL) vm
	go run ./test/vm -arch arm64 -kernel $(VM_ARM64_KERNELS) -plan $(VM_ARM64_PLAN) -run '^TestKernel|^TestCallTables$$' $(VM_PACKAGES)

.PHONY: test-vm-adversary
test-vm-adversary: ## What acts unseen, in an emulated machine under the plan trampoline (VM_ADVERSARY=NAME): takes long, no part of test
	@$(INSTALL) go race corpus vm
	@rm -rf tmp/vm-adversary && mkdir -p tmp
	test/adversary/machine.sh tmp/vm-adversary
	go run ./test/vm -v -kernel $(VM_ADVERSARY_KERNELS) -plan $(VM_ADVERSARY_PLANS) -limit 2h -tree tmp/vm-adversary \
		-env WATCHGLASS_ADVERSARY_TOOLS=/adversary -run '^TestKernelAdversary$$/($(VM_ADVERSARY))' ./test/adversary
	@rm -rf tmp/vm-adversary

.PHONY: test-e2e
test-e2e: ## End to end: real agents against a scripted model, a real Prometheus; need root
	@$(INSTALL) e2e
	WATCHGLASS_E2E=1 go test -count=1 -p 1 -timeout 20m ./test/e2e/... ./dashboards

# An input that finds new code is minimised for a minute unless told otherwise, in which nothing else is tried.
.PHONY: fuzz
fuzz: ## Run every fuzz target for FUZZTIME (20s)
	@test/fuzz.sh $(FUZZTIME)

.PHONY: bench
bench: ## Benchmarks: in-kernel costs, slowdowns, events a second (writes docs/performance.md); need root
	@$(INSTALL) go
	go run ./test/bench

.PHONY: bench-node
bench-node: ## What the rest of the node pays, in instructions of emulated machines (its section of docs/performance.md)
	@$(INSTALL) go vm
	go run ./test/bench -node

.PHONY: bench-reliability
bench-reliability: ## What is lost when things go wrong, in the long form (writes docs/reliability.md); needs root
	@$(INSTALL) e2e
	@rm -rf tmp/reliability && mkdir -p tmp/reliability
	WATCHGLASS_E2E=1 WATCHGLASS_RELIABILITY=long WATCHGLASS_RELIABILITY_FIGURES=$(CURDIR)/tmp/reliability \
		go test -count=1 -v -timeout 60m ./test/e2e/reliability

.PHONY: bench-join
bench-join: ## How well real agents' calls are joined to processes (writes docs/attribution.md); need root, node
	@$(INSTALL) go e2e
	go run ./test/attribution/bench

.PHONY: corpus
corpus: ## Execute the labelled sessions, attacks and benign work, and write docs/detection.md; needs root
	@$(INSTALL) go kernel corpus
	go test -count=1 -timeout 120m -v -run '^TestKernelCorpus$$' ./test/corpus -page $(CURDIR)/docs/detection.md \
		-workers $(CORPUS_PARALLEL) -sandboxes $(CORPUS_SANDBOXES) -length $(CORPUS_LENGTH)

.PHONY: generate
generate: ## Regenerate the BPF objects and docs/telemetry.md; needs clang-19
	@$(INSTALL) go generate
	go generate ./...

.PHONY: generate-check
generate-check: generate ## Fail when regenerating changes what is committed
	@git diff --exit-code --stat -- . || { echo "generated files are stale: run make generate and commit"; exit 1; }

.PHONY: lint
lint: ## golangci-lint, clang-format, and whether it builds for the other architecture
	@$(INSTALL) go lint
	$(GOLANGCI) run --allow-serial-runners ./...
	CGO_ENABLED=0 GOARCH=$(OTHER_ARCH) go vet ./...
	clang-format-19 --dry-run -Werror $(BPF_SOURCES)

.PHONY: format
format: ## Rewrite Go and C sources in their style
	$(GOLANGCI) fmt ./...
	clang-format-19 -i $(BPF_SOURCES)

.PHONY: check
check: generate-check lint test ## All that CI runs but the fuzzing

.PHONY: clean
clean: ## Remove what builds and tests leave behind
	rm -rf bin tmp .cache
