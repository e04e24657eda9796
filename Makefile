# The front door: what people type, and what CI calls. `unit`, `lint` and `lock` are for anybody; the others install or
# start something, and need root.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

# Relative, as all paths here: that of the checkout may have a blank in it.
BUILD := build
VENV := $(BUILD)/venv
PYTHON := $(VENV)/bin/python
# Newer than the requirements when the venv holds them. The interpreter itself is a link to that of the system.
TOOLS := $(VENV)/installed
# debian/build appends the release of Debian to the version; the copy in which it builds has it in the changelog.
VERSION := $(shell sed '1!d; s/.*(\(.*\)).*/\1/; s/+deb[0-9]*u1$$//' debian/changelog)
ARCHITECTURE := $(shell dpkg --print-architecture)
package = celery-docker_$(VERSION)+deb$(1)u1_$(ARCHITECTURE).deb
DEB := $(BUILD)/$(call package,$(shell . /etc/os-release && echo $$VERSION_ID))
SOURCE := $(BUILD)/celery-docker_$(VERSION).dsc
CLEAN_DEBS := $(BUILD)/bookworm/$(call package,12) $(BUILD)/trixie/$(call package,13)
# What root has made in somebody's checkout is theirs, however the command ends.
HAND_OVER := trap tests/hand-over EXIT;
PYTEST := $(HAND_OVER) $(PYTHON) -m pytest

BUILD_PACKAGES := build-essential ca-certificates debhelper dh-virtualenv lintian python3 python3-docutils \
	python3-setuptools python3-venv python3-wheel
TEST_PACKAGES := busybox-static catatonit chromium curl dbus docker-registry docker.io fish gcc git gnupg iproute2 iptables libc6-dev \
	mandoc mmdebstrap openssl podman procps prometheus python3-docutils redis-server reprepro rsync shellcheck slirp4netns \
	systemd-container tmux zsh
# Everything that goes into the package: a change of any of it means another build.
CONTENT := LICENSE README.md CONTRIBUTING.md setup.cfg pyproject.toml requirements.txt changelog.py celery_docker debian docs etc systemd
# What the unit tests look at besides; they run in a build unless it says nocheck.
TESTED := .ci Makefile bench requirements-test.txt tests
# Fetched by hand, for a build without network.
WHEELS := $(BUILD)/wheels
SOURCES := $(shell find $(CONTENT) -type f -not -name '*.pyc')
# One lock for every Python that the package runs on, from what setup.cfg asks for.
DEPENDENCIES := /usr/bin/python3 -c 'import configparser, sys; c = configparser.ConfigParser(); c.read("setup.cfg"); \
	[print(c.get(*name.split("/"))) for name in sys.argv[1:]]'
COMPILE := UV_CUSTOM_COMPILE_COMMAND="make lock" $(BUILD)/lock/bin/uv pip compile --quiet --no-config --universal \
	--python-version 3.11.2 --generate-hashes --only-binary :all: --no-annotate -

SHELL_SCRIPTS := .ci/run docs/demo $(addprefix docs/snakemake/,common.sh submit status cancel) tests/hand-over tests/install-packages tests/make-writable \
	debian/build debian/build-clean debian/build-source debian/repository celery_docker/cli/syntax/shells/completion.bash \
	debian/tests/service debian/tests/venv $(addprefix debian/celery-docker.,preinst postinst prerm postrm)
# Nothing is skipped in silence here: what a test needs and does not find is a failure.
test coverage contract integration faults system: export CELERY_DOCKER_TEST_REQUIRE := \
	redis,docker,podman,flower,snakemake,machine,shells,man,prometheus,browser
test coverage faults system bench: export CELERY_DOCKER_TEST_DEB := $(DEB)

help:  ## say what can be made
	@sed -n 's/^\([a-z-]*\):.*##\(.*\)/  make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 22

demo: deb  ## install the package with Redis and Docker, and run the README's example job
	@docs/demo $(DEB)

deb: $(DEB)  ## build the package for this release of Debian into build/
	@echo $(DEB)

deb-all: $(CLEAN_DEBS)  ## build it for Debian 12 and 13, each in a clean chroot, into build/bookworm/ and build/trixie/
	@printf '%s\n' $(CLEAN_DEBS)

# Where the hosts will find the repository, and the fingerprint of the key that signs it.
URL = file:$(CURDIR)/$(BUILD)/repository
KEY =
repository: $(CLEAN_DEBS)  ## make a signed apt repository of both in build/repository/, with URL=… and KEY=… to publish it
	@tests/install-packages gnupg reprepro
	@$(HAND_OVER) debian/repository $(BUILD)/repository '$(URL)' '$(KEY)' \
	    $(foreach deb,$(CLEAN_DEBS),$(notdir $(patsubst %/,%,$(dir $(deb))))=$(deb))
	@echo $(BUILD)/repository

source: $(SOURCE)  ## build the source package, which is the same for both, into build/
	@echo $(SOURCE)

wheels: $(WHEELS)/requirements.txt  ## fetch the wheels of both packages into build/wheels/: builds need no network then
	@echo $(WHEELS)

test: packages $(TOOLS) wheels deb  ## everything: lint, types, unit, contract, integration, faults in short, system
	$(MAKE) --no-print-directory lint
	$(HAND_OVER) $(PYTHON) -m tests.phases

