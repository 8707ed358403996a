# Everything a newcomer, a developer and CI need. Each target works from a clean clone.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c

# The rule engine of the shield is built without JSON schemas and without access to files.
export GOFLAGS := $(shell go env GOFLAGS) -tags=coraza.disabled_operators.validateSchema,no_fs_access

VERSION ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo unknown)
LDFLAGS := -s -w -X main.version=$(VERSION)
PKCS11_TAGS := coraza.disabled_operators.validateSchema,no_fs_access,pkcs11
BUILD   := CGO_ENABLED=0 go build -trimpath -ldflags '$(LDFLAGS)'
RACE_PACKAGES := ./audit/... ./authn/session/... ./certs/... ./gateway/...
FUZZTIME ?= 10s

.PHONY: build keyd-pkcs11 demo test check fuzz bench bench-flood bench-audit bench-policy soak clean

build: ## static binaries in bin/
	$(BUILD) -o bin/ ./cmd/...

keyd-pkcs11: ## bin/keyd-pkcs11: keyd for keys in a PKCS #11 token; needs a C compiler
	CGO_ENABLED=1 go build -trimpath -tags '$(PKCS11_TAGS)' -ldflags '$(LDFLAGS)' -o bin/keyd-pkcs11 ./cmd/keyd

demo: build ## everything on this machine; Ctrl-C stops it
	bin/demo

test: ## installs what the tests need, runs all of them, prints a summary
	test/run all

check: ## formatting, vet, static analysis, Rego
	test/run check

fuzz: ## a short burst of every fuzz target
	FUZZTIME=$(FUZZTIME) test/run fuzz

bench: build ## ratios against a bare httputil.ReverseProxy and other proxies in the same run; BENCH=REGEXP for a part of it
	test/run bench

bench-flood: build ## signed-in people's latency while 5,000 strangers' connections and 2,000 requests a second come in
	BENCH=Flood test/run bench

bench-audit: build ## the audit log and what auditors do with it; SALLYPORT_RECORDS=N for a smaller one
	test/run bench-audit

bench-policy: ## decisions, and what reviewers do with policies; SALLYPORT_RECORDS=N for a smaller replay
	test/run bench-policy

soak: ## the full counts of the crash, power-cut, reload and key tests, and ten minutes of full load
	test/run soak

clean:
	rm -rf bin .cache test/browser/node_modules test/oidcpeer/node_modules
