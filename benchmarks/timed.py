"""Run a command and write its wall time and peak memory as JSON: ``python timed.py OUT.json COMMAND...``.

A process inherits the peak memory of the one that started it, so commands are started from here, a process of a few
megabytes, and not from the benchmark itself.
"""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import time
from pathlib import Path


def main() -> int:
    """Run the command; exit with its status."""
    out, *command = sys.argv[1:]
    start = time.perf_counter()
    status = subprocess.run(command, check=False).returncode
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    unit = 2**20 if sys.platform == "darwin" else 2**10  # bytes there, kilobytes elsewhere
    figures = {
        "seconds": time.perf_counter() - start,
        "cpu_seconds": usage.ru_utime + usage.ru_stime,
        "peak_mb": usage.ru_maxrss / unit,
        "status": status,
        "load_at_end": os.getloadavg()[0],
        "command": command,
    }
    Path(out).write_text(json.dumps(figures, indent=2))
    return 0 if status == 0 else 1


if __name__ == "__main__":
    sys.exit(main())
