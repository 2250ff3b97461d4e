# The commands of the project, the same for people and for CI. `make help` lists them.
# Windows: scripts/*.ps1 do the same.

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

PYTHON ?= python3
# Tests start hundreds of processes: without this each compiles our own modules anew, where the variable is set.
unexport PYTHONDONTWRITEBYTECODE
UV := $(or $(shell command -v uv),.uv/bin/uv)
RUN := $(UV) run --no-sync
# Each member's own code, without what protoc writes.
SOURCES := $(filter-out proto/src,$(wildcard */src)) proto/src/aisandbox_wire
PYTEST := $(RUN) pytest
# A worker that is done takes tests from another, so that those of a module mostly stay together.
# One more than there are processors, because some tests wait.
WORKERS ?= $(shell n=$$(getconf _NPROCESSORS_ONLN); echo $$(( n < 8 ? n + 1 : 8 )))
PARALLEL := -n $(WORKERS) --dist worksteal

# The images: $(REGISTRY)/aisandbox/NAME:$(TAG). docs/images.md
REGISTRY ?= localhost:5001
TAG ?= $(shell git describe --tags --always --dirty)
IMAGES := operator api-server inference-server trainer
# What they are made on; empty: the Dockerfile's, by its name. A release takes the digest of deploy/images.lock.
BASE ?=
# Whose build of PyTorch: the small one for CPUs where its index can be reached; TORCH_INDEX= takes PyPI's, for GPUs.
CPU_TORCH_INDEX := https://download.pytorch.org/whl/cpu
TORCH_INDEX ?= $(shell curl -fsIL -m 10 -o /dev/null $(CPU_TORCH_INDEX)/torch/ && echo $(CPU_TORCH_INDEX))
# The member of the workspace that an image is for: aisandbox-operator and so on.
MEMBER = aisandbox-$(patsubst %-server,%,$*)

.PHONY: help setup demo demo-dotnet serve fuzz test test-slow test-unit test-fallbacks dotnet dotnet-packages dotnet-documents manifests static check docs format lint spelling types imports \
	members proto proto-check proto-release release-check faults faults-short faults-table e2e bench bench-kubernetes images \
	images-push torch-index dist build-tools sbom pins clean

