#!/usr/bin/env python3
"""Holds the C++ of the pages against programs that are compiled and run.

usage: snippets.py [--root DIR] [--programs DIR]
- README.md: each block of C++ is a whole program of examples/.
- docs/from-ray.md: each block stands below `<!-- examples/NAME.cpp -->`, and its parts, cut at lines of `...`, are found
  there in that order; or below `<!-- planned -->`, and the text says that it is not here yet.
White space does not count: pages and clang-format break lines elsewhere. Prints `file:line: what is wrong`. With
--programs it only writes the whole programs of docs/*.md as DIR/PAGE.cpp, for the tests to compile.
"""
import argparse
import pathlib
import re
import sys


def blocks(page):
    """(line of its first line, the line of text above, text) of each block of C++."""
    above, start, held = "", None, []
    for number, line in enumerate(page.read_text().splitlines(), 1):
        if start is not None:
            if line.strip() == "```":
                yield start, above, "\n".join(held)
                start, held, above = None, [], ""
            else:
                held.append(line)
        elif line.strip() == "```cpp":
            start = number + 1
        elif line.strip():
            above = line.strip()


def bare(text):
    return re.sub(r"\s+", "", text)


def missing_part(text, program):
    """The first line of the first part of `text` that `program` lacks, or None."""
    program, at = bare(program), 0
    for part in re.split(r"^\s*(?://\s*)?\.\.\.\s*$", text, flags=re.M):
        found = program.find(bare(part), at)
        if found < 0:
            return part.strip().splitlines()[0]
        at = found + len(bare(part))
    return None


def breaches(root):
    programs = {p.relative_to(root).as_posix(): p.read_text() for p in sorted((root / "examples").rglob("*.[ch]pp"))}
    whole = {bare(text) for text in programs.values()}
    found = 0
    for line, _, text in blocks(root / "README.md"):
        found += 1
        if bare(text) not in whole:
            yield f"README.md:{line}: is no program of examples/"
    for line, above, text in blocks(root / "docs/from-ray.md"):
        found += 1
        mark = re.fullmatch(r"<!-- (\S+) -->", above)
        if not mark:
            yield f"docs/from-ray.md:{line}: no '<!-- examples/NAME.cpp -->' or '<!-- planned -->' above"
        elif mark[1] != "planned" and mark[1] not in programs:
            yield f"docs/from-ray.md:{line}: {mark[1]} does not exist"
        elif mark[1] != "planned" and (first := missing_part(text, programs[mark[1]])):
            yield f"docs/from-ray.md:{line}: not in {mark[1]}: {first}"
    if found == 0:
        yield "README.md:1: no C++ found"


def write_programs(root, folder):
    folder.mkdir(parents=True, exist_ok=True)
    for page in sorted((root / "docs").glob("*.md")):
        programs = [text for _, _, text in blocks(page) if "int main(" in text]
        for number, text in enumerate(programs, 1):
            file = folder / (page.stem + (f"_{number}" if len(programs) > 1 else "") + ".cpp")
            if not file.exists() or file.read_text() != text + "\n":
                file.write_text(text + "\n")


def main():
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--root", type=pathlib.Path, default=pathlib.Path(__file__).resolve().parents[1])
    arguments.add_argument("--programs", type=pathlib.Path)
    asked = arguments.parse_args()
    if asked.programs:
        return write_programs(asked.root, asked.programs)
    wrong = list(breaches(asked.root))
    print("\n".join(wrong))
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    main()
