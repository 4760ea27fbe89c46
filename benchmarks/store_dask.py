"""store_processes.cpp's peer: Dask scatters an array to a worker process of this machine.

usage: store_dask.py BYTES. Speaks as benchmarks/child.hpp asks; a round's figure is the microseconds from the scatter
until the worker has read the first element and its answer is here.
"""
import logging
import sys
import time

try:
    import distributed
    import numpy
except ImportError:
    sys.exit(3)  # who asked says it


def first(array):
    return int(array[0])


if __name__ == "__main__":
    logging.disable(logging.CRITICAL)
    bytes_each = int(sys.argv[1])
    times = 2 if bytes_each > 1 << 20 else 10
    array = numpy.ones(bytes_each, numpy.uint8)
    with distributed.LocalCluster(n_workers=1, threads_per_worker=1, dashboard_address=None) as cluster, \
            distributed.Client(cluster) as client:
        def hand_over():
            there = client.scatter(array, hash=False)
            client.submit(first, there, pure=False).result()

        hand_over()
        print(f"Dask {distributed.__version__}, scatter and submit", flush=True)
        for _ in sys.stdin:
            start = time.perf_counter()
            for _ in range(times):
                hand_over()
            print((time.perf_counter() - start) / times * 1e6, flush=True)
