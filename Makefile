# Two commands matter: `make demo` shows the main job, `make test` runs everything that a change must pass.

GO ?= go
FUZZTIME ?= 1000x
# Each directory with a go.mod: the product with its tests, and the benchmarks, whose plotting libraries nobody else needs.
MODULES = . $(patsubst %/go.mod,%,$(wildcard */go.mod))
each-module = for module in $(MODULES); do (cd $$module && $(1)) || exit 1; done
STATICCHECK = $(GO) run honnef.co/go/tools/cmd/staticcheck@v0.8.2

.PHONY: help build dist test demo demo-shell bench bench-nat bench-rings bench-latency bench-taps bench-adb fuzz soak endurance
.PHONY: steps install format vet lint packages unit arm64 integration

help: ## this list
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 14

build: ## bin/vring
	CGO_ENABLED=0 $(GO) build -o bin/vring ./cmd/vring

dist: ## what users install, into dist/: static binaries, Debian packages, images, bills of materials, checksums; DISTFLAGS="--arch amd64"
	@$(GO) run ./internal/dist $(DISTFLAGS)

test: ## everything that a change must pass; installs what is missing (Debian, as root)
	@if $(MAKE) --no-print-directory steps; then echo "make test: PASS"; else echo "make test: FAIL"; exit 1; fi

demo: install ## a Linux guest in QEMU on vring: its lease, a page out, a page in
	@$(GO) run ./integration/demo

demo-shell: install ## the same guest, at its shell
	@$(GO) run ./integration/demo -shell

bench: install ## everything that can be measured, in eleven minutes or so: three rounds of each; the targets below have more
	@bench/install.sh
	@failed=; run() { echo "== bench $$*"; (cd bench && $(GO) run . $$*) || failed="$$failed $$1"; }; \
		run nat --rounds 3; run rings --rounds 3 --length 300ms; run latency; run taps --rounds 3 --length 1s; \
		run adb --rounds 3 --guests 4; \
		echo "tables, charts and JSON are in bench/results"; \
		[ -z "$$failed" ] || { echo "make bench: failed:$$failed"; exit 1; }

bench-nat: install ## vring nat beside QEMU's user network, passt and the loopback; BENCHFLAGS="--help" or "--quick"
	@bench/install.sh
	@cd bench && $(GO) run . nat $(BENCHFLAGS)

bench-rings: ## frames per second beside DPDK's vhost driver; RINGFLAGS="--quick"
	@cd bench && $(GO) run . rings $(RINGFLAGS)

bench-latency: ## a frame's round trip through a ring, with polling and without, beside DPDK's vhost driver
	@cd bench && $(GO) run . latency

bench-taps: install ## vring tap beside testpmd's net_vhost and net_tap, QEMU's own TAP and a veth pair; TAPFLAGS="--only frames"
	@cd bench && $(GO) run . taps $(TAPFLAGS)

bench-adb: install ## a service in a guest by `adb forward` and by vring's own forward: speed, and what a client learns of each end; ADBFLAGS="--rounds 1 --guests 2"
	@bench/install.sh
	@cd bench && $(GO) run . adb $(ADBFLAGS)

fuzz: ## every fuzz target; FUZZTIME=10m for so long each, 100000x for so many executions
	@$(GO) run ./integration/fuzz $(FUZZTIME)

soak: install ## guests under random load, kills and mischief; SOAKFLAGS="--time 30m --guests 4"
	@$(GO) run ./integration/soak $(SOAKFLAGS)

