"""Attempts to get out of a sandbox, or to disturb others from within.

`escape.py NAME WORLD`: makes one attempt; WORLD is JSON with what to aim at. The last line of the
output says how it went: `held`, or `through`, each with what was seen. A refusal by the system
(OSError) counts as held. An attempt that gets through does no harm: it opens, but does not write;
it signals with 0; it sets the clock on by nothing.
"""

import json, sys

import bombs, devices, files, kernel, mounts, network, processes, rights, shared
from attempt import ATTEMPTS


def main():
    name, world = sys.argv[1], json.loads(sys.argv[2])
    try:
        found = ATTEMPTS[name](world)
    except OSError as error:
        print(f"\nheld: {error}")
    else:
        print("\nheld" if found is None else f"\nthrough: {found}")


main()
