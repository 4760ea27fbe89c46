#!/usr/bin/env python3
"""Holds the rules of docs/architecture.md and CONTRIBUTING.md against the text of the headers.

usage: layout.py [--root DIR] CHECK...      with CHECK of: levels style sizes umbrella errors docs
Prints one line per breach, `file:line: what is wrong`, and exits with 1 if there is one.
"""
import argparse
import pathlib
import re
import sys

ADAPTERS = {  # what each adapter may include of others, beyond every room
    "eigen": r"Eigen/|cereal/",
    "zlib": r"zlib\.h$",
    "mpi": r"mpi\.h$",
    "cuda": r"cuda|cublas",
    "nccl": r"nccl\.h$|cuda",
}
THIRD_PARTIES = r"cereal/|Eigen/|unsupported/Eigen|zlib\.h|mpi\.h|cuda|cublas|nccl"
SYSTEM = r"(sys|linux|asm|arpa|net|netinet)/[a-z_0-9/]+\.h$|(cxxabi|dirent|dlfcn|emmintrin|errno|fcntl|glob|ifaddrs|immintrin|limits|malloc|poll|pthread|" \
         r"sched|signal|spawn|stdlib|stdio|string|syscall|time|unistd)\.h$"
PART_OF_CHRONO = "bits/chrono.h"  # of libstdc++, where it is there: core/chrono.hpp says why
OUTSIDE_OF_FACES = {  # whose users include them by name, so that the rest need not pay to parse them
    f"cadre/async/{h}.hpp" for h in ("blocking", "channel", "coroutine", "invoke", "task_graph", "task_group")}
FOR_ADAPTERS = {"cadre/actor/detail/own_requests.hpp"}  # of rooms, with what they include: parsed by an adapter's users alone
SLOW = {"functional", "future", "iostream", "regex"}  # in every header of a user they would cost more than they give
ERROR_RANGES = {  # CONTRIBUTING.md, Errors
    "core": [(100, 149)], "os": [(150, 199)], "async": [(200, 299)], "store": [(300, 399)], "comm": [(400, 499)],
    "persist": [(500, 599)], "archive": [(500, 599)], "actor": [(600, 699)], "data": [(700, 799)],
    "train": [(800, 899)], "tune": [(900, 999)], "report": [(1000, 1099)], "observe": [(1000, 1099)],
    "mpi": [(1100, 1199)], "cuda": [(1200, 1299)], "nccl": [(1300, 1399)], "zlib": [(1400, 1499)],
    "eigen": [(1500, 1599)], "examples": [(1900, 1999)],
}


class Header:
    def __init__(self, path, root):
        self.path = path
        self.name = path.relative_to(root / "include").as_posix()  # cadre/async/future.hpp
        self.shown = path.relative_to(root).as_posix()
        self.text = path.read_text()
        self.lines = self.text.splitlines()
        self.includes = []  # (line number, 'angle' or 'quote', name)
        for number, line in enumerate(self.lines, 1):
            if found := re.match(r'\s*#\s*include\s*(<([^>]+)>|"([^"]+)")', line):
                self.includes.append((number, "angle" if found[2] else "quote", found[2] or found[3]))
        parts = self.name.split("/")
        self.room = parts[1] if len(parts) > 2 else parts[1].rsplit(".", 1)[0]  # its folder, or the name of a face
        self.is_face = len(parts) == 2


class Tree:
    def __init__(self, root):
        self.root = root
        paths = sorted((root / "include" / "cadre").rglob("*"))
        self.headers = {h.name: h for h in (Header(p, root) for p in paths if p.suffix in (".hpp", ".cuh"))}
        self.levels, self.third_parties, self.faces = {}, {}, {}
        for row in re.findall(r"^\| (\d+) \| `([a-z_]+)/` \| `([a-z_/.]+)` \| ([a-zA-Z, ]+) \|", self.architecture(), re.M):
            self.levels[row[1]] = int(row[0])
            self.faces[row[1]] = "cadre/" + row[2]
            self.third_parties[row[1]] = row[3]

    def architecture(self):
        return (self.root / "docs" / "architecture.md").read_text()

    def reached_from(self, name):
        seen, todo = set(), [name]
        while todo:
            at = todo.pop()
            if at in seen or at not in self.headers:
                continue
            seen.add(at)
            todo += [i for _, _, i in self.headers[at].includes]
        return seen


