#!/usr/bin/env python3
"""No header makes more than a start of its statics of code that nobody has asked for: what it does make, every unit of a
user that includes it compiles again. The usual causes are a class whose first virtual function is defined behind it and not
declared inline in it, whose vtable then lies in every unit, and statics of templates that are named by what is no template.
usage: emitted.py FOLDER_OF_OBJECTS, one for each header, compiled by g++ with -O1"""
import pathlib
import re
import subprocess
import sys

LIMIT = 1024  # bytes: <iostream>, a static or two

objects = sorted(pathlib.Path(sys.argv[1]).rglob("*.o"))
if not objects:
    sys.exit(f"no objects in {sys.argv[1]}")
bad = []
for line in subprocess.run(["size", *objects], capture_output=True, text=True, check=True).stdout.splitlines()[1:]:
    fields = line.split()
    if int(fields[0]) > LIMIT:
        bad.append(f"{re.sub('.*/alone/|.cpp.o$', '', fields[5])} makes {fields[0]} bytes of code that nobody has asked for")
print("\n".join(bad) or f"{len(objects)} objects")
sys.exit(bool(bad))
