# SPDX-License-Identifier: Apache-2.0
"""Runs commands with their output in a log file, and says in plain words why one failed."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import threading
from pathlib import Path
from typing import Dict, List, Sequence, Set

from bootstrap.problem import SetupError

TAIL_LINES = 25

# First match decides. pip names the deeper cause before its own conclusion.
_CAUSES = (
    (
        r"No space left on device",
        "The disk is full.",
        "Free some disk space and call make again.",
    ),
    (
        r"DO NOT MATCH THE HASHES|Hashes are required",
        "A downloaded package is not the one that the lock file names.",
        "A proxy or package mirror may serve another file; ask its operator.",
    ),
    (
        r"CERTIFICATE_VERIFY_FAILED|SSLError",
        "The package index could not be reached: its certificate was not accepted.",
        "Behind a proxy, point pip to its certificate: export PIP_CERT=<file>",
    ),
    (
        r"NewConnectionError|NameResolutionError|Temporary failure in name resolution|"
        r"Network is unreachable|ConnectTimeoutError|ReadTimeoutError|ProxyError|"
        r"Connection refused|Connection reset|Could not connect|Connection broken|IncompleteRead",
        "The package index could not be reached.",
        "Check the network connection (pip's own settings are honoured: PIP_INDEX_URL, "
        "https_proxy), then call make again; what was downloaded is kept.",
    ),
    (
        r"Killed signal|internal compiler error: Killed|cc1plus.*Killed|Cannot allocate memory",
        "The compiler ran out of memory.",
        "Close other programs, or compile one file at a time: CMAKE_BUILD_PARALLEL_LEVEL=1 make",
    ),
    (
        r"No matching distribution found for (\S+)",
        "The package index has no fitting file of a package in the lock file.",
        "If pip is set to a mirror, the mirror may be behind; otherwise please report it.",
    ),
)


class Shell:
    """Runs commands one after another in each of several threads.

    Args:
        log: File that receives the output of everything.
        environ: Environment of the commands.
        cwd: Folder that they run in.
    """

    def __init__(self, log: Path, environ: Dict[str, str], cwd: Path) -> None:
        self.log = log
        self.environ = environ
        self._cwd = cwd
        self._lock = threading.Lock()
        self._running: Set["subprocess.Popen[bytes]"] = set()
        self._stopped = False

    def run(self, command: Sequence[object], **variables: str) -> None:
        """Run one command.

        Args:
            command: Program and arguments.
            **variables: Environment variables on top of the shell's.

        Raises:
            SetupError: It ended with an error; the problem names the cause where it is known.
        """
        arguments = [str(part) for part in command]
        output = self._execute(arguments, {**self.environ, **variables})
        with self._lock, self.log.open("a", encoding="utf-8") as stream:
            stream.write("\n$ %s\n" % " ".join(arguments))
            stream.write(output.text)
        if self._stopped:
            raise KeyboardInterrupt
        if output.code != 0:
            raise explain(arguments, output.code, output.text, self.log)

    def _execute(self, arguments: List[str], environ: Dict[str, str]) -> "_Output":
        with self._lock:
            if self._stopped:
                raise KeyboardInterrupt
            # Own session: Ctrl-C reaches this program alone, which then ends its commands itself.
            process = subprocess.Popen(
                arguments,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                env=environ,
                cwd=str(self._cwd),
                start_new_session=True,
            )
            self._running.add(process)
        try:
            text = process.communicate()[0].decode(errors="replace")
        finally:
            with self._lock:
                self._running.discard(process)
        return _Output(process.returncode, text)

    def stop(self) -> None:
        """End every running command and refuse new ones; from any thread."""
        with self._lock:
            self._stopped = True
            for process in self._running:
                _end_group(process)


class _Output:
    def __init__(self, code: int, text: str) -> None:
        self.code = code
        self.text = text


def _end_group(process: "subprocess.Popen[bytes]") -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGTERM)


def explain(arguments: Sequence[str], code: int, text: str, log: Path) -> SetupError:
    """Turn a command's failure into a message for a person."""
    for pattern, problem, remedy in _CAUSES:
        if re.search(pattern, text):
            return SetupError(problem, "%s Log: %s" % (remedy, log))
    tail = "\n".join("    " + line for line in text.rstrip().splitlines()[-TAIL_LINES:])
    program = " ".join([Path(arguments[0]).name, *arguments[1:3]])
    return SetupError(
        "%s ended with exit code %d:\n%s" % (program, code, tail), "The whole log: %s" % log
    )
