# Two commands do all the set-up on a fresh machine: `make run` and `make test`.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
READY  := $(VENV)/.installed

.DEFAULT_GOAL := help
.PHONY: help install run demo test long coverage docs variants topologies promises lint format model chaos failovers increments histories memory mutants peers bench bench-compare chart capacity lock oldest prometheus redis rabbitmq faketime helm clean

help: ## show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-13s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

install: $(READY) ## create .venv and install what requirements.lock says

$(READY): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed: make PYTHON=/path/to/python3.11 …")'
	@echo "creating $(VENV)"
	@$(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --disable-pip-version-check --require-hashes -r requirements.lock > $(VENV)/install.log 2>&1 \
	  & pip=$$!; all=$$(grep -c '^[a-z].*==' requirements.lock); \
	  line='installing requirements.lock: %s of about %s packages fetched'; every=5; form="$$line\\n"; \
	  [ ! -t 1 ] || { every=1; form="\\r$$line "; }; \
	  while kill -0 $$pip 2>/dev/null; do printf "$$form" "$$(grep -c '^Collecting' $(VENV)/install.log)" "$$all"; sleep $$every; \
	  done; wait $$pip || { tail -20 $(VENV)/install.log; exit 1; }; echo "installed requirements.lock"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch $@

run: install ## start the whole system on this machine (Ctrl-C stops it)
	@exec $(BIN)/writebehind up

demo: install ## send a real data set through the system and compare MongoDB with what was acknowledged
	$(BIN)/writebehind demo

# Some hundred processes are started: where none may write __pycache__, each would compile the package anew, and each
# process of pytest the tests; so they would in a new copy, all at the same time.
test long topologies promises compiled: export PYTHONDONTWRITEBYTECODE :=
.PHONY: compiled
compiled: install
	@$(BIN)/python -m compileall -q writebehind web tasks
	@[ -d tests/unit/__pycache__ ] || { for some in tests/unit "tests/acceptance tests/chaos tests/integration"; do \
	  $(BIN)/python -m pytest --collect-only -qq $$some > /dev/null & done; wait; }

# Which tests stay together and which begin first: tests/scheduling.py.
test: compiled ## run the tests; the servers they need are started and stopped by them
	$(BIN)/python -m pytest --numprocesses 6 --dist loadscope --no-loadscope-reorder -m "not long"

long: compiled ## run the tests that `make test` leaves out, as they take minutes and guard what others guard too
	$(BIN)/python -m pytest --numprocesses 3 --dist loadscope --no-loadscope-reorder -m "long or hypothesis" --hypothesis-profile long

coverage: install ## run the unit and integration tests, and say which lines and branches they reach
	rm -rf .coverage && mkdir .coverage
	$(BIN)/coverage run -m pytest --numprocesses 3 --dist loadscope tests/unit tests/integration
	$(BIN)/coverage combine --quiet
	$(BIN)/coverage html --quiet
	$(BIN)/coverage report

# The site is built by packages that nothing else needs: they have a lock of their own, with the same versions.
docs: install ## build the documentation site in site/; a warning is an error
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements-docs.lock
	$(BIN)/sphinx-build --fail-on-warning --keep-going --fresh-env --quiet docs site
	@echo "site/index.html"

lint: install ## formatting, style, types, which package may import which, and the workflow files
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/zizmor --offline --quiet --strict-collection .github

format: install ## format the code and mend what can be mended
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# Debian's package, without installing it: no service is started, and nobody has to be root.
prometheus: ## fetch Prometheus and promtool for the tests of deploy/ into .prometheus, on Debian and Ubuntu
	@rm -rf .prometheus && mkdir .prometheus && cd .prometheus && apt-get download --quiet --quiet prometheus \
	  && dpkg-deb --extract prometheus_*.deb . && rm prometheus_*.deb && usr/bin/promtool --version

# As Prometheus.
faketime: ## fetch libfaketime for the tests of clocks that step or are behind into .faketime, on Debian and Ubuntu
	@rm -rf .faketime && mkdir .faketime && cd .faketime && apt-get download --quiet --quiet libfaketime \
	  && dpkg-deb --extract libfaketime_*.deb . && rm libfaketime_*.deb && ls usr/lib/*/faketime/libfaketime.so.1

# As Prometheus. The program is one with its tools, and goes by its name; the loader is told of its libraries.
redis: ## fetch Redis for the tests on it into .redis, on Debian and Ubuntu
	@rm -rf .redis && mkdir .redis && cd .redis && apt-get download --quiet --quiet redis-tools liblzf1 libjemalloc2 \
	  && for one in *.deb; do dpkg-deb --extract $$one . || exit; done && rm -- *.deb \
	  && ln -s redis-check-rdb usr/bin/redis-server \
	  && printf '#!/bin/sh\nLD_LIBRARY_PATH=%s exec %s "$$@"\n' "$$(echo "$$PWD"/usr/lib/*-linux-gnu*)" \
	    "$$PWD/usr/bin/redis-server" > redis-server && chmod +x redis-server && ./redis-server --version \
	  || { rm -rf "$(CURDIR)/.redis"; exit 1; }

ERLANG := base asn1 crypto public-key mnesia runtime-tools ssl eldap inets os-mon parsetools syntax-tools tools xmerl

# As Prometheus. Erlang's script names the place where Debian installs it.
rabbitmq: ## fetch RabbitMQ and Erlang for the tests with this broker into .rabbitmq, on Debian and Ubuntu; python -m tests.rabbitmq runs it
	@rm -rf .rabbitmq && mkdir .rabbitmq && cd .rabbitmq \
	  && apt-get download --quiet --quiet rabbitmq-server $(ERLANG:%=erlang-%) \
	  && for one in *.deb; do dpkg-deb --extract $$one . || exit; done && rm -- *.deb \
	  && sed -i 's|ROOTDIR=/usr/lib/erlang$$|ROOTDIR="$(CURDIR)/.rabbitmq/usr/lib/erlang"|' usr/lib/erlang/bin/erl

# Helm is in no registry of packages as a program: Go builds it in a minute or two, once for each user.
HELM_VERSION := v3.19.5
HELM_CACHE := $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/writebehind/helm-$(HELM_VERSION)

helm: ## build Helm for the tests of the chart, where Go is; it is kept in the user's cache, and .helm leads to it
	@if [ ! -x "$(HELM_CACHE)/helm" ]; then rm -rf "$(HELM_CACHE).new" \
	  && GOBIN="$(HELM_CACHE).new" go install -ldflags=-s helm.sh/helm/v3/cmd/helm@$(HELM_VERSION) \
	  && rm -rf "$(HELM_CACHE)" && mv "$(HELM_CACHE).new" "$(HELM_CACHE)"; fi
	@mkdir -p .helm && ln -sfn "$(HELM_CACHE)" .helm/bin && .helm/bin/helm version --short

variants: install ## run the acceptance tests where servers fork, Redis speaks TLS, documents are large, and all of it
	@for variant in preload prefork tls large preload,prefork,tls,large; do \
	  echo "VARIANT=$$variant"; \
	  VARIANT=$$variant $(BIN)/python -m pytest --numprocesses 2 --dist loadscope tests/acceptance \
	    --ignore-glob "*/test_variants.py" --ignore-glob "*/test_demo.py" --ignore-glob "*/test_description.py" || exit; \
	done

# Tests that cannot run on one of them are marked so, with the reason: they are left out. TOPOLOGIES=cluster is for one.
MISSING := $(if $(wildcard .redis/redis-server)$(shell command -v redis-server),,redis) \
  $(if $(wildcard .rabbitmq/usr/lib/rabbitmq /usr/lib/rabbitmq),,rabbitmq)
TOPOLOGIES := $(filter-out $(MISSING),redis servers sentinel cluster rabbitmq)

topologies: TESTS := tests/integration tests/acceptance --ignore tests/integration/topology
topologies: ## run integration and acceptance tests on Redis, several servers, Sentinels, a cluster, and RabbitMQ

# What holds wherever Redis is; what takes longest first. Failovers, moves and growth have servers of their own, and
# `make test` runs them: tests/integration/topology.
PROMISES := acceptance/test_pipeline.py acceptance/test_exactly_once.py acceptance/test_dead_letters.py \
  acceptance/test_listen.py integration/test_repartition.py integration/test_promises.py integration/test_broker.py \
  integration/test_listener.py integration/test_hot_keys.py integration/test_fresh_reads.py integration/test_status.py \
  integration/idempotency integration/flusher/test_takeovers.py integration/flusher/test_batches.py \
  integration/reader/test_changes_during_loads.py integration/reader/test_loads.py integration/reader/test_many.py \
  integration/dead_letters/test_on_mongodb.py integration/dead_letters/test_replay_and_discard.py \
  integration/reconcile/test_repairs.py

promises: TESTS := $(PROMISES:%=tests/%)
promises: ## run those tests of what is promised on each of these, two or three minutes each: CI does

topologies promises: compiled
	@$(foreach one,$(MISSING),echo "$(one) is left out, as there is no server; make $(one) fetches it";) \
	for topology in $(TOPOLOGIES); do \
	  echo "TEST_TOPOLOGY=$$topology"; \
	  if TEST_TOPOLOGY=$$topology $(BIN)/python -m pytest --numprocesses 3 --dist loadscope --no-loadscope-reorder \
	    -m "not long" $(TESTS); \
	  then ended="$$ended $$topology:passed"; else ended="$$ended $$topology:failed"; fi; \
	done; printf '%s\n' $$ended; case "$$ended" in *:failed*) exit 1;; esac

