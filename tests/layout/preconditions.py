#!/usr/bin/env python3
"""What a compiler says that cannot compile cadre: the first error is the #error that says what to do.
usage: preconditions.py COMPILER INCLUDE_DIR... (the tree, then those of third parties)"""
import pathlib
import re
import subprocess
import sys
import tempfile

compiler, folders = sys.argv[1], sys.argv[2:]
tree = pathlib.Path(__file__).parents[2] / "include"

# The condition, as options or as a file that is found before those of third parties; the header; the error.
CASES = [
    (["-std=c++17"], {}, "cadre/cadre.hpp", "cadre needs C++20: compile with -std=c++20 or later"),
    (["-m32"], {}, "cadre/cadre.hpp", "cadre needs 64-bit Linux: it uses futex, memfd and pidfd"),
    (["-U__linux__"], {}, "cadre/cadre.hpp", "cadre needs 64-bit Linux: it uses futex, memfd and pidfd"),
    (["-fno-exceptions"], {}, "cadre/cadre.hpp", "cadre reports errors by exceptions: compile without -fno-exceptions"),
    (["-fno-rtti"], {}, "cadre/cadre.hpp", "cadre needs run-time type information: compile without -fno-rtti"),
    ([], {"nccl.h": "#include_next <nccl.h>\n#undef NCCL_VERSION_CODE\n#define NCCL_VERSION_CODE NCCL_VERSION(2, 18, 5)\n"},
     "cadre/nccl.hpp", "cadre/nccl.hpp needs NCCL 2.19 or later: ncclCommSplit and ncclMemAlloc"),
]

failures = []
for options, files, header, text in CASES:
    if any(not any((pathlib.Path(f) / name).exists() for f in folders) for name in files):
        print(f"not tried, {', '.join(files)} not found: {text}")
        continue
    with tempfile.TemporaryDirectory() as place:
        for name, content in files.items():
            (pathlib.Path(place) / name).write_text(content)
        # A later -std takes the place of an earlier one.
        command = [compiler, "-std=c++20", "-E", "-Wfatal-errors", "-I", place]
        for folder in folders:
            command += ["-I", folder]
        result = subprocess.run(command + options + ["-x", "c++", "-"], input=f"#include <{header}>\n", text=True,
                                capture_output=True)
    first = re.search(r"error: (.*)", result.stderr)
    said = first.group(1).removeprefix("#error ").strip('"') if first else "nothing"
    if result.returncode == 0 or said != text:
        failures.append(f"{' '.join(options) or ', '.join(files)}: said '{said}' instead of '{text}'")

for header in tree.rglob("*.hpp"):
    for text in re.findall(r'^ *# *error "(.*)"', header.read_text(), re.M):
        if text not in [case[3] for case in CASES]:
            failures.append(f"{header.relative_to(tree)}: no case for #error \"{text}\"")

print("\n".join(failures) or f"{compiler}: every #error is the first thing that is said")
sys.exit(bool(failures))
