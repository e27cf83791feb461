# Two commands matter: `make demo` shows the main job, `make test` runs everything that a change must pass.

GO ?= go

.PHONY: build test
build: ## bin/vring
	$(GO) build -o bin/vring ./cmd/vring

test:
	$(GO) vet ./...
	$(GO) test -race ./...