def levels(tree):
    """Rooms include their own and lower levels only, third parties where the table allows them."""
    for h in tree.headers.values():
        if h.name == "cadre/cadre.hpp":
            continue
        adapter = h.room in ADAPTERS
        if not adapter and h.room not in tree.levels:
            yield h.shown, 1, f"room '{h.room}' has no row in docs/architecture.md"
            continue
        for line, _, name in h.includes:
            if name.startswith("cadre/"):
                target = tree.headers.get(name)
                if target is None:
                    yield h.shown, line, f"<{name}> does not exist"
                elif name == "cadre/cadre.hpp":
                    yield h.shown, line, "nothing in the library includes the umbrella"
                elif target.room == h.room or adapter and target.room not in ADAPTERS:
                    pass
                elif target.room in ADAPTERS:
                    if (h.room, target.room) != ("nccl", "cuda"):
                        yield h.shown, line, f"'{h.room}' includes the adapter '{target.room}'"
                elif tree.levels.get(target.room, 99) >= tree.levels[h.room]:
                    yield h.shown, line, (f"'{h.room}' (level {tree.levels[h.room]}) includes '{target.room}' "
                                          f"(level {tree.levels.get(target.room)})")
            elif re.match(THIRD_PARTIES, name):
                allowed = ADAPTERS[h.room] + "|cereal/" if adapter else {"cereal": "cereal/", "none": "(?!)"}.get(
                    tree.third_parties[h.room], "(?!)")
                if not re.match(allowed, name):
                    yield h.shown, line, f"'{h.room}' may not include <{name}>"
            elif not re.match(r"[a-z_]+$", name) and not re.match(SYSTEM, name) and name != PART_OF_CHRONO:
                yield h.shown, line, f"<{name}> is neither cadre, nor a known third party, nor the system's, nor the standard library's"
    yield from cycles(tree)


def cycles(tree):
    done, path = set(), []

    def walk(name):
        if name in path:
            yield tree.headers[name].shown, 1, "includes itself: " + " -> ".join(path[path.index(name):] + [name])
        elif name not in done and name in tree.headers:
            path.append(name)
            for _, _, to in tree.headers[name].includes:
                yield from walk(to)
            path.pop()
            done.add(name)

    for name in tree.headers:
        yield from walk(name)


def style(tree):
    """Guards named after the path, includes in angle brackets and in three groups, nothing slow, names by our rules."""
    for h in tree.headers.values():
        guard = re.sub(r"[^A-Z0-9]", "_", h.name.upper())
        guard = guard.replace("CADRE_CADRE_HPP", "CADRE_HPP") if guard not in h.text else guard
        start = [line for line in h.lines if line.startswith("#")][:2]
        if start != [f"#ifndef {guard}", f"#define {guard}"] or not h.text.rstrip().endswith("#endif"):
            yield h.shown, 1, f"the include guard is not {guard}"
        begins, ends = (len(re.findall(rf"^CADRE_NAMESPACE_{word}$", h.text, re.M)) for word in ("BEGIN", "END"))
        has_code = any(line and not line.startswith(("#", "//")) for line in h.lines)
        if h.room != "config" and (begins != ends or has_code and begins == 0):
            yield h.shown, 1, "what it declares does not lie between CADRE_NAMESPACE_BEGIN and CADRE_NAMESPACE_END"
        group = 0
        for line, kind, name in h.includes:
            if kind == "quote":
                yield h.shown, line, f'write #include <cadre/...>, not "{name}"'
            if name in SLOW and "//" not in h.lines[line - 1]:
                yield h.shown, line, f"<{name}> costs every user parse time, and no comment beside it says what for"
            rank = 1 if name.startswith("cadre/") else 3 if re.match(r"[a-z_]+$", name) else 2
            if rank < group and not h.lines[line - 2].lstrip().startswith("#if"):
                yield h.shown, line, f"<{name}> stands after a later group (cadre; third party and system; standard library)"
            group = max(group, rank)
        for number, line in enumerate(h.lines, 1):
            code = line.split("//")[0]
            if found := re.search(r"\bTODO\b|\bFIXME\b|\bXXX\b", line):
                yield h.shown, number, f"{found[0]} without an issue"
            if found := re.match(r"\s*#\s*define\s+(\w+)", code):
                missing_elsewhere = re.match(rf"\s*#\s*ifndef\s+{found[1]}\b", h.lines[number - 2])
                if not found[1].startswith("CADRE_") and not missing_elsewhere:
                    yield h.shown, number, f"the macro {found[1]} does not begin with CADRE_"
            commented = "//" in line + h.lines[number - 2]
            if re.search(r"(?<!\w)(std)?::(abort|exit|terminate|quick_exit|_Exit|_exit)\s*\(", code) and not commented:
                yield h.shown, number, "ends the program, and no comment beside it says why no other way exists"
            if re.search(r"\bstd::(puts|printf|putchar|perror|cout|cerr|clog)\b|\b(stdout|stderr)\b", code) and not commented:
                yield h.shown, number, "prints, and no comment beside it says who asked"
            if code.startswith("using namespace ") and "literals" not in code:
                yield h.shown, number, "using namespace for all who include the header"


