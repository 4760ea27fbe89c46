"""The step of train_step.cpp in PyTorch: one process, and two with DistributedDataParallel over Gloo, one thread each."""
import os, statistics, sys, time
import torch, torch.distributed as dist, torch.multiprocessing as mp
from torch import nn

BATCH, STEPS, ROUNDS = 128, 100, 15

def model():
    return nn.Sequential(nn.Linear(784, 256), nn.ReLU(), nn.Linear(256, 128), nn.ReLU(), nn.Linear(128, 10))

def rounds(net, world, barrier):
    optimizer = torch.optim.SGD(net.parameters(), lr=1e-4, momentum=0.9)
    x, y = torch.rand(BATCH, 784), torch.arange(BATCH) % 10
    rates = []
    for _ in range(ROUNDS + 1):
        barrier()
        start = time.perf_counter()
        for _ in range(STEPS):
            optimizer.zero_grad()
            nn.functional.cross_entropy(net(x), y).backward()
            optimizer.step()
        barrier()
        rates.append(world * STEPS * BATCH / (time.perf_counter() - start))
    return rates[1:]

def show(who, rates):
    q = statistics.quantiles(rates, n=4)
    print(f"| training step | {who} | {statistics.median(rates):.4g} | {q[0]:.4g} - {q[2]:.4g} | images/s | |", flush=True)

def worker(rank, world):
    torch.set_num_threads(1)
    os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT="29511")
    dist.init_process_group("gloo", rank=rank, world_size=world)
    rates = rounds(nn.parallel.DistributedDataParallel(model()), world, dist.barrier)
    if rank == 0:
        show(f"PyTorch {torch.__version__} DDP over Gloo, {world} workers", rates)

if __name__ == "__main__":
    torch.set_num_threads(1)
    show(f"PyTorch {torch.__version__}, 1 thread", rounds(model(), 1, lambda: None))
    mp.spawn(worker, args=(2,), nprocs=2)