model: install ## check the protocol, and ways to break it, in a model checker
	$(BIN)/python docs/model/check.py

chaos: install ## kill, freeze and cut off everything under load, with 20 seeds, and look for what was lost
	$(BIN)/python -m tests.chaos

failovers: install ## let primaries of Redis be replaced under load, 100 times in each topology, and look for what was lost
	$(BIN)/python -m tests.chaos.failovers

increments: install ## 100,000 increments with keys while connections are cut and web processes are killed: are sums exact
	$(BIN)/python -m tests.chaos.increments

memory: install ## what processes take that warm, reconcile and read documents of 16 MB, and answer greedy requests
	MEMORY=1 $(BIN)/python -m pytest -n0 -s tests/acceptance/test_memory.py tests/acceptance/test_greedy.py \
	  -k "test_memory or greedy_requests"

histories: install ## 1,000 random histories of documents that share a unique value
	HISTORIES=1000 $(BIN)/python -m pytest -n0 tests/integration/contention/test_histories.py

# What makes mutants has a lock of its own, with the same versions: two dozen packages that nothing else needs.
# ONLY="lua/fill lua/bury" is for files with one of these in their path; OPTIONS="--sample 10 --minutes 20" for all else.
mutants: install ## put mistakes into the code, one at a time, and see whether a test notices each
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements-mutants.lock
	$(BIN)/python -m tests.mutants $(foreach one,$(ONLY),--only $(one)) $(OPTIONS)

