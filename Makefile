# The front door: what people type, and what CI calls. Targets that install or start something need root.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

BUILD := $(CURDIR)/build
VENV := $(BUILD)/venv
PYTHON := $(VENV)/bin/python
PYTEST := $(PYTHON) -m pytest
VERSION := $(shell sed -n '1s/.*(\(.*\)).*/\1/p' debian/changelog)
DEB := $(BUILD)/celery-docker_$(VERSION)_$(shell dpkg --print-architecture).deb

BUILD_PACKAGES := build-essential ca-certificates debhelper dh-virtualenv lintian python3 python3-docutils \
	python3-setuptools python3-venv python3-wheel
TEST_PACKAGES := busybox-static dbus docker.io fish gcc iproute2 iptables libc6-dev mandoc mmdebstrap openssl procps \
	python3-docutils redis-server rsync shellcheck slirp4netns systemd-container tmux zsh
# Everything that goes into the package: a change of any of it means another build.
SOURCES := $(shell find LICENSE README.md setup.cfg pyproject.toml requirements.txt celery_docker debian docs etc \
	systemd -type f -not -name '*.pyc')
# One lock for every Python that the package runs on, from what setup.cfg asks for.
DEPENDENCIES := /usr/bin/python3 -c 'import configparser, sys; c = configparser.ConfigParser(); c.read("setup.cfg"); \
	[print(c.get(*name.split("/"))) for name in sys.argv[1:]]'
COMPILE := UV_CUSTOM_COMPILE_COMMAND="make lock" $(BUILD)/lock/bin/uv pip compile --quiet --no-config --universal \
	--python-version 3.11.2 --generate-hashes --only-binary :all: --no-annotate -
SHELL_SCRIPTS := .ci/run docs/demo tests/install-packages celery_docker/cli/syntax/shells/completion.bash \
	debian/tests/service debian/tests/venv \
	$(addprefix debian/celery-docker.,preinst postinst prerm postrm)
# Nothing is skipped in silence here: what a test needs and does not find is a failure.
REQUIRE := CELERY_DOCKER_TEST_REQUIRE=redis,docker,machine,shells,man

help:  ## say what can be made
	@sed -n 's/^\([a-z]*\):.*##\(.*\)/  make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 22

demo: deb  ## install the package with Redis and Docker, and run the README's example job
	docs/demo $(DEB)

deb: $(DEB)  ## build the Debian package into build/
	@echo $(DEB)

test: packages $(PYTHON) deb  ## everything: lint, types, unit, contract, integration, faults in short, system
	$(MAKE) --no-print-directory lint
	rm -rf $(BUILD)/coverage
	$(REQUIRE) CELERY_DOCKER_TEST_DEB=$(DEB) $(PYTHON) -m tests.phases
	@$(PYTHON) -m coverage combine --quiet
	@echo "coverage: $$($(PYTHON) -m coverage report --format=total) %; $(PYTHON) -m coverage report lists the gaps"

lint: $(PYTHON)  ## style and types
	$(PYTHON) -m ruff check .
	$(PYTHON) -m ruff format --check .
	$(PYTHON) -m mypy
	@if command -v shellcheck >/dev/null; then shellcheck $(SHELL_SCRIPTS); \
	else echo "shellcheck is not installed: the shell scripts are not checked"; fi

unit: $(PYTHON)  ## the core, in seconds, without services
	$(PYTEST) tests/unit

contract: packages $(PYTHON)  ## the fakes and the real adapters, by the same tests
	$(REQUIRE) $(PYTEST) tests/contract

integration: packages $(PYTHON)  ## the worker on a real Redis and a real Docker
	$(REQUIRE) $(PYTEST) tests/integration

faults: packages $(PYTHON) deb  ## kill, restart, hang and fill everything under load, in full
	$(REQUIRE) CELERY_DOCKER_TEST_DEB=$(DEB) CELERY_DOCKER_FAULTS=full $(PYTEST) tests/faults

system: packages $(PYTHON) deb  ## the package in booted Debian machines
	$(REQUIRE) CELERY_DOCKER_TEST_DEB=$(DEB) $(PYTEST) tests/system

bench: packages $(PYTHON) deb  ## figures from a booted machine, each beside its baseline
	CELERY_DOCKER_TEST_DEB=$(DEB) $(PYTHON) -m bench.machine

lock:  ## write the requirements with their hashes anew
	tests/install-packages python3-venv
	/usr/bin/python3 -m venv $(BUILD)/lock
	$(BUILD)/lock/bin/pip install --quiet uv
	$(DEPENDENCIES) options/install_requires | $(COMPILE) -o requirements.txt
	$(DEPENDENCIES) options/install_requires options.extras_require/test | $(COMPILE) -c requirements.txt \
	    -o requirements-test.txt

packages:
	tests/install-packages $(TEST_PACKAGES)

clean:  ## remove what was built
	rm -rf $(BUILD)

$(PYTHON): requirements-test.txt
	tests/install-packages python3-venv
	rm -rf $(VENV)
	/usr/bin/python3 -m venv $(VENV)
	$(PYTHON) -m pip install --quiet --disable-pip-version-check --no-deps --only-binary=:all: -r requirements-test.txt
	touch $(PYTHON)

# In a copy, so that no residue lands in the tree.
$(DEB): $(SOURCES)
	tests/install-packages $(BUILD_PACKAGES)
	rm -rf $(BUILD)/package
	mkdir -p $(BUILD)/package/source
	tar -c --exclude=__pycache__ LICENSE README.md setup.cfg pyproject.toml requirements.txt celery_docker debian \
	    docs etc systemd | tar -x -C $(BUILD)/package/source
	cd $(BUILD)/package/source && dpkg-buildpackage -us -uc -b >$(BUILD)/package/log 2>&1 || { tail -40 $(BUILD)/package/log; exit 1; }
	mv $(BUILD)/package/*.deb $(BUILD)/
	rm -rf $(BUILD)/package/source

.PHONY: help demo deb test lint unit contract integration faults system bench lock packages clean