def sizes(tree):
    """A header of more than 500 lines fails; one of more than 300 is named."""
    for h in sorted(tree.headers.values(), key=lambda h: -len(h.lines)):
        if len(h.lines) > 500:
            yield h.shown, len(h.lines), f"{len(h.lines)} lines: 500 are too many"
        elif len(h.lines) > 300:
            print(f"note: {h.shown} has {len(h.lines)} lines; 80 to 300 are aimed at")
    count = sorted(len(h.lines) for h in tree.headers.values())
    if count:
        print(f"{len(count)} headers, {sum(count)} lines, median {count[len(count) // 2]}, largest {count[-1]}")


def umbrella(tree):
    """Each room's face reaches all of the room, but what OUTSIDE_OF_FACES names and what only that includes; the umbrella
    reaches every header of every room and no adapter. What FOR_ADAPTERS names neither needs to reach."""
    for_adapters = set().union(*(tree.reached_from(h) for h in FOR_ADAPTERS))
    for room, face in tree.faces.items():
        own = [h for h in tree.headers.values() if h.room == room and h.name != face]
        if not own and face not in tree.headers:
            yield "docs/architecture.md", 1, f"room '{room}' has no header"
        elif face not in tree.headers:
            yield "include/" + face, 1, "the face is missing"
        else:
            reached = tree.reached_from(face).union(for_adapters, *(tree.reached_from(h) for h in OUTSIDE_OF_FACES))
            for h in own:
                if h.name not in reached:
                    yield h.shown, 1, f"not reached from the face <{face}>"
    for adapter in ADAPTERS:
        reached = tree.reached_from(f"cadre/{adapter}.hpp")
        for h in tree.headers.values():
            if h.room == adapter and h.name not in reached and h.path.suffix == ".hpp":
                yield h.shown, 1, f"not reached from <cadre/{adapter}.hpp>"
    if "cadre/cadre.hpp" not in tree.headers:
        yield "include/cadre/cadre.hpp", 1, "the umbrella is missing"
        return
    reached = tree.reached_from("cadre/cadre.hpp")
    for h in tree.headers.values():
        if (h.room in ADAPTERS) and h.name in reached:
            yield h.shown, 1, "an adapter is reached from the umbrella"
        elif h.room not in ADAPTERS and h.name not in reached | for_adapters:
            yield h.shown, 1, "not reached from the umbrella"
    for h in tree.headers.values():
        if h.room in ADAPTERS:
            for name in tree.reached_from(h.name):
                if tree.headers[name].room not in ADAPTERS and name not in reached | for_adapters:
                    yield h.shown, 1, f"needs {name}, which the umbrella does not reach"