# So have the libraries that benchmarks hold this one against.
peers: install
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements-peers.lock

bench: peers ## measure speed as ratios against floors and peers, in one run; OPTIONS="--json FILE" for programs
	$(BIN)/python -m bench $(OPTIONS)

bench-compare: install ## measure BASE=<revision> and the working tree in turn; fails beyond 10 % more CPU per operation
	@[ -n "$(BASE)" ] || { echo "make bench-compare BASE=<revision>"; exit 1; }
	$(BIN)/python -m bench.revisions $(OPTIONS) "$(BASE)"

chart: peers ## measure next to peers, and write the chart of docs/benchmarks.md and its figures
	$(BIN)/python -m bench.peers --json .peers.json
	$(BIN)/python -m bench.libraries --json .libraries.json
	$(BIN)/python -m bench.chart docs/benchmarks.json docs/benchmarks.svg .peers.json .libraries.json
	@rm .peers.json .libraries.json

capacity: install ## hold plans of `writebehind plan` against systems that run, some minutes
	$(BIN)/python -m bench.capacity

lock: install ## write the files of locked versions anew from pyproject.toml
	$(BIN)/python -m pip install --quiet uv
	$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header \
	  --no-emit-index-url --all-extras --group dev --output-file requirements.lock pyproject.toml
	$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header \
	  --no-emit-index-url --constraint requirements.lock --extra server --output-file requirements-prod.lock pyproject.toml
	$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header \
	  --no-emit-index-url --constraint requirements.lock --group mutants --output-file requirements-mutants.lock
	$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header \
	  --no-emit-index-url --constraint requirements.lock --group peers --output-file requirements-peers.lock
	$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header \
	  --no-emit-index-url --constraint requirements.lock --extra server --group docs --output-file requirements-docs.lock pyproject.toml

OLDEST := $(CURDIR)/.venv-oldest

# What the bounds in pyproject.toml allow at least; the dependencies of these, and uv itself, come from PyPI.
oldest: install ## run the unit and integration tests on the lowest versions that pyproject.toml allows
	$(BIN)/python -m pip install --quiet uv
	$(BIN)/uv venv --quiet --clear --python $(BIN)/python $(OLDEST)
	$(BIN)/uv pip compile --quiet --python $(OLDEST) --resolution lowest-direct --all-extras --group dev --no-header \
	  --no-emit-index-url --output-file $(OLDEST)/requirements.txt pyproject.toml
	VIRTUAL_ENV=$(OLDEST) $(BIN)/uv pip install --quiet --requirement $(OLDEST)/requirements.txt
	VIRTUAL_ENV=$(OLDEST) $(BIN)/uv pip install --quiet --no-deps --no-build-isolation --editable .
	$(OLDEST)/bin/python -m pytest --numprocesses 3 --dist loadscope tests/unit tests/integration

clean: ## remove the virtual environment and the embedded servers' data
	@if [ -e .writebehind/lock ] && ! $(PYTHON) -c 'import fcntl; fcntl.flock(open(".writebehind/lock"), fcntl.LOCK_EX | fcntl.LOCK_NB)' 2> /dev/null; \
	  then echo "a system runs in .writebehind: stop it (Ctrl-C where \`make run\` runs)"; exit 1; fi
	rm -rf $(VENV) $(OLDEST) .writebehind .coverage .prometheus .redis .helm site
