"""store_processes.cpp's peer: PyTorch hands a tensor to another process by a queue of torch.multiprocessing.

usage: store_torch.py BYTES. Speaks as benchmarks/child.hpp asks; a round's figure is the microseconds from the put until
the other process has read the first element and answered. The tensors are made before the clock runs.
"""
import sys
import time

try:
    import torch
    import torch.multiprocessing as multiprocessing
except ImportError:
    sys.exit(3)  # who asked says it


def answer(tensors, answers):
    while True:
        answers.put(tensors.get()[0].item())


if __name__ == "__main__":
    bytes_each = int(sys.argv[1])
    times = 2 if bytes_each > 1 << 20 else 50
    context = multiprocessing.get_context("spawn")
    tensors, answers = context.Queue(), context.SimpleQueue()
    context.Process(target=answer, args=(tensors, answers), daemon=True).start()
    source = torch.ones(bytes_each, dtype=torch.uint8)
    tensors.put(source.clone())
    answers.get()
    print(f"torch.multiprocessing {torch.__version__}, queue", flush=True)
    for _ in sys.stdin:
        made = [source.clone() for _ in range(times)]
        start = time.perf_counter()
        for tensor in made:
            tensors.put(tensor)
            answers.get()
        print((time.perf_counter() - start) / times * 1e6, flush=True)
