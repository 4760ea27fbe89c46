"""train_step.cpp's peer: the same step in PyTorch, by one process or by several with DistributedDataParallel over Gloo.

usage: train_step_torch.py WORKERS. Speaks as benchmarks/child.hpp asks; a round's figure is images per second in all.
"""
import os
import subprocess
import sys
import tempfile
import time

BATCH, STEPS = 128, 100

os.environ.update(OMP_NUM_THREADS="1", OPENBLAS_NUM_THREADS="1", GLOO_SOCKET_IFNAME="lo")
for slower in ("OPENBLAS_CORETYPE", "OPENBLAS_L2_SIZE"):  # a setting made for other hardware must not slow the peer
    os.environ.pop(slower, None)
import ctypes
import torch
import torch.distributed as dist
from torch import nn


def blas():
    """OpenBLAS's kernel; with reference BLAS PyTorch is no peer."""
    for line in open("/proc/self/maps"):
        if "openblas" in line:
            library = ctypes.CDLL(line.split()[-1])
            library.openblas_get_corename.restype = ctypes.c_char_p
            return "OpenBLAS " + library.openblas_get_corename().decode()
    sys.exit("PyTorch does not use OpenBLAS here: install libopenblas0-pthread")


def run(rank, workers, rendezvous):
    torch.set_num_threads(1)
    net = nn.Sequential(nn.Linear(784, 256), nn.ReLU(), nn.Linear(256, 128), nn.ReLU(), nn.Linear(128, 10))
    name = f"PyTorch {torch.__version__} ({blas()})"
    if workers > 1:
        dist.init_process_group("gloo", init_method=f"file://{rendezvous}", rank=rank, world_size=workers)
        net = nn.parallel.DistributedDataParallel(net)
        name += f", DDP over Gloo, {workers} workers"
    optimizer = torch.optim.SGD(net.parameters(), lr=1e-4, momentum=0.9)
    x, y = torch.rand(BATCH, 784), torch.arange(BATCH) % 10

    def asked_for_a_round():
        """Rank 0 hears it, the others from rank 0; they wait in broadcast without using their processor."""
        asked = torch.tensor([1 if rank == 0 and sys.stdin.readline() else 0])
        if workers > 1:
            dist.broadcast(asked, 0)
        return bool(asked)

    if rank == 0:
        print(name, flush=True)
    while asked_for_a_round():
        if workers > 1:
            dist.barrier()
        start = time.perf_counter()
        for _ in range(STEPS):
            optimizer.zero_grad()
            nn.functional.cross_entropy(net(x), y).backward()
            optimizer.step()
        if workers > 1:
            dist.barrier()
        if rank == 0:
            print(workers * STEPS * BATCH / (time.perf_counter() - start), flush=True)


if __name__ == "__main__":
    workers = int(sys.argv[1])
    if len(sys.argv) > 2:  # rank and rendezvous, as given below
        run(int(sys.argv[2]), workers, sys.argv[3])
    else:
        with tempfile.TemporaryDirectory() as folder:
            rendezvous = os.path.join(folder, "rendezvous")
            peers = [subprocess.Popen([sys.executable, __file__, str(workers), str(rank), rendezvous],
                                      stdin=subprocess.DEVNULL) for rank in range(1, workers)]
            run(0, workers, rendezvous)
            for peer in peers:
                peer.wait()