coverage: packages $(TOOLS) wheels deb  ## the same tests, measured, which takes longer: how much of the program they run
	rm -rf $(BUILD)/coverage
	$(HAND_OVER) $(PYTHON) -m tests.phases --coverage
	@$(HAND_OVER) $(PYTHON) -m coverage combine --quiet
	@echo "coverage: $$($(PYTHON) -m coverage report --format=total) %; $(PYTHON) -m coverage report lists the gaps"

lint: $(TOOLS)  ## style and types
	$(HAND_OVER) $(PYTHON) -m ruff check . && $(PYTHON) -m ruff format --check . && $(PYTHON) -m mypy
	@if command -v shellcheck >/dev/null; then shellcheck -x -P SCRIPTDIR $(SHELL_SCRIPTS); \
	else echo "shellcheck is not installed: the shell scripts are not checked"; fi

unit: $(TOOLS)  ## the core, in seconds, without services
	$(PYTEST) tests/unit

contract: packages $(TOOLS)  ## the fakes and the real adapters, by the same tests
	$(PYTEST) tests/contract

integration: packages $(TOOLS)  ## the worker on a real Redis and a real Docker
	$(PYTEST) tests/integration

faults: export CELERY_DOCKER_FAULTS := full
faults: packages $(TOOLS) deb  ## kill, restart, hang and fill everything under load, in full
	$(PYTEST) tests/faults

system: packages $(TOOLS) deb  ## the package in booted Debian machines
	$(PYTEST) tests/system

GATES =
release-check: packages $(TOOLS) wheels deb-all  ## before a release: its gates for both packages; GATES="lintian trixie/life" chooses
	$(HAND_OVER) $(PYTHON) -m tests.release $(foreach deb,$(CLEAN_DEBS),$(notdir $(patsubst %/,%,$(dir $(deb))))=$(deb)) $(GATES)

bench: packages $(TOOLS) deb  ## figures from a booted machine, each beside its baseline
	$(HAND_OVER) $(PYTHON) -m bench.machine
	$(HAND_OVER) $(PYTHON) -m bench.gateway
	$(HAND_OVER) $(PYTHON) -m bench.scrape
	$(HAND_OVER) $(PYTHON) -m bench.page
	$(HAND_OVER) $(PYTHON) -m bench.snakemake

lock:  ## write the requirements with their hashes anew
	@tests/install-packages python3-venv
	/usr/bin/python3 -m venv $(BUILD)/lock
	$(BUILD)/lock/bin/python -m pip install --quiet uv
	$(DEPENDENCIES) options/install_requires | $(COMPILE) -o requirements.txt
	$(DEPENDENCIES) options/install_requires options.extras_require/test | $(COMPILE) -c requirements.txt \
	    -o requirements-test.txt
	$(DEPENDENCIES) options.extras_require/snakemake | $(COMPILE) --no-binary connection-pool -o tests/snakemake.txt

audit:  ## name known holes of the wheels in the package, and versions of them that are newer
	@tests/install-packages python3-venv
	@tests/make-writable $(BUILD)
	@$(HAND_OVER) { /usr/bin/python3 -m venv $(BUILD)/lock && \
	    $(BUILD)/lock/bin/python -m pip install --quiet --retries 1 pip-audit uv && \
	    $(DEPENDENCIES) options/install_requires | $(COMPILE) --upgrade -o $(BUILD)/newest.txt; \
	    } >$(BUILD)/audit.log 2>&1 || { echo "nothing is audited: PyPI cannot be reached, see $(BUILD)/audit.log"; exit 1; }
	@$(HAND_OVER) $(BUILD)/lock/bin/python debian/audit.py $(BUILD)/newest.txt

packages:
	@tests/install-packages $(TEST_PACKAGES)

clean:  ## remove what was built
	rm -rf $(BUILD)

$(TOOLS): requirements-test.txt
	@tests/install-packages python3-venv
	@tests/make-writable $(BUILD)
	rm -rf $(VENV)
	@echo "fetching what style, types and tests need, in about a minute"
	@$(HAND_OVER) /usr/bin/python3 -m venv $(VENV)
	@$(HAND_OVER) $(PYTHON) -m pip install --quiet --disable-pip-version-check --no-deps --only-binary=:all: \
	    -r requirements-test.txt && touch $@

$(DEB): $(SOURCES)
	@tests/install-packages $(BUILD_PACKAGES)
	@tests/make-writable $(BUILD)
	@$(HAND_OVER) DEB_BUILD_OPTIONS=nocheck DEB_BUILD_PROFILES=nocheck \
	    debian/build $(DEB) $(CONTENT) $(shell [ ! -d $(WHEELS) ] || echo $(WHEELS))

$(CLEAN_DEBS): $(SOURCES)
	@tests/install-packages mmdebstrap
	@tests/make-writable $(BUILD)
	@mkdir -p $(@D)
	@$(HAND_OVER) debian/build-clean $(notdir $(@D)) $@ $(CONTENT) $(TESTED) $(shell [ ! -d $(WHEELS) ] || echo $(WHEELS))

$(SOURCE): $(SOURCES) $(shell find $(TESTED) -type f -not -name '*.pyc')
	@tests/install-packages debhelper dpkg-dev
	@tests/make-writable $(BUILD)
	@$(HAND_OVER) debian/build-source $@ $(CONTENT) $(TESTED)

$(WHEELS)/requirements.txt: requirements.txt
	@tests/install-packages ca-certificates python3-venv
	@tests/make-writable $(BUILD)
	@$(HAND_OVER) $(MAKE) --no-print-directory -f debian/rules wheels

.PHONY: help demo deb deb-all repository source wheels test coverage lint unit contract integration faults system release-check bench lock audit packages clean
