#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Writes requirements/*.txt anew from requirements/*.in. Needs uv on the PATH; installing needs only pip.
set -euo pipefail
cd "$(dirname "$0")/../requirements"

compile() {
    local output=$1
    shift
    {
        echo "# Written by tools/lock.sh from: $*. Do not edit."
        uv pip compile --quiet --no-config --universal --python-version 3.11 --generate-hashes \
            --no-header --no-emit-index-url --no-emit-find-links "$@"
    } > "$output.new"
    mv "$output.new" "$output"
}

compile bootstrap.txt bootstrap.in
compile lock.txt runtime.in dev.in colcon.in --constraints bootstrap.txt
compile lock-ros-installed.txt base.in dev.in --constraints lock.txt