ENDURANCEFLAGS ?= --time 30m
endurance: install ## the long forms, hours: memory hot-plug, six guests on a switch, clients with files of 1 GiB, forwards and rules that change for a minute, 1000 clients that mean no good, captures at full rate, releases made twice, 10000 spoilt requests to the control socket, 500 kills between changes, restarts, soak on each User-mode Linux, every fuzz target; ENDURANCEFLAGS="--time 1m" FUZZTIME=1m
	@failed=; run() { echo "== $$*"; "$$@" || failed=yes; }; \
		run env VRING_ENDURANCE=1 $(GO) test -count=1 -timeout 6h -v ./integration -run 'TestMemoryIsPluggedAndUnpluggedUnderTraffic|TestAFrontEndThatSendsIsServedAtFullSpeed|TestClientsInAGuestDoWhatTheyDoOnTheHost|TestChangesDisturbNobodyWhomTheyDoNotName|TestACaptureLetsAGuestGoOnThatSendsAtFullRate|TestWhatIsReleasedInstallsAndStarts|TestVringIsMeasuredBesideEachProgramThatIsInstalled|TestGuestsOnASwitch$$'; \
		run env VRING_ENDURANCE=1 $(GO) test -count=1 -v ./internal/control -run 'TestRequestsThatAreSpoiltAreAnswered|TestVeryManyConnectionsAtOnceAreNoHarm'; \
		run env VRING_ENDURANCE=1 $(GO) test -count=1 -v ./cmd/vring -run TestAKilledVringLeavesTheOldStateOrTheNewOne; \
		for uml in 6.1 7; do run $(GO) run ./integration/soak --uml $$uml $(ENDURANCEFLAGS); done; \
		run $(GO) run ./integration/fuzz $(if $(filter file,$(origin FUZZTIME)),10m,$(FUZZTIME)); \
		[ -z "$$failed" ] || { echo "make endurance: FAIL"; exit 1; }; echo "make endurance: PASS"

# What `make test` does, in this order.
steps:
	@for step in install format vet lint packages fuzz integration; do \
		start=$$(date +%s); echo "== $$step"; \
		$(MAKE) --no-print-directory $$step || { echo "== $$step failed"; exit 1; }; \
		echo "== $$step passed in $$(($$(date +%s) - start)) s"; \
	done

install: # Debian packages and a guest kernel, nothing if they are there
	@integration/install.sh

format: # all Go files of this tree, and what go.mod requires
	@unformatted=$$(gofmt -l $$(git ls-files '*.go')) && [ -z "$$unformatted" ] || { echo "run gofmt -w on:"; echo "$$unformatted"; exit 1; }
	@$(call each-module,$(GO) mod tidy -diff || { echo "run go mod tidy in $$module"; false; })

vet:
	@$(call each-module,$(GO) vet ./...)

lint:
	@$(call each-module,$(STATICCHECK) ./...)

packages: # both at once: each ends with a long test of one package, which keeps one processor busy
	@$(MAKE) --no-print-directory -j2 --output-sync=target unit arm64

# The longest package is named first, for go test begins with it: it keeps one processor busy as long as all others the second.
# A program with the race detector sleeps for a second before it ends, and tests start hundreds of programs.
unit: export GORACE = atexit_sleep_ms=0
unit: # with the race detector; house rules
	@$(GO) test -count=1 -timeout 40m -race ./netbackend/nat $$($(GO) list ./... | grep -v /integration) ./integration/lab/guest/... ./integration/lab/process
	@cd bench && $(GO) test -count=1 -timeout 40m -race $$($(GO) list ./... | grep -v /singlestep)
	@cd bench && $(GO) test -count=1 -timeout 40m ./singlestep # a program with the race detector waits for threads that are stopped

# Left out are the tests that the emulator is no judge of: it does not tell where a fault was, nor knows advice about dumps.
UNEMULATED = '^(TestGuardTurnsAFaultIntoAnError|TestMappingIsSharedAndStaysOutOfDumps|TestTruncatedFileIsAnErrorNotDeath|TestALogThatIsCutShortIsAFault|TestATruncatedMemoryFileEndsTheSessionNotTheProcess)$$'
# QEMU 7.2 ends now and then with "assertion failed: (cpu == current_cpu)" when signals hit threads in system calls: Go's own are left out.
arm64: export GODEBUG = asyncpreemptoff=1
arm64: # rings, guest memory, messages, worker and stubs, on an emulated processor
	@$(call each-module,GOARCH=arm64 CGO_ENABLED=0 $(GO) vet ./...)
	@GOARCH=arm64 CGO_ENABLED=0 $(GO) test -count=1 -exec qemu-aarch64 -skip $(UNEMULATED) ./virtqueue/... ./netbackend ./netbackend/stub ./netbackend/worker \
		./vhostuser/wire ./vhostuser/frontend

integration: # real front ends, one test at a time but for those that do not mind another guest
	@$(GO) test -count=1 -p 1 -timeout 80m ./integration/...
