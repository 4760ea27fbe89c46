"""actor.cpp's peer: the rows of Ray's own microbenchmark (ray._private.ray_perf), by the same names.

Speaks as benchmarks/child.hpp asks; a line of input is the name of a row, its answer that row's figure.
"""
import logging
import os
import sys
import time

os.environ.update(RAY_USAGE_STATS_ENABLED="0", RAY_DEDUP_LOGS="0", RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO="0")
for name in [n for n in os.environ if n.startswith(("OMPI_", "PMIX_"))]:
    del os.environ[name]  # Ray's processes are no ranks
answers = os.fdopen(os.dup(1), "w")
os.dup2(2, 1)  # what else is printed
import numpy
import ray


@ray.remote
def small():
    return b"ok"


@ray.remote(num_cpus=0)
class Actor:
    def small(self):
        return b"ok"


@ray.remote(num_cpus=0)
class Client:
    def __init__(self, servers):
        self.servers = servers

    def calls(self, n):
        ray.get([self.servers[i % len(self.servers)].small.remote() for i in range(n)])


def one_by_one(f, n):
    start = time.perf_counter()
    for _ in range(n):
        f()
    return n / (time.perf_counter() - start)


def together(n, f):
    start = time.perf_counter()
    f()
    return n / (time.perf_counter() - start)


def wait_for_each(n):
    waiting = [small.remote() for _ in range(n)]
    while waiting:
        _, waiting = ray.wait(waiting)


if __name__ == "__main__":
    ray.init(num_cpus=os.cpu_count(), include_dashboard=False, object_store_memory=2 << 30, log_to_driver=False,
             logging_level=logging.ERROR)
    actors = [Actor.remote() for _ in range(max(2, os.cpu_count() // 2))]
    clients = [Client.remote(actors) for _ in actors]
    ray.get([c.calls.remote(10) for c in clients])
    value, array = ray.put(0), numpy.zeros(100 << 17, numpy.int64)
    rows = {
        "1:1 actor calls sync": lambda: one_by_one(lambda: ray.get(actors[0].small.remote()), 300),
        "1:1 actor calls async": lambda: together(1000, lambda: ray.get([actors[0].small.remote()
                                                                         for _ in range(1000)])),
        "1:n actor calls async": lambda: together(2000, lambda: ray.get(clients[0].calls.remote(2000))),
        "n:n actor calls async": lambda: together(1000 * len(clients),
                                                  lambda: ray.get([c.calls.remote(1000) for c in clients])),
        "single client tasks sync": lambda: one_by_one(lambda: ray.get(small.remote()), 200),
        "single client tasks async": lambda: together(1000, lambda: ray.get([small.remote() for _ in range(1000)])),
        "single client get calls": lambda: one_by_one(lambda: ray.get(value), 1000),
        "single client put calls": lambda: one_by_one(lambda: ray.put(0), 1000),
        "single client put gigabytes": lambda: one_by_one(lambda: ray.put(array), 4) * array.nbytes * 1e-9,
        "single client wait 1k refs": lambda: one_by_one(lambda: wait_for_each(1000), 1),
    }
    print(f"Ray {ray.__version__} here", file=answers, flush=True)
    for line in sys.stdin:
        print(rows[line.strip()](), file=answers, flush=True)
