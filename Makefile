# Every target works from a clean checkout with Go alone, but for race, which
# needs a C compiler.

STATICCHECK := honnef.co/go/tools/cmd/staticcheck@v0.8.2
MODULES     := . cmd/dlock e2e etcd
FUZZTIME    ?= 30s

.PHONY: help test race lint fuzz bench measure faults rivals demo

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## /{printf "  %-8s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

test: ## run the tests of all modules
	go test work

race: ## run the tests of all modules with the race detector
	go test -race work

lint: ## formatting, vet and staticcheck
	@unformatted=$$(gofmt -l $$(git ls-files '*.go')); \
	  if [ -n "$$unformatted" ]; then echo "gofmt would change:"; echo "$$unformatted"; exit 1; fi
	go vet work
	@for m in $(MODULES); do echo "staticcheck $$m"; (cd $$m && go run $(STATICCHECK) ./...) || exit 1; done

fuzz: ## run each fuzz target for FUZZTIME
	@for pkg in $$(go list ./...); do \
	  for f in $$(go test -list '^Fuzz' $$pkg | grep '^Fuzz'); do \
	    echo "$$f of $$pkg"; go test -run '^$$' -fuzz "^$$f\$$" -fuzztime $(FUZZTIME) $$pkg || exit 1; \
	  done; done

bench: ## run every benchmark
	go test -run '^$$' -bench . -benchmem ./...

measure: ## measure what docs/measurements.md says, at full size
	cd e2e && go test -run Measure -full -v -timeout 20m .

faults: ## put real processes under faults, at full size, with one summary; takes 20 minutes
	e2e/faults/run

rivals: ## compare with etcd and Redis locks, and write docs/benchmarks.md
	e2e/rivals/run

demo: ## see real processes exclude each other
	go run ./cmd/dlock demo
