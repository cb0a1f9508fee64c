# Each target sets up what it needs, on a machine that has Go, gcc, make, git and apt.

GO ?= go
export CGO_ENABLED := 1

# Seeds of the simulation in make test.
SIM_SEEDS ?= 180
# The first of them run with -race.
RACE_SEEDS := 6
# Tests whose files stand in memory, where there is room, do not wait for the disk. None needs one:
# what a power cut or a full disk does is played, see replicator/sim/disk. Compilers keep the disk.
IN_MEMORY = GOTMPDIR=$${GOTMPDIR:-$${TMPDIR:-/tmp}} TMPDIR=$$(.ci/memory)
# How long make soak goes on, and the seed that it begins with; 0: a random one.
SOAK_TIME ?= 20m
SOAK_SEED ?= 0
# How long make fuzz runs each target; make test gives it 5 s.
FUZZ_TIME  ?= 60s

.DEFAULT_GOAL := help
.PHONY: help demo build test compile check unit asan short-fuzz sim bench fuzz soak setup clean

help:
	@echo 'make demo    two devices and a master on this machine, from search to convergence'
	@echo 'make build   bin/masterd and bin/velosync'
	@echo 'make extension  dist/velosync.so: vector search for the sqlite3 shell, Python and others'
	@echo 'make test    everything that has to pass: formatting, vet, staticcheck, tests with -race,'
	@echo '             C with the address sanitizer, 5 s of each fuzz target, 180 simulated schedules of each kind'
	@echo 'make bench   the figures of the README, as a table'
	@echo 'make bench-vector  vector search beside sqlite-vec, usearch, FAISS and others, with a plot'
	@echo 'make fuzz    each fuzz target for FUZZ_TIME ($(FUZZ_TIME))'
	@echo 'make soak    the big scenarios and the random tests of the store at their full size, then all simulations for SOAK_TIME ($(SOAK_TIME)), from a random seed on'
	@echo 'make mutants breaks our own code, one place at a time, and demands that the simulation sees it; results: replicator/sim/MUTANTS.md'
	@echo 'make clean   remove what the others made'

setup:
	@.ci/setup

# DIR=folder indexes a folder of text in place of Go's documentation.
demo: build
	@bin/velosync demo $(DIR)

build:
	@.ci/setup gcc
	$(GO) build -o bin/ ./masterd ./replicator/velosync

# One after the other: the tests measure time limits, and two compilers of SQLite at once
# leave them none.
test: setup
	$(MAKE) compile
	$(MAKE) check
	$(MAKE) unit
	$(MAKE) asan
	$(MAKE) sim
	$(MAKE) short-fuzz
	@echo
	@echo 'all checks passed: gofmt, vet, staticcheck, tests with -race, address sanitizer,'
	@echo '$(SIM_SEEDS) simulated schedules, fuzzing, end-to-end runs of the built commands'

# SQLite, a minute of one core, is compiled in five ways by what follows: here on all cores,
# where no test waits for it.
SQLITE := github.com/mattn/go-sqlite3
compile: setup
	printf '%s\n' 'build $(SQLITE)' 'build -race $(SQLITE)' 'build -asan $(SQLITE)' 'build -tags sqlite_fts5 $(SQLITE)' \
		'test -c -fuzz . -o /dev/null ./sqlfuncs' | xargs -P "$$(nproc)" -I @ sh -c '$(GO) @'

check:
	@files=$$(gofmt -l .); if [ -n "$$files" ]; then echo "gofmt -w these: $$files"; exit 1; fi
	$(GO) vet ./...
	$(GO) tool staticcheck ./...
	$(GO) run ./.ci/structure

# The end-to-end runs are among these: replicator/velosync builds both commands and runs them.
# The simulation has few goroutines: some of its schedules do here, sim runs more without -race.
unit: setup
	$(IN_MEMORY) VELOSYNC_SIM_SEEDS=$(RACE_SEEDS) $(GO) test -race -timeout 30m ./...

asan:
	$(IN_MEMORY) $(GO) test -asan -timeout 30m ./sqlfuncs

# The other tests of the package, and the first seeds, ran in unit.
sim:
	@[ $(SIM_SEEDS) -gt $(RACE_SEEDS) ] || { echo 'SIM_SEEDS: want more than $(RACE_SEEDS), those make unit runs with -race'; exit 2; }
	$(IN_MEMORY) VELOSYNC_SIM_SEEDS=$$(($(RACE_SEEDS) + 1))-$(SIM_SEEDS) \
		$(GO) test -count=1 -timeout 40m -run '^Test(Schedules|Lives|Digests)$$' ./replicator/sim

short-fuzz:
	.ci/fuzz 5s

bench: setup
	$(GO) run ./replicator/bench

# Vector search beside others', see sqlfuncs/bench-vector/README.md: a table and a plot in
# dist/bench-vector. It installs the peers that can be had. BENCH_VECTOR takes its flags.
BENCH_VECTOR ?=
.PHONY: bench-vector bench-vector-quick
bench-vector:
	@.ci/setup gcc
	@sqlfuncs/bench-vector/setup $(BENCH_VECTOR)
	@mkdir -p bin dist/bench-vector
	cd sqlfuncs/bench-vector && $(GO) build -o ../../bin/bench-vector .
	bin/bench-vector -source sqlfuncs/bench-vector -out dist/bench-vector $(BENCH_VECTOR)

bench-vector-quick:
	$(MAKE) bench-vector BENCH_VECTOR='-quick $(BENCH_VECTOR)'

fuzz:
	.ci/fuzz $(FUZZ_TIME)

soak:
	VELOSYNC_FULL=1 $(GO) test -count=1 -timeout 0 -v -run 'TestScenario|TestRenumber_random' ./replicator
	VELOSYNC_FULL=1 $(GO) test -count=1 -timeout 0 -run 'TestSQLite|TestPostgres' ./masterd/store
	$(GO) run ./replicator/sim/soak -time $(SOAK_TIME) -seed $(SOAK_SEED)

# MUTANTS=expression: only those with such names.
.PHONY: mutants
mutants:
	@.ci/setup gcc
	$(GO) run ./replicator/sim/mutants -run '$(MUTANTS)'

clean:
	rm -rf bin dist
	$(GO) clean -testcache

# The vector functions, and the index, as an extension that any SQLite from 3.38 on can load:
# .load dist/velosync in the sqlite3 shell, load_extension in Python. It needs a C compiler only.
EXTENSION ?= dist/velosync.so
.PHONY: extension
extension: $(EXTENSION)

$(EXTENSION): $(wildcard sqlfuncs/*.c sqlfuncs/*.h)
	@mkdir -p $(@D)
	$(CC) -shared -fPIC -O2 -std=gnu11 -Wall -fvisibility=hidden -DVS_EXTENSION $(CFLAGS) -o $@ $(filter %.c,$^) -lm
