"""What is read of the PyTorch profiler: operators and kernels, not what surrounds them."""

import torch
from torch.profiler import record_function

from hotlap.train.profiler import read_events, region_mark, watch


def test_what_surrounds_operators_is_not_among_them() -> None:
    weight = torch.ones(8, 8, requires_grad=True)
    optimizer = torch.optim.SGD([weight], lr=0.1)
    with watch(torch.device("cpu")) as profiler:
        with region_mark("forward"), record_function("mine"):
            loss = (weight @ weight).sum()
        with region_mark("backward"):
            loss.backward()
        optimizer.step()
    events, regions = read_events(profiler)
    names = {event.name for event in events}
    assert {"aten::mm", "aten::sum"} <= names
    assert not [name for name in names if name.startswith(("hotlap.", "Optimizer.", "autograd::")) or name == "mine"]
    assert "MmBackward0" not in names
    assert [region.part for region in regions] == ["forward", "backward"]
    assert all(event.self_micros <= event.end - event.start and not event.on_device for event in events)
    outermost = [event.name for event in events if event.is_outermost]
    assert "aten::matmul" in outermost, "somebody's range around it is no operator"
    assert "aten::mm" not in [event.name for event in events if event.is_outermost and event.end <= regions[0].end]


def test_memory_is_read_where_it_was_asked_for() -> None:
    found = {}
    for with_memory in (False, True):
        with watch(torch.device("cpu"), with_memory=with_memory) as profiler:
            kept = torch.empty(1024, dtype=torch.float32)
        found[with_memory] = max(event.num_bytes for event in read_events(profiler)[0])
    assert kept.nbytes == found[True] and found[False] == 0