def errors(tree):
    """Each number belongs to one class, lies in its room's range, has a row in docs/errors.md and a test of its text."""
    thrown = {}  # number -> {(room, class)}
    sources = [(h.shown, h.text, h.room) for h in tree.headers.values()]
    examples = tree.root / "examples"
    sources += [(p.relative_to(tree.root).as_posix(), p.read_text(), "examples") for p in sorted(examples.rglob("*.[ch]pp"))]
    for shown, text, room in sources:
        # A class that derives from error, the factories and throws in its body: numbers of 3 or 4 digits there are errors.
        for kind in re.finditer(r"^(?:class|struct)\s+(\w+)[^;{]*:\s*public\s+[\w:]*error[\w:]*\s*\{(.*?)^\};|"
                                r"^(?:class|struct)\s+(\w+)[^;{]*:\s*public\s+\w+\s*\{(.*?)^\};", text, re.M | re.S):
            name, body = kind[1] or kind[3], kind[2] or kind[4]
            if shown.endswith("core/error.hpp"):
                continue
            for number in re.finditer(r'(?:\(\s*|"\s*,\s*|\{\s*|\bnumber_?\s*=\s*)(\d{3,4})\s*[,;]', body):
                if any(low <= int(number[1]) <= high for low, high in ERROR_RANGES.get(room, [])) or '"' in body:
                    line = text[:kind.start()].count("\n") + 1
                    thrown.setdefault(int(number[1]), set()).add((shown, line, room, name))
    listed = {}
    page = tree.root / "docs" / "errors.md"
    for number, line in enumerate(page.read_text().splitlines() if page.exists() else [], 1):
        if row := re.match(r"\|\s*(\d+)\s*\|\s*([\w:]+)", line):
            if int(row[1]) in listed:
                yield "docs/errors.md", number, f"{row[1]} is listed twice"
            listed[int(row[1])] = (number, row[2].split("::"))
    tests = "".join(p.read_text() for kind in ("cpp", "hpp", "cu", "sh", "py") for p in (tree.root / "tests").rglob("*." + kind))
    for number, places in sorted(thrown.items()):
        shown, line, room, name = sorted(places)[0]
        if len({n for _, _, _, n in places}) > 1:
            yield shown, line, f"{number} is thrown by several classes: " + ", ".join(sorted(n for _, _, _, n in places))
        if not any(low <= number <= high for low, high in ERROR_RANGES.get(room, [])):
            yield shown, line, f"{number} lies outside the numbers of '{room}'"
        if number not in listed:
            yield shown, line, f"{number} ({name}) has no row in docs/errors.md"
        elif name not in listed[number][1]:
            yield "docs/errors.md", listed[number][0], f"{number} is thrown as {name}"
        if not re.search(rf"cadre\.[a-z]+\.{number}\b|number(\(\))? == {number}\b|(throws<[\w:]+>|refuse[sd])\([^\n]*?\b{number}\b", tests):
            yield shown, line, f"{number} ({name}): no test holds its text, '[cadre.{room}.{number}] ...'"
    for number in sorted(set(listed) - set(thrown)):
        yield "docs/errors.md", listed[number][0], f"{number} is listed, and nothing throws it"
    print(f"{len(thrown)} error numbers")


def docs(tree):
    """Each room has its page; that of core is about config and os too."""
    for room in tree.levels:
        if room not in ("config", "os") and not (tree.root / "docs" / f"{room}.md").exists():
            yield f"docs/{room}.md", 1, f"room '{room}' has no page"


CHECKS = {check.__name__: check for check in (levels, style, sizes, umbrella, errors, docs)}


def main():
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--root", type=pathlib.Path, default=pathlib.Path(__file__).resolve().parents[2])
    arguments.add_argument("checks", nargs="+", choices=CHECKS)
    asked = arguments.parse_args()
    tree = Tree(asked.root.resolve())
    breaches = [breach for check in asked.checks for breach in CHECKS[check](tree)]
    for file, line, message in breaches:
        print(f"{file}:{line}: {message}")
    sys.exit(1 if breaches else 0)


if __name__ == "__main__":
    main()