help: ## lists the commands
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / {printf "  make %-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.uv/bin/uv:
	$(PYTHON) -m venv .uv
	.uv/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes -r scripts/build_tools.txt

.venv/.synced: $(filter-out /%,$(UV)) uv.lock pyproject.toml $(wildcard */pyproject.toml)
	$(UV) sync --locked --compile-bytecode
	@touch $@

setup: .venv/.synced ## installs everything the lock file names into .venv

demo: setup ## trains a policy against a simulator in another process, then plays episodes with it
	$(RUN) aisandbox demo

demo-dotnet: setup ## runs the C# sample: simulator, training and trained policy in one program (needs the .NET SDK)
	$(RUN) python scripts/demo_dotnet.py $(ARGS)

serve: setup ## runs the service on this machine
	$(RUN) aisandbox up

# Tests need half the processor time without coverage on Python 3.11, and less in .NET: COVERAGE=off.
COVERAGE ?= on
test: setup ## runs the unit, contract and integration tests with coverage; ARGS are pytest's
ifeq ($(COVERAGE),off)
	$(PYTEST) $(PARALLEL) -m "not slow" $(ARGS)
else
	$(RUN) coverage erase
	$(PYTEST) $(PARALLEL) -m "not slow" --cov --cov-report= $(ARGS)
	$(RUN) coverage report --skip-covered --skip-empty
endif

# Only the files that have such tests are read; LEFT_OUT names some that are not.
SLOW = $(filter-out $(LEFT_OUT),$(shell grep -rl --include='*.py' 'mark[.]slow' tests/integration tests/contract tests/unit))
test-slow: setup ## runs the tests marked slow, which make test leaves out
	$(PYTEST) $(PARALLEL) -m slow $(SLOW) $(ARGS)

test-unit: setup ## runs the tests that need no network
	$(PYTEST) $(PARALLEL) tests/unit $(ARGS)

manifests: setup ## checks the manifests (a part of the unit tests)
	$(PYTEST) tests/unit/deploy

e2e: setup ## installs all of it on a kind cluster of its own and tests it there; ARGS are pytest's
	$(RUN) python scripts/e2e.py $(ARGS)

fuzz: setup ## sends 240,000 random messages and replies to the servers and the client of simulators; ARGS are pytest's
	FUZZ_MESSAGES=240000 $(PYTEST) -s --timeout=3600 tests/integration/test_fuzzed_messages.py $(ARGS)

faults: setup ## injects every fault as often as docs/reliability.md says, which takes an hour; ARGS are pytest's
	$(PYTEST) tests/faults --faults-scale full $(ARGS)

faults-short: setup ## injects every fault a few times
	$(PYTEST) tests/faults --faults-scale short $(ARGS)

faults-table: setup ## writes the results of make faults into docs/reliability.md
	$(RUN) python tests/support/fault_table.py

test-fallbacks: setup ## runs the tests without the fast paths that use other libraries' private names
	GRPC_DIRECT=off FAST_UPDATE=off $(PYTEST) $(PARALLEL) -m "not slow" $(ARGS)

dotnet: setup ## builds, checks, tests and packs the C# packages, and tests the C# of the documents; ARGS are pytest's
	@if command -v dotnet >/dev/null; then $(COMPILER_SERVER); $(MAKE) --no-print-directory -o setup dotnet-packages && \
	AISANDBOX_PACKAGES=$(CURDIR)/build/dotnet/packages $(MAKE) --no-print-directory -o setup dotnet-documents; \
	elif [ -z "$${REQUIRE_DOTNET:-}" ]; then echo "make dotnet: skipped, there is no dotnet (the .NET 10 SDK) on the PATH"; \
	else echo "make dotnet: there is no dotnet (the .NET 10 SDK) on the PATH, and REQUIRE_DOTNET is set" >&2; exit 1; fi

# A server of the compiler of this target's own, which ends with it: each compiler by itself takes twice as long, most
# of it to load the analyzers. MSBuild reads the variable.
define COMPILER_SERVER
export SHAREDCOMPILATIONID=aisandbox-$$$$; sdk=$$(cd clients/dotnet && dotnet --version); \
server=$$(dotnet --list-sdks | sed -n "s/^$$sdk \[\(.*\)\]$$/\1/p")/$$sdk/Roslyn/bincore/VBCSCompiler.dll; \
trap 'dotnet exec "$$server" -shutdown -pipename:$$SHAREDCOMPILATIONID >/dev/null || true' EXIT
endef
# Restores what the lock files say, and leaves no server of the compiler behind.
DOTNET_FLAGS = -c Release --nologo -v:quiet -nodeReuse:false $(if $(SHAREDCOMPILATIONID),,-p:UseSharedCompilation=false)
ifneq ($(COVERAGE),off)
DOTNET_COVERAGE := --coverlet --coverlet-output-format cobertura --coverlet-include "[AISandbox.*]*" --coverlet-exclude "[*]AISandbox.V1.*"
endif
# The build checks the style, and the formatter only the white space.
dotnet-packages: setup
	rm -rf build/dotnet/tests build/dotnet/packages
	cd clients/dotnet && dotnet build AISandbox.slnx $(DOTNET_FLAGS) -p:RestoreLockedMode=true
	cd clients/dotnet && dotnet format whitespace . --folder --verify-no-changes
	$(RUN) python tests/support/dotnet_policies.py build/dotnet/policies
	cd clients/dotnet && AISANDBOX_PYTHON=$(CURDIR)/.venv/bin/python dotnet test --solution AISandbox.slnx -c Release --no-build \
		--results-directory $(CURDIR)/build/dotnet/tests $(DOTNET_COVERAGE)
ifneq ($(COVERAGE),off)
	$(RUN) python scripts/dotnet_coverage.py build/dotnet/tests
endif
	cd clients/dotnet && dotnet pack AISandbox.slnx -c Release --nologo -v:quiet --no-build -o $(CURDIR)/build/dotnet/packages

dotnet-documents: setup
	$(PYTEST) tests/dotnet $(ARGS)

static: setup ## format, lint, spelling, types, import rules, the wire contract and generated files, two at a time
	@$(MAKE) --no-print-directory --keep-going -j2 --output-sync=target types imports proto-check crds-check lint format spelling

check: static docs test test-slow faults-short dotnet ## everything but the fallbacks and the cluster; .NET where there is dotnet

format: setup ## checks the format
	$(RUN) ruff format --check .

lint: setup ## checks the style (ruff)
	$(RUN) ruff check .

spelling: setup ## checks the spelling (typos)
	$(RUN) typos

types: setup ## checks the types (mypy)
	$(RUN) mypy $(SOURCES) proto/generate.py scripts tests bench

members: setup ## writes the lists of members in pyproject.toml, after a member was added
	$(RUN) python scripts/members.py

imports: setup ## checks the rules for imports (import-linter)
	$(RUN) lint-imports

docs: setup ## builds the documentation site into build/site; fails on a broken link
	NO_MKDOCS_2_WARNING=1 $(UV) run --locked --group docs mkdocs build

proto: setup ## generates the Python code of the .proto files
	cd proto && $(abspath $(UV)) run --no-sync buf format -w
	$(RUN) python proto/generate.py

.PHONY: crds crds-check
crds: setup ## generates the TrainingRun resource and the pages of its fields
	$(RUN) python -m aisandbox_crds.generate

crds-check: setup ## checks that the resource and the pages of its fields are up to date
	$(RUN) python -m aisandbox_crds.generate --check

proto-check: setup ## checks the .proto files: format, lint, compatibility, generated code
	cd proto && $(abspath $(UV)) run --no-sync buf format --diff --exit-code
	cd proto && $(abspath $(UV)) run --no-sync buf lint
	cd proto && $(abspath $(UV)) run --no-sync buf breaking --against released.binpb
	$(RUN) python proto/generate.py --check

release-check: setup ## checks that every file has the version TAG (v1.2.3)
	$(RUN) python scripts/release.py check $(TAG)

dist: setup ## builds the wheels of all members into dist/
	rm -rf dist
	$(UV) build --all-packages --wheel --require-hashes --build-constraints scripts/build_tools.txt --out-dir dist

build-tools: # writes the hashes of scripts/build_tools.in
	$(UV) pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-annotate --no-header \
		scripts/build_tools.in --output-file scripts/build_tools.txt

# What is in the layers of packages; the release workflow looks into the images themselves, at Debian's packages too.
SBOM := $(UV) export --quiet --locked --all-extras --no-dev --format cyclonedx1.5
sbom: setup ## writes what the members and each image are made of into dist/sbom*.cdx.json (CycloneDX)
	@mkdir -p dist
	$(SBOM) --all-packages --output-file dist/sbom.cdx.json
	@$(MAKE) --no-print-directory -o setup $(IMAGES:%=sbom-%)

sbom-%:
	$(SBOM) --package $(MEMBER) --output-file dist/sbom-$*.cdx.json

pins: ## pins the base image and the actions of the workflows to what they are now (needs Docker and github.com)
	$(PYTHON) scripts/pins.py lock

proto-release: setup ## makes the wire contract as it is the one that changes must not break
	cd proto && $(abspath $(UV)) run --no-sync buf build -o released.binpb

bench: setup ## measures speed; each table is a ratio within one run
	for file in $(filter-out bench/kubernetes_%,$(wildcard bench/*.py)); do $(RUN) python $$file; done

bench-kubernetes: setup ## measures the installed system in the cluster of the current context
	for file in bench/kubernetes_*.py; do $(RUN) python $$file; done

images: ## builds the four images, as $(REGISTRY)/aisandbox/NAME:$(TAG)
	@$(MAKE) --no-print-directory -j4 $(IMAGES:%=image-%)
	@docker image ls --filter 'reference=$(REGISTRY)/aisandbox/*:$(TAG)' --format 'table {{.Repository}}:{{.Tag}}\t{{.Size}}'

images-push: images ## builds the images and pushes them to $(REGISTRY)
	@$(MAKE) --no-print-directory -j4 $(IMAGES:%=push-%)

image-%:
	@echo "building $(REGISTRY)/aisandbox/$*:$(TAG)"
	@docker build --quiet --target $* --tag $(REGISTRY)/aisandbox/$*:$(TAG) --build-arg MEMBER=$(MEMBER) \
		$(if $(BASE),--build-arg BASE=$(BASE)) --build-arg VERSION=$(TAG) --build-arg REVISION=$$(git rev-parse HEAD) $(if $(SOURCE),--build-arg SOURCE=$(SOURCE)) \
		$(if $(filter trainer,$*),--build-arg TORCH_INDEX=$(TORCH_INDEX)) . >/dev/null

torch-index: # for the Tiltfile
	@echo $(TORCH_INDEX)

push-%:
	@docker push --quiet $(REGISTRY)/aisandbox/$*:$(TAG)

clean: ## removes what was generated here, but not the environment
	rm -rf .coverage .coverage.* htmlcov .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache dist
	find . -name __pycache__ -not -path './.venv/*' -prune -exec rm -rf {} +
