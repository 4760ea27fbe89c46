#!/usr/bin/env python3
"""What a compiler says of programs that misuse cadre: each line below a comment `// error: TEXT` of tests/noncompile does
not compile, and TEXT is said; all other lines compile. Every sentence of a static_assert of the headers has a case.
usage: noncompile.py COMPILER INCLUDE_DIR... (the tree, then those of third parties)"""
import os
import pathlib
import re
import subprocess
import sys

compiler, folders = sys.argv[1], sys.argv[2:]
tests = pathlib.Path(__file__).parents[1]
tree = tests.parent / "include"

NOT_TRIED = {"the archive's format is that of little-endian 64-bit machines"}  # no compiler for another one is here

# Of a line of the unit: where an error is, or what led to one elsewhere.
PLACE = re.compile(r"^<stdin>:(\d+):\d+: (?:error|  required from|note: in instantiation)", re.M)

version = subprocess.run([compiler, "--version"], text=True, capture_output=True).stdout
all_errors = ["-ferror-limit=0"] if "clang" in version else []  # g++ has no limit

failures, texts = [], []
for unit in sorted((tests / "noncompile").glob("*.cpp")):
    lines = unit.read_text().splitlines()
    cases = {i + 2: m.group(1) for i, line in enumerate(lines) if (m := re.match(r" *// error: (.*)", line))}
    texts += cases.values()
    needed = [m.group(1) for line in lines if (m := re.match(r"// needs: (.*)", line))]
    if any(not any((pathlib.Path(f) / name).exists() for f in folders) for name in needed):
        print(f"not tried, {', '.join(needed)} not found: {unit.name}")
        continue
    command = [compiler, "-std=c++20", "-fsyntax-only", "-w", *all_errors, "-I", folders[0]]
    for folder in folders[1:]:
        command += ["-isystem", folder]
    # Compilers show the lines that they speak of: the texts that are expected must not be among them.
    source = "\n".join("" if i + 1 in cases else line for i, line in enumerate(lines, 1)) + "\n"
    said = subprocess.run(command + ["-x", "c++", "-"], input=source, text=True, stderr=subprocess.PIPE,
                          env={**os.environ, "LC_ALL": "C"}).stderr
    failures += [f"{unit.name}:{i}: '{text}' is not said" for i, text in cases.items() if text not in said]
    wrong = {int(i) for i in PLACE.findall(said)}
    failures += [f"{unit.name}:{i}: compiles, and is not to" for i in sorted(cases.keys() - wrong)]
    failures += [f"{unit.name}:{i}: is to compile, and does not" for i in sorted(wrong - cases.keys())]

for header in tree.rglob("*.hpp"):
    for assertion in re.findall(r"static_assert\((.*?)\);", header.read_text(), re.S):
        strings = re.search(r',\s*((?:"[^"]*"\s*)+)$', assertion)
        text = "".join(re.findall(r'"([^"]*)"', strings.group(1))) if strings else ""
        if text and text not in NOT_TRIED and not any(case in text for case in texts):
            failures.append(f"{header.relative_to(tree)}: no case of tests/noncompile for \"{text}\"")

print("\n".join(failures) or f"{compiler}: what is not to compile does not, and is told why")
sys.exit(bool(failures))
