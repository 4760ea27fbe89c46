"""What each face header costs to parse (g++ -fsyntax-only), and the umbrella beside the headers of others that it includes."""
import pathlib, re, statistics, subprocess, sys, tempfile, time

ROOT = pathlib.Path(__file__).resolve().parent.parent
FLAGS = ["-std=c++20", "-fsyntax-only", "-I", str(ROOT / "include"), "-isystem", "/usr/include/eigen3"]
FACES = ["async.hpp", "comm.hpp", "core.hpp", "data.hpp", "observe.hpp", "persist.hpp", "report.hpp", "train.hpp", "tune.hpp", "cadre.hpp"]
ROUNDS = 7

def parse(text):
    with tempfile.NamedTemporaryFile("w", suffix=".cpp") as f:
        f.write(text + "\nint main() {}\n"); f.flush()
        start = time.perf_counter()
        subprocess.run(["g++", *FLAGS, f.name], check=True)
        return time.perf_counter() - start

def others():
    """Every header outside include/cadre that a header inside includes by itself."""
    with tempfile.NamedTemporaryFile("w", suffix=".cpp") as f:
        f.write("#include <cadre/cadre.hpp>\n"); f.flush()
        used = subprocess.run(["g++", *FLAGS, "-M", f.name], check=True, capture_output=True, text=True).stdout
    names = set()
    for header in re.findall(r"\S*/include/cadre/\S+\.hpp", used):
        names |= set(re.findall(r"^\s*#\s*include\s*<((?!cadre/)[^>]+)>", pathlib.Path(header).read_text(), re.M))
    return "".join(f"#include <{n}>\n" for n in sorted(names))

units = {f"cadre/{face}": f"#include <cadre/{face}>" for face in FACES}
units["what cadre/cadre.hpp includes from others"] = others()
units["<functional> <atomic> <vector>"] = "#include <functional>\n#include <atomic>\n#include <vector>"
times = {name: [] for name in units}
for _ in range(ROUNDS):
    for name, text in units.items():
        times[name].append(parse(text))
base = statistics.median(times["what cadre/cadre.hpp includes from others"])
print("| benchmark | who | median | quartiles | unit | ours / theirs |\n|---|---|---|---|---|---|")
for name, t in times.items():
    q = statistics.quantiles(t, n=4)
    ratio = f"{statistics.median(t) / base:.3f}" if name == "cadre/cadre.hpp" else ""
    print(f"| parse | {name} | {statistics.median(t):.3f} | {q[0]:.3f} - {q[2]:.3f} | s | {ratio} |")
