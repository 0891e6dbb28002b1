#!/bin/sh
# Make, remove or show the TUN devices, addresses, masquerading and namespace of a nuse stack.
#   sudo scripts/setup-tun.sh up|down|status [--name N] [--link SPEC]... [-c nuse.toml]
# The work is done by nuse itself (nuse/hostnet.py), so that `nuse up` and this script can never disagree.
here=$(cd "$(dirname "$0")/.." && pwd)
for python in "$here/.venv/bin/python" "${VIRTUAL_ENV:-/nonexistent}/bin/python" python3; do
    if command -v "$python" >/dev/null 2>&1 && "$python" -c "import nuse.hostnet" 2>/dev/null; then
        exec "$python" -m nuse.hostnet "$@"
    fi
done
echo "nuse: not installed: run scripts/demo once, or python3 -m venv .venv && .venv/bin/pip install ." >&2
exit 2
