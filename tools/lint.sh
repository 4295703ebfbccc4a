#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Runs every check, even after one has failed, and fails if any did.
set -uo pipefail
cd "$(dirname "$0")/.."
export PATH="$PWD/.venv/bin:$PATH"
failed=()

check() {
    echo "[lint] $1"
    shift
    "$@" || failed+=("$1")
}

cpp_format() {
    find controllers bench \( -name '*.cpp' -o -name '*.hpp' \) -print0 |
        xargs -0 -r clang-format --dry-run -Werror
}

check "style" ruff check .
check "Python formatting" ruff format --check .
check "types" mypy
check "C++ formatting" cpp_format
check "import boundaries" python -m pytest --quiet test/unit/test_import_boundaries.py

if ((${#failed[@]})); then
    echo "[lint] failed: ${failed[*]}"
    exit 1
fi
echo "[lint] everything is in order"
