# SPDX-License-Identifier: Apache-2.0
"""Counts what a Python program and its libraries allocate with malloc and its relatives."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

COUNTER = r"""
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stddef.h>
static long count; static int counting;
static void *(*real_malloc)(size_t); static void *(*real_aligned)(size_t, size_t);
static int (*real_memalign)(void **, size_t, size_t); static void *(*real_realloc)(void *, size_t);
void *malloc(size_t n) {
  if (!real_malloc) real_malloc = dlsym(RTLD_NEXT, "malloc");
  if (counting) ++count;
  return real_malloc(n);
}
void *realloc(void *p, size_t n) {
  if (!real_realloc) real_realloc = dlsym(RTLD_NEXT, "realloc");
  if (counting) ++count;
  return real_realloc(p, n);
}
void *aligned_alloc(size_t a, size_t n) {
  if (!real_aligned) real_aligned = dlsym(RTLD_NEXT, "aligned_alloc");
  if (counting) ++count;
  return real_aligned(a, n);
}
int posix_memalign(void **p, size_t a, size_t n) {
  if (!real_memalign) real_memalign = dlsym(RTLD_NEXT, "posix_memalign");
  if (counting) ++count;
  return real_memalign(p, a, n);
}
void count_begin(void) { count = 0; counting = 1; }
long count_end(void) { counting = 0; return count; }
"""


def run_counted(program: str, folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run a Python program in front of whose C library a counter is loaded.

    ``sys.argv[1]`` is its path; it has ``count_begin()`` and ``long count_end()``.
    """
    source, library = folder / "counter.c", folder / "counter.so"
    source.write_text(COUNTER)
    command = ["gcc", "-shared", "-fPIC", "-O1", "-o", str(library), str(source), "-ldl"]
    subprocess.run(command, check=True)
    paths = os.pathsep.join(path for path in sys.path if path)
    return subprocess.run(
        [sys.executable, "-c", program, str(library), *arguments],
        env=os.environ | {"LD_PRELOAD": str(library), "PYTHONPATH": paths},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
