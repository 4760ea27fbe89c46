#!/usr/bin/env python3
"""Writes the single header, single_include/cadre/cadre.hpp, and one header for each adapter beside it.

usage: generate.py           writes the files that changed
       generate.py --check   writes nothing; fails if a file is not what the tree gives

cadre.hpp holds every header that include/cadre/cadre.hpp reaches, each after those that it includes, with its include
guard: tree and single header may meet in one translation unit, and a header of the tree that comes later adds nothing.
An adapter's header holds the adapter's own headers and includes "cadre.hpp" for the rest. The output depends on nothing
but the tree.
"""
import argparse
import pathlib
import re
import sys

HERE = pathlib.Path(__file__).resolve().parent
TREE = HERE.parent / "include"
INCLUDE = re.compile(r"^\s*#\s*include\s*<(cadre/[^>]+)>.*$")


def headers_in_order(name, seen):
    """The header `name` and all that it includes of ours, each after what it needs, without those in `seen`."""
    if name in seen:
        return []
    seen.add(name)
    order = []
    for line in (TREE / name).read_text().splitlines():
        if found := INCLUDE.match(line):
            order += headers_in_order(found[1], seen)
    return order + [name]


def flat(name):
    """The text of a header without its includes of ours, and without the blank lines that those leave."""
    kept = [line for line in (TREE / name).read_text().splitlines() if not INCLUDE.match(line)]
    return f"// ---- {name} ----\n" + re.sub(r"\n{3,}", "\n\n", "\n".join(kept)).strip() + "\n"


def version():
    text = (TREE / "cadre/config/version.hpp").read_text()
    return ".".join(re.search(rf"CADRE_VERSION_{part} (\d+)", text)[1] for part in ("MAJOR", "MINOR", "PATCH"))


def single(what, guard, includes, names):
    top = f"""// cadre {version()}: {what}
// Licensed under the Apache License, Version 2.0. Written by single_include/generate.py from include/cadre; change it there.
#ifndef {guard}
#define {guard}

"""
    return top + "".join(f'#include "{file}"\n' for file in includes) + ("\n" if includes else "") + "\n".join(map(flat, names)) + "\n#endif\n"


def outputs():
    adapters = sorted(p.stem for p in (TREE / "cadre").glob("*.hpp") if p.stem != "cadre" and is_adapter(p.stem))
    core = set()
    files = {"cadre.hpp": single("all of the library but its adapters, in one header", "CADRE_SINGLE_INCLUDE_CADRE_HPP", [],
                                 headers_in_order("cadre/cadre.hpp", core))}
    for adapter in adapters:
        names = headers_in_order(f"cadre/{adapter}.hpp", set(core))
        needed = [other for other in adapters if other != adapter and f"cadre/{other}.hpp" in names]
        for other in needed:  # nccl.hpp needs cuda.hpp
            names = [n for n in names if n not in headers_in_order(f"cadre/{other}.hpp", set(core))]
        files[adapter + ".hpp"] = single(f"the adapter {adapter}.hpp in one header", f"CADRE_SINGLE_INCLUDE_{adapter.upper()}_HPP",
                                         ["cadre.hpp"] + [other + ".hpp" for other in needed], names)
    return files


def is_adapter(name):
    """A face that has no row of its own in docs/architecture.md's table of rooms."""
    return not re.search(rf"^\| \d+ \| `{name}/` \|", (HERE.parent / "docs/architecture.md").read_text(), re.M)


def main():
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--check", action="store_true", help="fail if a file is stale; write nothing")
    check = arguments.parse_args().check
    folder, stale = HERE / "cadre", []
    files = outputs()
    for name, text in files.items():
        if not (folder / name).exists() or (folder / name).read_text() != text:
            stale.append(name)
            if not check:
                folder.mkdir(exist_ok=True)
                (folder / name).write_text(text)
    for extra in sorted(p.name for p in folder.glob("*") if p.name not in files):
        stale.append(extra)
        if not check:
            (folder / extra).unlink()
    if check and stale:
        sys.exit(f"stale: {', '.join(stale)}; run single_include/generate.py")
    print(f"{len(files)} files, {'fresh' if check or not stale else 'written: ' + ', '.join(stale)}")


if __name__ == "__main__":
    main()
